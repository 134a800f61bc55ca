"""The table that ends the demo: the score of each task out of fold, on eval, and of guessing.

Reads two evaluation.json files; knows nothing of models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table


def demo_table(oof: Path, answers: Path) -> Table:
    """Compare scores with the best constant answer.

    Args:
        oof: evaluation.json of out-of-fold predictions.
        answers: evaluation.json of the predictions for eval.
    """
    table = Table("task", "out of fold", "eval", "majority class on eval", title="macro F1")
    seen = _headlines(oof)
    for task, report in _headlines(answers).items():
        scored = [seen[task]["macro_f1"]] if task in seen else []
        cells = [f"{value:.3f}" for value in (*scored, report["macro_f1"])]
        majority = f"{report['majority_macro_f1']:.3f}"
        table.add_row(task, *([] if scored else ["-"]), *cells, majority)
    return table


def _headlines(path: Path) -> dict[str, dict[str, Any]]:
    """Return the last report of each task, which is the mean of several runs if there is one."""
    return {report["task"]: report for report in json.loads(path.read_text())["reports"]}

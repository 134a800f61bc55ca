"""The audit's results as JSON, as a table on disk and on the console.

Knows scores; computes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cropfirst.cache.tables import write_table
from cropfirst.core.bootstrap import Interval
from cropfirst.stage2_classify.audit.answers import FORMAT
from cropfirst.stage2_classify.audit.pictures import Picture
from cropfirst.stage2_classify.audit.probe import Probe
from cropfirst.stage2_classify.audit.runs import AuditRun
from cropfirst.stage2_classify.audit.scores import TaskAudit
from cropfirst.stage2_classify.audit.variants import LABELS, VARIANTS
from cropfirst.stage2_classify.metrics.scores import MajorityScore, macro_f1, majority_score
from cropfirst.stage2_classify.progress import say
from cropfirst.stage2_classify.runs.json_files import write_json

_COLUMN_WIDTH = 29
_ROWS = (
    "BG-Gap, points", "verdict", "crops", "macro F1", "majority, macro F1", *LABELS.values(),
    "majority", "Grad-CAM in face (even)",
)  # fmt: skip


@dataclass(frozen=True)
class Audit:
    """Everything that an audit found."""

    path: Path
    """The file audit.json."""
    runs: tuple[tuple[AuditRun, TaskAudit], ...]
    """Every run with the result of each of its tasks."""
    probes: tuple[Probe, ...]
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]


def write_audit(audit: Audit, *, seconds: float) -> None:
    """Write audit.json, and audit.parquet beside it.

    Args:
        audit: what was found.
        seconds: time per run and task.
    """
    rows = [
        {
            "run": run.name,
            "task": found.task,
            "background": run.background,
            "backbone": run.backbone,
            "variant": name,
            "accuracy": score.accuracy,
            "macro_f1": score.macro_f1,
            "majority_accuracy": score.majority.accuracy,
            "majority_macro_f1": score.majority.macro_f1,
            "n_photos": score.n_photos,
        }
        for run, found in audit.runs
        for name, score in found.variants.items()
    ]
    table = audit.path.with_suffix(".parquet")
    write_table(table, pl.DataFrame(rows), kind="audit", version=FORMAT)
    data = {
        "format": FORMAT,
        "kind": "audit",
        "runs": [_run_json(run, found, seconds) for run, found in audit.runs],
        "probe": [
            {
                "task": each.task,
                "macro_f1": each.macro_f1,
                "majority_macro_f1": each.majority_macro_f1,
                "low": each.low,
                "high": each.high,
            }
            for each in audit.probes
        ],
        "pictures": [asdict(picture) for picture in audit.pictures],
        "notes": list(audit.notes),
    }
    write_json(audit.path, data)


def print_audit(audit: Audit, console: Console) -> None:
    """Print a table per task, one column per run."""
    for task in dict.fromkeys(found.task for _, found in audit.runs):
        shown = [(run, found) for run, found in audit.runs if found.task == task]
        title = f"{task}: accuracy in %, out of fold"
        _print_columns(console, title, ("run", *_ROWS), [_column(*each) for each in shown])
        for run, found in shown:
            if found.verdict.reason:
                text = f"  {run.name}: {found.verdict.finding}, since {found.verdict.reason}"
                say(console, text, style="yellow")
        for each in audit.probes:
            if each.task == task:
                say(
                    console,
                    f"  the background alone tells {task} with macro F1 {each.macro_f1:.3f} "
                    f"[{each.low:.3f}, {each.high:.3f}]; always answering the most frequent class "
                    f"has {each.majority_macro_f1:.3f}",
                )
    say(
        console,
        "BG-Gap is Mixed-Same minus Mixed-Rand, with its 95 % interval: how much accuracy a wrong "
        "background costs. If the whole interval is above 0, the run uses the background. Of a run "
        "that is no better than chance, or whose interval is wide, nothing can be told. Majority: "
        "the score of always predicting the most frequent class. Grad-CAM in face: the share of "
        "its map's mass in the face box (in brackets: of an even map).",
        style="dim",
    )
    for note in audit.notes:
        say(console, note, style="dim")
    count = len(audit.pictures)
    say(console, f"written: {audit.path}, audit.parquet and {count} pictures beside it")


def _run_json(run: AuditRun, found: TaskAudit, seconds: float) -> dict[str, Any]:
    return {
        "name": run.name,
        "path": str(run.path),
        "task": found.task,
        "background": run.background,
        "crops": run.crops.name,
        "backbone": run.backbone,
        "n_people": found.n_people,
        "n_photos": found.n_photos,
        "verdict": found.verdict.finding,
        "verdict_cause": found.verdict.cause,
        "verdict_reason": found.verdict.reason,
        "chance": found.chance.to_dict(),
        "chance_mixed_same": found.chance_mixed.to_dict() if found.chance_mixed else None,
        "variants": {
            name: {
                "accuracy": score.accuracy,
                "macro_f1": score.macro_f1,
                "majority_accuracy": score.majority.accuracy,
                "majority_macro_f1": score.majority.macro_f1,
            }
            for name, score in found.variants.items()
        },
        **_interval_json("bg_gap", found.gap),
        **_interval_json("bg_gap_detected", found.gap_detected),
        **_interval_json("cam_inside", found.cam),
        "cam_area": found.cam_area,
        "out_of_fold_macro_f1": _oof_f1(run, found.task),
        "out_of_fold_majority_macro_f1": _oof_majority(run, found.task).macro_f1,
        "out_of_fold_majority_accuracy": _oof_majority(run, found.task).accuracy,
        "seconds": round(seconds, 3),
    }


def _interval_json(name: str, found: Interval | None) -> dict[str, float | None]:
    if found is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _oof_f1(run: AuditRun, task: str) -> float:
    """Return macro F1 of all out-of-fold photos of a run, not only of those audited."""
    preds = run.oof.probs[task].argmax(1)
    return macro_f1(run.oof.targets[task], preds, run.schema.num_classes(task))


def _oof_majority(run: AuditRun, task: str) -> MajorityScore:
    """Return the scores of always predicting the most frequent class of these photos."""
    return majority_score(np.bincount(run.oof.targets[task]))


def _column(run: AuditRun, found: TaskAudit) -> tuple[str, ...]:
    """Return the column of a run: its name, then the values of `_ROWS`."""
    return (
        run.name,
        _points(found.gap),
        str(found.verdict),
        run.background,
        f"{_oof_f1(run, found.task):.3f}",
        f"{_oof_majority(run, found.task).macro_f1:.3f}",
        *(f"{100 * found.variants[name].accuracy:.1f}" for name in VARIANTS),
        f"{100 * found.variants['original'].majority.accuracy:.1f}",
        _share(found),
    )


def _print_columns(
    console: Console, title: str, names: Sequence[str], columns: Sequence[Sequence[str]]
) -> None:
    """Print one column per run, as many side by side as the console has room for."""
    fit = max(1, (console.width - max(map(len, names)) - 4) // _COLUMN_WIDTH)
    for first in range(0, len(columns), fit):
        shown = columns[first : first + fit]
        table = Table(title=title, title_justify="left")
        table.add_column(names[0])
        for run, *_ in shown:
            table.add_column(Text(run, overflow="fold"), justify="right")
        for name, *values in zip(names[1:], *(each[1:] for each in shown), strict=True):
            table.add_row(name, *map(Text, values))
        console.print(table)


def _points(gap: Interval | None) -> str:
    if gap is None:
        return "-"
    return f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"


def _share(found: TaskAudit) -> str:
    return "-" if found.cam is None else f"{_two(found.cam)} ({found.cam_area:.2f})"


def _two(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"

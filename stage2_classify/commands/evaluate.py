"""`evaluate`: how good predictions are. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cropfirst.configs.options import path_option
from cropfirst.stage2_classify.commands.workspace import (
    corrections_option,
    data_options,
    open_workspace,
    runs_option,
    schema_option,
)


@click.command()
@data_options(corrections_option, runs_option, schema_option)
@path_option("--answers", metavar="FILE", help="CSV of the eval photos' true codes (ImageID,ans).")
@path_option(
    "--predictions", metavar="FILE",
    help="Predictions to score.  [default: WORK/predict/predictions.parquet]",
)  # fmt: skip
@path_option("--out", help="Folder of the report.  [default: WORK/evaluate]")
@click.option("--details", is_flag=True, help="Print all tables, not only the scores of the tasks.")
def evaluate(
    runs: Sequence[Path], answers: Path | None, predictions: Path | None, out: Path | None,
    schema: str | None, details: bool, **data: Any,
) -> None:  # fmt: skip
    """Score predictions, and show where they are wrong.

    Scores out-of-fold predictions; with --answers, the predictions for the eval photos; with
    --predictions alone, these against DATA's own labels. Writes macro F1, accuracy, a table per
    class and confusion matrices. Out of fold and with --answers also intervals, slices (the worst
    first), calibration and a gallery of the most confident mistakes.
    """
    from cropfirst.stage2_classify.evaluate import evaluate as score
    from cropfirst.stage2_classify.voting.prediction_files import predicted_tasks

    workspace = open_workspace(**data)
    photos, console = workspace.photos, workspace.console
    folder = out or workspace.folder / "evaluate"
    predicted = predictions or workspace.folder / "predict" / "predictions.parquet"
    if answers is None and predictions is not None:
        tasks = predicted_tasks(predicted)
        labels = workspace.read_schema(schema, tasks, required=False)
        score.evaluate_labels(
            photos, predicted, schema=labels, out_dir=folder, console=console, details=details
        )
        return
    cache = workspace.open_cache_if_any()
    if answers is None:
        score.evaluate_oof(
            workspace.find_runs(runs), out_dir=folder, photos=photos, cache=cache, console=console,
            details=details,
        )  # fmt: skip
    else:
        score.evaluate_answers(
            answers, predicted, schema=workspace.read_schema(schema), out_dir=folder,
            photos=photos, cache=cache, console=console, details=details,
        )  # fmt: skip

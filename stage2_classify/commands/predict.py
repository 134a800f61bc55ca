"""`predict`: a data set from its crops, or single photos from the file to the answer. No torch."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cropfirst.configs.options import path_option
from cropfirst.core.console import say
from cropfirst.stage2_classify.commands.detect_settings import detect_defaults
from cropfirst.stage2_classify.commands.workspace import (
    batch_size_option,
    cache_option,
    device_option,
    layout_option,
    open_workspace,
    runs_option,
    work_option,
)

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.argument(
    "data", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA | PHOTO..."
)
@layout_option
@work_option
@cache_option
@runs_option
@path_option("--out", help="Folder of the predictions.  [default: WORK/predict]")
@click.option(
    "--checkpoint",
    type=click.Choice(["best_f1", "best_accuracy", "best_loss", "last", "soup"]),
    help="Checkpoint of each fold that votes.  [default: the ensemble's, or best_f1]",
)
@path_option(
    "--ensemble", metavar="FILE",
    help="File that says how the checkpoints vote; none = all with equal weights.  "
    "[default: WORK/ensemble/ensemble.json]",
)  # fmt: skip
@click.option(
    "--submission/--no-submission", "with_submission", default=True,
    help="For DATA: write submission.csv, which needs a run for each of its tasks.  [default: yes]",
)  # fmt: skip
@click.option(
    "--all-faces", is_flag=True,
    help="For PHOTOs: predict every face, in a row of its own with its number and box.",
)  # fmt: skip
@click.option(
    "--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="RATE",
    help="Also say which classes stay possible if the true one may be missing in this share of "
    "people; needs the calibrate command.",
)  # fmt: skip
@device_option
@batch_size_option
def predict(
    data: Sequence[Path], layout: str | None, work: Path | None, cache_dir: Path | None,
    runs: Sequence[Path], out: Path | None, checkpoint: str | None, ensemble: Path | None,
    with_submission: bool, all_faces: bool, alpha: float | None, device: str, batch_size: int,
) -> None:  # fmt: skip
    """Predict a data set from its crops, or single photos.

    Every fold of every run votes, except baselines: runs on crops with background (photo, center,
    box, mean_box) vote only if the run itself is named with --runs. For DATA, writes submission.csv
    (exactly the rows and order of info.csv, where there is one) and predictions.parquet. For
    PHOTOs, detects, crops, predicts and prints a table; --runs is needed. A photo gets one
    prediction, for its main face, unless --all-faces is given. If the ensemble command has written
    an ensemble.json for exactly these runs, its weights are used, and a line says so. A warning is
    printed if the proportions of the classes differ from those in training.
    """
    from rich.console import Console

    from cropfirst.stage2_classify.predict.predict import predict as run_predict

    equal = ensemble is not None and str(ensemble) == "none"
    votes: dict[str, Any] = {"checkpoint": checkpoint, "ensemble": None if equal else ensemble}
    if not _is_dataset(data):
        _predict_photos(
            data, runs, out, all_faces=all_faces, console=Console(),
            options={**votes, "alpha": alpha, "device": device, "batch_size": batch_size},
            equal=equal,
        )  # fmt: skip
        return
    if all_faces:
        raise click.UsageError(
            "--all-faces is for single photos (cropfirst predict PHOTO... --runs DIR): the "
            "predictions of a data set and a submission have one row per photo"
        )
    workspace = open_workspace(data[0], layout=layout, work=work, cache_dir=cache_dir)
    folder = workspace.folder
    run_predict(
        workspace.photos, workspace.open_cache(), workspace.find_runs(runs),
        out_dir=out or folder / "predict", device=device, batch_size=batch_size, **votes,
        default_ensemble=None if equal else folder / "ensemble" / "ensemble.json",
        detect_defaults=detect_defaults(), with_submission=with_submission, alpha=alpha,
        console=workspace.console,
    )  # fmt: skip


def _is_dataset(data: Sequence[Path]) -> bool:
    return len(data) == 1 and (data[0].is_dir() or data[0].suffix.lower() == ".csv")


def _predict_photos(
    files: Sequence[Path], runs: Sequence[Path], out: Path | None, *,
    all_faces: bool, equal: bool, options: dict[str, Any], console: Console,
) -> None:  # fmt: skip
    """Predict single photos, and print a table."""
    missing = [file for file in files if not file.exists()]
    if missing:
        raise click.ClickException(
            f"{missing[0]} does not exist: wanted a data set's folder (or .csv table), or photos"
        )
    if not runs:
        raise click.UsageError("predicting single photos needs --runs DIR (a trained run)")
    from cropfirst.stage2_classify.commands.predict_photos import predict_photos
    from cropfirst.stage2_classify.predict.ensemble_file import ensemble_beside
    from cropfirst.stage2_classify.voting.prediction_table import print_predictions

    options["default_ensemble"] = None if equal else ensemble_beside(runs)
    with tempfile.TemporaryDirectory(prefix="cropfirst-") as folder:
        target = out or Path(folder)
        found = predict_photos(files, runs, out=target, all_faces=all_faces, **options)
        print_predictions(found.predictions.path, console)
    say(console, f"weights: {found.weights}")
    for note in found.predictions.notes:
        say(console, note, style="yellow")
    for key, count in found.predictions.several_faces.items() if not all_faces else ():
        say(
            console,
            f"  {key}: {count} faces were found, and the prediction is for the main one alone; "
            "--all-faces predicts each of them",
            style="yellow",
        )
    for key, text in found.errors.items():
        say(console, f"  {key}: {text}")
    if out is not None:
        say(console, f"predictions: {found.predictions.path}")
    if len(found.errors) == found.predictions.n_photos:
        raise click.ClickException("no photo could be read: nothing was predicted")

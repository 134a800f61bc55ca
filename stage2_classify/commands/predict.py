"""`predict`: a data set from its crops, or single photos from the file to the answer. No torch."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cropfirst.configs.options import path_option
from cropfirst.core.console import say
from cropfirst.stage2_classify.commands.detect_settings import default_crops
from cropfirst.stage2_classify.commands.workspace import (
    batch_size_option,
    cache_option,
    device_option,
    layout_option,
    open_workspace,
    photo_refs,
    runs_option,
    work_option,
)

if TYPE_CHECKING:
    from rich.console import Console

    from cropfirst.cache import Cache
    from cropfirst.stage2_classify.datasets import PhotoSet


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
@device_option
@batch_size_option
def predict(
    data: Sequence[Path], layout: str | None, work: Path | None, cache_dir: Path | None,
    runs: Sequence[Path], out: Path | None, checkpoint: str | None, ensemble: Path | None,
    device: str, batch_size: int,
) -> None:  # fmt: skip
    """Predict a data set from its crops, or single photos.

    Every fold of every run votes. For DATA, writes submission.csv (exactly the rows and order of
    info.csv, where there is one) and predictions.parquet. For PHOTOs, detects, crops, predicts and
    prints a table; --runs is needed. If the ensemble command has
    written an ensemble.json for exactly these runs, its weights are used, and a line says so. A
    warning is printed if the proportions of the classes differ from those in training.
    """
    from rich.console import Console

    from cropfirst.stage2_classify.predict.predict import predict as run_predict

    equal = ensemble is not None and str(ensemble) == "none"
    votes: dict[str, Any] = {"checkpoint": checkpoint, "ensemble": None if equal else ensemble}
    if not _is_dataset(data):
        _predict_photos(data, runs, out, device=device, votes=votes, console=Console())
        return
    workspace = open_workspace(data[0], layout=layout, work=work, cache_dir=cache_dir)
    folder = workspace.folder
    run_predict(
        workspace.photos, workspace.open_cache(), workspace.find_runs(runs),
        out_dir=out or folder / "predict", device=device, batch_size=batch_size, **votes,
        default_ensemble=None if equal else folder / "ensemble" / "ensemble.json",
        detect_defaults=default_crops(), console=workspace.console,
    )  # fmt: skip


def _is_dataset(data: Sequence[Path]) -> bool:
    return len(data) == 1 and (data[0].is_dir() or data[0].suffix.lower() == ".csv")


def _predict_photos(
    files: Sequence[Path], runs: Sequence[Path], out: Path | None, *,
    device: str, votes: dict[str, Any], console: Console,
) -> None:  # fmt: skip
    """Detect, crop and predict single photos, with a cache that is removed afterwards."""
    missing = [file for file in files if not file.exists()]
    if missing:
        raise click.ClickException(
            f"{missing[0]} does not exist: wanted a data set's folder (or .csv table), or photos"
        )
    if not runs:
        raise click.UsageError("predicting single photos needs --runs DIR (a trained run)")
    from cropfirst.cache import Cache
    from cropfirst.core.device import resolve_device
    from cropfirst.stage2_classify.datasets import open_files
    from cropfirst.stage2_classify.predict.predict import predict as run_predict
    from cropfirst.stage2_classify.voting.prediction_table import print_predictions

    where = str(resolve_device(device))
    photos = open_files(files)
    with tempfile.TemporaryDirectory(prefix="cropfirst-") as folder:
        cache = Cache.open(Path(folder) / "cache", data_root=photos.root, create=True)
        errors = detect_for_runs(photos, cache, runs, device=where, **votes)
        target = out or Path(folder) / "predict"
        predictions = run_predict(photos, cache, runs, out_dir=target, device=where, **votes)
        print_predictions(predictions.path, console)
    for key, count in predictions.several_faces.items():
        say(
            console,
            f"  {key}: {count} faces were found, and the prediction is for the main one alone; "
            "for the others, cut each out as a photo of its own",
            style="yellow",
        )
    for key, text in errors.items():
        say(console, f"  {key}: {text}")
    if out is not None:
        say(console, f"predictions: {target / 'predictions.parquet'}")
    if len(errors) == len(photos):
        raise click.ClickException("no photo could be read: nothing was predicted")


def detect_for_runs(
    photos: PhotoSet,
    cache: Cache,
    runs: Sequence[Path],
    *,
    checkpoint: str | None = None,
    ensemble: Path | None = None,
    device: str = "auto",
) -> dict[str, str]:
    """Write every kind of crop that the checkpoints of some runs were trained on.

    Returns:
        Key of each unreadable photo -> the reason.
    """
    from cropfirst.core.device import resolve_device
    from cropfirst.stage1_detect.crop_sets import config_of_crops
    from cropfirst.stage1_detect.run import detect as run_detect
    from cropfirst.stage2_classify.predict.ensemble_file import choose_ensemble

    where = str(resolve_device(device))
    voting = choose_ensemble(runs, checkpoint=checkpoint, ensemble=ensemble)
    crop_sets = {meta["crop_set"]["fingerprint"]: meta["crop_set"] for meta in voting.found.metas}
    errors: dict[str, str] = {}
    for crop_set in crop_sets.values():
        config = config_of_crops(crop_set["config"])
        done = run_detect(photo_refs(photos), cache, config, device=where)
        errors |= {key: f"{kind}: {text}" for key, kind, text in done.errors}
    return errors

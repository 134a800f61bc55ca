"""The Python interface: `detect`, `train` and `predict` with plain arguments.

Each function does what the command of the same name does, and returns the result as an object.
Nothing is printed unless `verbose` is set. The settings are those of `--set`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cropfirst.configs import load_config
from cropfirst.core.device import resolve_device
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.detect_photos import detect_photos
from cropfirst.stage2_classify.commands.detect_settings import detect_defaults
from cropfirst.stage2_classify.commands.predict_photos import predict_photos
from cropfirst.stage2_classify.commands.strata import class_strata
from cropfirst.stage2_classify.commands.workspace import (
    Workspace,
    open_workspace,
    photo_refs,
)
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.predict.ensemble_file import ensemble_beside
from cropfirst.stage2_classify.predict.predict import Predictions
from cropfirst.stage2_classify.predict.predict import predict as run_predict
from cropfirst.stage2_classify.train.prepare import possible_runs
from cropfirst.stage2_classify.train.train import train as run_train

if TYPE_CHECKING:
    from cropfirst.stage1_detect.pipeline.summary import DetectSummary
    from cropfirst.stage2_classify.runs.results import RunSummary

Paths = str | Path | Sequence[str | Path]


def detect(
    data: str | Path,
    *,
    background: str | None = None,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    layout: str | None = None,
    corrections: str | Path | None = None,
    work: str | Path | None = None,
    cache: str | Path | None = None,
    swap_rooms: bool = False,
    verbose: bool = False,
) -> DetectSummary:
    """Find the face in every photo of a data set and write the crops to the cache.

    Args:
        data: the data set's folder, or its .csv table.
        background: what a crop shows, such as ellipse or box; docs/detect.md lists all.
        config: a YAML recipe, or the name of one that ships with cropfirst.
        settings: setting -> value with dotted names, such as {"detector.min_face_size": 20}.
        device: auto, cpu, cuda or cuda:N.
        layout: the data set's layout; None recognises it.
        corrections: a CSV of label corrections, or `contest`.
        work: the folder of all results; None is `work/` and the name of `data`.
        cache: the crop cache; None is `cache/` in the folder of all results.
        swap_rooms: also set the heads of the train photos into the rooms of other people.
        verbose: print progress.

    Returns:
        How many photos have each status, what could not be read, and the crop set.

    Raises:
        ConfigError: an unknown setting or a value of the wrong kind.
        CropfirstError: data, cache or device cannot be used as asked; see core/errors.py.
    """
    values = {"crop.background": background, "device": device, **(settings or {})}
    resolved = load_config(DetectConfig, recipe=_text(config), section="detect", values=values)
    where = resolve_device(resolved.device)
    workspace = _open(data, layout, corrections, work=work, cache=cache, verbose=verbose)
    store = workspace.open_cache(create=True)
    return detect_photos(
        photo_refs(workspace.photos), store, resolved, where, out=workspace.folder / "detect",
        console=workspace.console, strata=lambda: class_strata(workspace.photos),
        swap_rooms=swap_rooms,
    )  # fmt: skip


def train(
    data: str | Path,
    *,
    task: str | None = None,
    backbone: str | None = None,
    crops: str | None = None,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    schema: str | Path | None = None,
    layout: str | None = None,
    corrections: str | Path | None = None,
    work: str | Path | None = None,
    cache: str | Path | None = None,
    verbose: bool = False,
) -> RunSummary:
    """Train one model per fold on the crops that `detect` wrote, and predict out of fold.

    A run that was interrupted continues when the same call is made again.

    Args:
        data: the data set's folder, or its .csv table.
        task: a task, several with commas, or the combined code. The recipe may name it instead.
        backbone: any timm model.
        crops: the crop set's name or the beginning of it; None is that of the run so far, else the
            one nearest to the settings of `detect`.
        config: a YAML recipe, or the name of one that ships with cropfirst.
        settings: setting -> value with dotted names, such as {"optim.epochs": 5}.
        device: auto, cpu, cuda or cuda:N.
        schema: a YAML label schema; None fits one to the data.
        layout: the data set's layout; None recognises it.
        corrections: a CSV of label corrections, or `contest`.
        work: the folder of all results; None is `work/` and the name of `data`.
        cache: the crop cache; None is `cache/` in the folder of all results.
        verbose: print progress.

    Returns:
        The run's folder and its scores.

    Raises:
        ConfigError: an unknown setting or a value of the wrong kind.
        CropfirstError: data, cache or device cannot be used as asked; see core/errors.py.
    """
    values = {"task": task, "model.backbone": backbone, "device": device, **(settings or {})}
    resolved = load_config(TrainConfig, recipe=_text(config), section="train", values=values)
    workspace = _open(data, layout, corrections, work=work, cache=cache, verbose=verbose)
    runs_dir = workspace.folder / "runs"
    return run_train(
        workspace.photos,
        workspace.read_schema(_text(schema), resolved.task_names),
        workspace.find_crops(
            crops, runs=possible_runs(resolved, runs_dir), recipes=[_text(config)]
        ),
        resolved,
        runs_dir=runs_dir,
        console=workspace.console,
    )


def predict(
    data: Paths,
    *,
    runs: Paths | None = None,
    checkpoint: str | None = None,
    ensemble: str | Path | None = None,
    alpha: float | None = None,
    device: str = "auto",
    batch_size: int = 64,
    all_faces: bool = False,
    layout: str | None = None,
    work: str | Path | None = None,
    cache: str | Path | None = None,
    out: str | Path | None = None,
    verbose: bool = False,
) -> Predictions:
    """Predict a data set from its crops, or single photos end to end.

    Args:
        data: the data set's folder or .csv table, which `detect` has seen; or a list of photos.
        runs: runs, or folders of runs; all their folds vote, except baselines in a folder of runs
            (docs/predict.md). None is the data set's own; a list of photos needs them.
        checkpoint: which checkpoint of each fold votes: best_f1, best_accuracy, best_loss, last or
            soup; None is the ensemble's, or best_f1.
        ensemble: an ensemble.json that says how to vote, or `none`. None is the one that the
            ensemble command wrote, where it is for these runs.
        alpha: error rate of the sets of possible classes, after `calibrate`; None = no sets.
        device: auto, cpu, cuda or cuda:N.
        batch_size: number of crops at once.
        all_faces: for a list of photos: predict every face, in a row of its own with its number and
            box, and write no submission.csv.
        layout: the data set's layout; None recognises it.
        work: the folder of all results; None is `work/` and the name of `data`.
        cache: the crop cache; None is `cache/` in the folder of all results. A list of photos
            needs none.
        out: where predictions.parquet and submission.csv go; None is `predict/` in the folder of
            all results, or in `work/photos` for a list of photos.
        verbose: print progress.

    Returns:
        The paths of what was written, and counts of the predicted classes.

    Raises:
        ValueError: a list of photos without runs, or `all_faces` for a data set.
        CropfirstError: data, runs, cache or device cannot be used as asked; see core/errors.py.
    """
    plan = None if ensemble is None or str(ensemble) == "none" else Path(ensemble)
    options: dict[str, Any] = {
        "checkpoint": checkpoint, "ensemble": plan, "alpha": alpha, "device": device,
        "batch_size": batch_size,
    }  # fmt: skip
    if not isinstance(data, str | Path):
        if runs is None:
            raise ValueError("single photos need runs: a trained run, or a folder of them")
        options["console"] = Console(quiet=not verbose)
        target = Path(out or Path(work or "work/photos") / "predict")
        if str(ensemble) != "none":
            options["default_ensemble"] = ensemble_beside(_paths(runs))
        return predict_photos(
            _paths(data), _paths(runs), out=target, all_faces=all_faces, **options
        ).predictions
    if all_faces:
        raise ValueError("all_faces is for a list of photos: a data set has one row per photo")
    workspace = _open(data, layout, None, work=work, cache=cache, verbose=verbose)
    folder = workspace.folder
    return run_predict(
        workspace.photos,
        workspace.open_cache(),
        workspace.find_runs([] if runs is None else _paths(runs)),
        out_dir=Path(out or folder / "predict"),
        default_ensemble=None if str(ensemble) == "none" else folder / "ensemble" / "ensemble.json",
        detect_defaults=detect_defaults(),
        console=workspace.console,
        **options,
    )


def _open(
    data: str | Path, layout: str | None, corrections: str | Path | None, *,
    work: str | Path | None, cache: str | Path | None, verbose: bool,
) -> Workspace:  # fmt: skip
    return open_workspace(
        Path(data),
        layout=layout,
        corrections=_text(corrections),
        work=None if work is None else Path(work),
        cache_dir=None if cache is None else Path(cache),
        console=Console(quiet=not verbose),
    )


def _paths(given: Paths) -> list[Path]:
    return [Path(given)] if isinstance(given, str | Path) else [Path(each) for each in given]


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)

"""The predict command: predicts a data set's crops with an ensemble and writes the tables.

Each member reads the crop set that it was trained on. A photo without a crop gets the class shares
of training, and its status says so. Opens no photo.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from cropfirst.cache import Cache, CropSet
from cropfirst.core.console import say
from cropfirst.core.device import describe_device, resolve_device
from cropfirst.core.errors import CacheMissingError, DataError, TrainError
from cropfirst.door.sets import count_sizes, possible_classes
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.predict.console import print_end, print_shifts, print_start
from cropfirst.stage2_classify.predict.ensemble_file import Ensemble, choose_ensemble
from cropfirst.stage2_classify.predict.members import predict_members, scatter_rows
from cropfirst.stage2_classify.runs.checkpoints import Checkpoints
from cropfirst.stage2_classify.runs.crop_sets import detect_command, find_crop_sets
from cropfirst.stage2_classify.runs.json_files import read_json
from cropfirst.stage2_classify.runs.run_paths import run_of
from cropfirst.stage2_classify.runs.swapped_scores import falling_runs
from cropfirst.stage2_classify.voting.class_shift import ClassShift, class_shift
from cropfirst.stage2_classify.voting.prediction_table import (
    STATUSES,
    prediction_table,
    write_predictions,
    write_submission,
)
from cropfirst.stage2_classify.voting.soft_vote import Vote, vote

Probs = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Shares = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Predictions:
    """The files that `predict` wrote, and counts of what is in them."""

    path: Path
    """predictions.parquet: every photo's key, split, status, probabilities, classes and code."""
    submission: Path | None
    """submission.csv: the submission's rows, or every photo's path and classes; None where none was
    wanted, or the predictions are of all faces of single photos."""
    earlier: Path | None
    """Earlier submission with other predictions, under its new name; None without one."""
    n_photos: int
    n_members: int
    unfinished: tuple[Path, ...]
    """Folds left out because their training is not finished."""
    left_out: tuple[Path, ...]
    """Runs left out because they are baselines, whose crops show the background."""
    notes: tuple[str, ...]
    """Lines on these, and on baselines that vote because no other run predicts a task."""
    statuses: Mapping[str, int]
    """Status -> number of photos, the best status first."""
    counts: Mapping[str, Mapping[str, int]]
    """Task -> class -> number of photos predicted to be of it."""
    several_faces: Mapping[str, int]
    """Key -> number of faces, of the photos with more than one. Predicted is the main face, unless
    all were asked for."""
    shifts: tuple[ClassShift, ...]
    """Class shares of each task: in training, and as predicted."""
    sets: Mapping[str, Mapping[str, int]]
    """Task -> size of the sets of possible classes (`one`, `several`, `none`) -> number of photos;
    empty where no error rate was asked for."""
    seconds: float


@dataclass(frozen=True)
class PhotosToPredict:
    """The photos to predict, and which of them each crop set has crops of."""

    samples: tuple[Sample, ...]
    statuses: tuple[str, ...]
    """(N,) worst crop status among the crop sets."""
    with_crop: Mapping[str, Rows]
    """Crop set's fingerprint -> row numbers of the photos that it has a crop of."""
    several_faces: Mapping[str, int]
    """Key -> largest number of faces that was found, of the photos with more than one."""


@dataclass(frozen=True)
class PhotoVotes:
    """The vote of an ensemble on photos."""

    photos: PhotosToPredict
    result: Vote
    members: npt.NDArray[np.int32]
    """(N,) number of members that have predicted each photo; 0 = it has the class prior."""
    falling: tuple[str, ...]
    """Warnings of runs whose score falls in swapped rooms."""


def predict(
    photos: PhotoSet,
    cache: Cache,
    runs: Sequence[Path],
    *,
    out_dir: Path,
    device: torch.device | str = "auto",
    batch_size: int = 64,
    checkpoint: str | None = None,
    ensemble: Path | None = None,
    default_ensemble: Path | None = None,
    detect_defaults: Mapping[str, Any] | None = None,
    with_submission: bool = True,
    alpha: float | None = None,
    console: Console | None = None,
) -> Predictions:
    """Predict the eval photos, or all photos where there is no eval split, and write the tables.

    Args:
        runs: runs directories, run directories or fold directories; all their members vote,
            except baselines that are not named themselves (see `runs.baselines`).
        out_dir: folder for predictions.parquet and submission.csv, each replaced in one step; an
            earlier submission with other predictions is kept as submission-N.csv.
        batch_size: number of crops per batch on the device.
        checkpoint: checkpoint of each fold; None = that of ensemble.json, or best_f1.
        ensemble: path of an ensemble.json, which must be for these runs.
        default_ensemble: path of one that is used if it exists and is for these runs.
        detect_defaults: config of the crops that detect makes by default, so that a message on
            missing crops names only the settings to change.
        with_submission: write submission.csv too, which needs a run for each of its tasks.
        alpha: error rate of the sets of possible classes, within (0, 1); None writes no sets. A
            photo without a crop has all classes.
        console: None prints nothing.

    Raises:
        TrainError: no members, members of different schemas, no run for a task that the
            submission needs (predictions.parquet is written all the same), or no calibration that
            carries `alpha`.
        CacheMismatchError: a crop set that a member was trained on is not in the cache.
        CacheMissingError: such a crop set has none of these photos.
    """
    started = time.perf_counter()
    console = console or Console(quiet=True)
    voting = choose_ensemble(
        runs, checkpoint=checkpoint, ensemble=ensemble, default=default_ensemble
    )
    found = voting.found
    limits = {} if alpha is None else voting.set_limits(alpha)
    votes = vote_on_photos(
        voting, photos, cache, device=device, batch_size=batch_size,
        detect_defaults=detect_defaults, console=console,
    )  # fmt: skip
    todo, result = votes.photos, votes.result
    shifts = _class_shifts(result, found, todo)
    print_shifts(console, shifts)
    possible = {
        task: possible_classes(result.probs[task], own) | (votes.members == 0)[:, None]
        for task, own in limits.items()
    }
    without = [task for task in result.preds if task not in possible and possible]
    no_sets = [f"{', '.join(without)} have no sets: calibrate left them out"] if without else []
    for note in no_sets:
        say(console, note, style="yellow")
    path, submission, earlier = _write_tables(
        photos, votes, possible, voting, out_dir, with_submission=with_submission
    )
    number = Counter(todo.statuses)
    statuses = {status: number[status] for status in STATUSES if number[status]}
    counts = _count_classes(result, found.schema)
    sets = {task: count_sizes(own) for task, own in possible.items()}
    seconds = time.perf_counter() - started
    print_end(
        console, counts=counts, statuses=statuses, n_several=len(todo.several_faces), sets=sets,
        alpha=alpha, written=[each for each in (path, submission) if each], earlier=earlier,
        seconds=seconds,
    )  # fmt: skip
    return Predictions(
        path,
        submission,
        earlier,
        n_photos=len(todo.samples),
        n_members=len(found.folders),
        unfinished=found.unfinished,
        left_out=voting.voters.left_out,
        notes=(*voting.voters.notes, *votes.falling, *no_sets),
        statuses=statuses,
        counts=counts,
        several_faces=todo.several_faces,
        shifts=shifts,
        sets=sets,
        seconds=seconds,
    )


def vote_on_photos(
    voting: Ensemble,
    photos: PhotoSet,
    cache: Cache,
    *,
    device: torch.device | str,
    batch_size: int,
    detect_defaults: Mapping[str, Any] | None,
    console: Console,
) -> PhotoVotes:
    """Let an ensemble vote on the eval photos, or on all photos where there is no eval split.

    Raises:
        CacheMismatchError: a crop set that a member was trained on is not in the cache.
        CacheMissingError: such a crop set has none of these photos.
    """
    where = resolve_device(device) if isinstance(device, str) else device
    found = voting.found
    crop_sets = find_crop_sets(found.metas, cache, defaults=detect_defaults)
    todo = _photos_to_predict(photos, crop_sets, defaults=detect_defaults)
    print_start(console, voting, todo.samples, todo.statuses, device=describe_device(where))
    falling = falling_runs(dict.fromkeys(run_of(folder) for folder in found.folders))
    for warning in falling:
        say(console, f"warning: {warning}", style="bold yellow")
    probs = _predict_crops(
        voting, crop_sets, todo, device=where, batch_size=batch_size, console=console
    )
    result = voting.vote(probs, priors=_priors(found))
    return PhotoVotes(todo, result, _count_members(probs), tuple(falling))


def _photos_to_predict(
    photos: PhotoSet, crop_sets: Mapping[str, CropSet], *, defaults: Mapping[str, Any] | None
) -> PhotosToPredict:
    samples = photos.by_split("eval") or photos.samples
    keys = [sample.key for sample in samples]
    unknown = {key for _, key in photos.submission or ()} - set(keys)
    if unknown:
        raise DataError(
            f"the submission needs {len(unknown)} photos that are not in the eval split, such "
            f"as {min(unknown)}: check eval/info.csv against eval/images"
        )
    worst = [0] * len(keys)
    with_crop: dict[str, Rows] = {}
    several: dict[str, int] = {}
    for fingerprint, crop_set in crop_sets.items():
        rows = crop_set.manifest.read().select("key", "status", "crop_hash", "n_faces").rows()
        known = {key: (status, crop_hash is not None) for key, status, crop_hash, _ in rows}
        for key, _, _, n_faces in rows:
            if (n_faces or 0) > max(several.get(key, 0), 1):
                several[key] = n_faces
        if not known.keys() & set(keys):
            raise CacheMissingError(
                f"the crops {crop_set.name} have none of the {len(keys)} photos of {photos.root}: "
                f"run {detect_command(crop_set.config, defaults=defaults)}"
            )
        found = [known.get(key, ("missing", False)) for key in keys]
        with_crop[fingerprint] = np.flatnonzero([has_crop for _, has_crop in found])
        worst = [
            max(rank, STATUSES.index(status))
            for rank, (status, _) in zip(worst, found, strict=True)
        ]
    statuses = tuple(STATUSES[rank] for rank in worst)
    several = {key: several[key] for key in keys if key in several}
    return PhotosToPredict(samples, statuses, with_crop, several)


def _predict_crops(
    ensemble: Ensemble,
    crop_sets: Mapping[str, CropSet],
    todo: PhotosToPredict,
    *,
    device: torch.device,
    batch_size: int,
    console: Console,
) -> list[dict[str, Probs]]:
    """Return each member's probabilities of all photos; NaN rows for photos without a crop."""
    rows_of = [todo.with_crop[meta["crop_set"]["fingerprint"]] for meta in ensemble.found.metas]
    found = predict_members(
        ensemble.found.folders,
        crop_sets,
        [[todo.samples[row].key for row in rows] for rows in rows_of],
        device=device,
        batch_size=batch_size,
        tta=ensemble.tta,
        console=console,
    )
    return [
        {name: scatter_rows(probs, rows, len(todo.samples)) for name, probs in own.items()}
        for rows, own in zip(rows_of, found, strict=True)
    ]


def _write_tables(
    photos: PhotoSet,
    votes: PhotoVotes,
    possible: Mapping[str, npt.NDArray[np.bool_]],
    ensemble: Ensemble,
    out_dir: Path,
    *,
    with_submission: bool,
) -> tuple[Path, Path | None, Path | None]:
    """Write the tables; return their paths, and that of the earlier submission if there is one."""
    schema = ensemble.found.schema
    table = prediction_table(
        votes.photos.samples,
        votes.result,
        schema,
        statuses=votes.photos.statuses,
        members=votes.members,
        possible=possible,
        image_ids={key: image_id for image_id, key in photos.submission or ()},
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / "predictions.parquet"
    write_predictions(path, table)
    if not with_submission:
        return path, None, None
    submission = out_dir / "submission.csv"
    earlier = write_submission(submission, photos, table, schema, made_by=_made_by(ensemble))
    return path, submission, earlier


def _made_by(ensemble: Ensemble) -> dict[str, str]:
    """Return the runs that vote, their out-of-fold macro F1, and how they vote, as text."""
    runs = dict.fromkeys(run_of(folder) for folder in ensemble.found.folders)
    scores = []
    for run in runs:
        try:
            tasks = read_json(run / "metrics.json")["tasks"]
            own = [f"{task} {float(score['macro_f1']):.4f}" for task, score in tasks.items()]
        except (TrainError, KeyError, TypeError, ValueError, AttributeError):
            own = ["unknown"]  # such as a run whose folds are not all finished
        scores.append(f"{run.name}: {', '.join(own)}")
    return {
        "runs": "; ".join(str(run) for run in runs),
        "scores": "; ".join(scores),
        "votes": ensemble.note,
    }


def _class_shifts(
    result: Vote, found: Checkpoints, todo: PhotosToPredict
) -> tuple[ClassShift, ...]:
    """Compare class shares over the photos with a crop; the others have those of training."""
    seen = np.isin(np.arange(len(todo.samples)), np.concatenate([*todo.with_crop.values()]))
    rows = [{name: shares[None] for name, shares in prior.items()} for prior in _priors(found)]
    trained = vote(rows, found.schema).probs
    return tuple(
        class_shift(task, preds[seen], trained[task][0], found.schema.class_names(task))
        for task, preds in result.preds.items()
        if seen.any()
    )


def _priors(found: Checkpoints) -> list[Shares]:
    """Return each member's class shares in training."""
    return [
        {name: np.asarray(shares, np.float64) for name, shares in meta["class_prior"].items()}
        for meta in found.metas
    ]


def _count_classes(result: Vote, schema: LabelSchema) -> dict[str, dict[str, int]]:
    """Return task -> class -> number of photos predicted to be of it."""
    return {
        task: {
            name: int((codes == code).sum()) for code, name in enumerate(schema.class_names(task))
        }
        for task, codes in result.preds.items()
    }


def _count_members(probs: Sequence[Mapping[str, Probs]]) -> npt.NDArray[np.int32]:
    """Return the (N,) number of members that have predicted each photo."""
    seen = [~np.isnan(next(iter(own.values()))[:, 0]) for own in probs]
    return np.sum(seen, axis=0, dtype=np.int32)

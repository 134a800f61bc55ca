"""Predict a data set: crops from the cache, every member of every run, one row a photo out.

Each member reads the crop set it was trained on. Opens no photo, and learns nothing: a photo
without a crop gets the classes' shares in training, and its status says so.
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
from rich.table import Table
from rich.text import Text

from cropfirst.cache import Cache, CropSet
from cropfirst.core.console import say
from cropfirst.core.device import describe_device, resolve_device
from cropfirst.core.errors import CacheMissingError, DataError
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.predict.ensemble_file import Team, choose_team
from cropfirst.stage2_classify.predict.votes import run_members, spread
from cropfirst.stage2_classify.runs.checkpoints import FoundMembers, run_of
from cropfirst.stage2_classify.runs.crops import detect_command, find_crop_set
from cropfirst.stage2_classify.voting.blend import vote_as_planned
from cropfirst.stage2_classify.voting.distribution import Shift, shift_of
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
    """What `predict` wrote."""

    path: Path
    """predictions.parquet: every photo's key, split, status, probabilities, classes and code."""
    submission: Path
    """submission.csv: the rows asked for, or every photo's path and classes."""
    n_photos: int
    n_members: int
    unfinished: tuple[Path, ...]
    """Folds left out since their training has not ended."""
    statuses: Mapping[str, int]
    """Status -> how many photos, the best status first."""
    counts: Mapping[str, Mapping[str, int]]
    """Task -> class -> how many photos are predicted to be of it."""
    shifts: tuple[Shift, ...]
    """Each task's predicted class shares beside those in training."""
    seconds: float


@dataclass(frozen=True)
class _Photos:
    """The photos to predict, and where each crop set has crops of them."""

    samples: tuple[Sample, ...]
    statuses: tuple[str, ...]
    with_crop: Mapping[str, Rows]
    """Crop set's fingerprint -> numbers of the photos it has a crop of."""


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
    console: Console | None = None,
) -> Predictions:
    """Predict the eval photos (all photos, where there is no eval split) and write the answers.

    Args:
        runs: runs directories, run directories or fold directories; all their members vote.
        out_dir: gets predictions.parquet and submission.csv, each replaced in one step.
        batch_size: crops at once on the device.
        checkpoint: which of each fold's votes; None is the ensemble's, or best_f1.
        ensemble: an ensemble.json, which must be for these runs.
        default_ensemble: one that is used where it is there and is for these runs.
        detect_defaults: config of the crops that detect makes when nothing is set, so that a
            message on missing crops names only the settings to change.
        console: None says nothing.

    Raises:
        TrainError: no members, members of different schemas, or a task that a submission needs
            has no run (predictions.parquet is written all the same).
        CacheMismatchError: a crop set that a member was trained on is not in the cache.
        CacheMissingError: it is, but has none of these photos.
    """
    started = time.perf_counter()
    console = console or Console(quiet=True)
    where = resolve_device(device) if isinstance(device, str) else device
    team = choose_team(runs, checkpoint=checkpoint, ensemble=ensemble, default=default_ensemble)
    found = team.found
    crop_sets = _crop_sets(found, cache, defaults=detect_defaults)
    todo = _photos_to_predict(photos, crop_sets, defaults=detect_defaults)
    _say_start(console, team, todo, device=describe_device(where))
    votes = _look(team, crop_sets, todo, device=where, batch_size=batch_size, console=console)
    ballot = _count(team, votes, priors=_priors(found))
    table = prediction_table(
        todo.samples,
        ballot,
        found.schema,
        statuses=todo.statuses,
        members=_count_members(votes),
        image_ids={key: image_id for image_id, key in photos.submission or ()},
    )
    shifts = _shifts(ballot, found, todo)
    _say_shifts(console, shifts)
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / "predictions.parquet"
    write_predictions(path, table)
    submission = write_submission(out_dir / "submission.csv", photos, table, found.schema)
    counted = Counter(todo.statuses)
    done = Predictions(
        path=path,
        submission=submission,
        n_photos=len(todo.samples),
        n_members=len(found.folders),
        unfinished=found.unfinished,
        statuses={status: counted[status] for status in STATUSES if counted[status]},
        counts=_count_classes(ballot, found.schema),
        shifts=shifts,
        seconds=time.perf_counter() - started,
    )
    _say_end(console, done)
    return done


def _crop_sets(
    found: FoundMembers, cache: Cache, *, defaults: Mapping[str, Any] | None
) -> dict[str, CropSet]:
    """Fingerprint -> crop set, of all that the members were trained on."""
    return {
        meta["crop_set"]["fingerprint"]: find_crop_set(meta, cache, defaults=defaults)
        for meta in found.metas
    }


def _photos_to_predict(
    photos: PhotoSet, crop_sets: Mapping[str, CropSet], *, defaults: Mapping[str, Any] | None
) -> _Photos:
    samples = photos.by_split("eval") or photos.samples
    keys = [sample.key for sample in samples]
    unknown = {key for _, key in photos.submission or ()} - set(keys)
    if unknown:
        raise DataError(
            f"the submission asks for {len(unknown)} photos that are not in the eval split, such "
            f"as {min(unknown)}: check eval/info.csv against eval/images"
        )
    worst = [0] * len(keys)
    with_crop = {}
    for fingerprint, crop_set in crop_sets.items():
        rows = crop_set.manifest.read().select("key", "status", "crop_hash").rows()
        known = {key: (status, crop_hash is not None) for key, status, crop_hash in rows}
        if not known.keys() & set(keys):
            raise CacheMissingError(
                f"the crops {crop_set.name} hold none of the {len(keys)} photos of {photos.root}: "
                f"run {detect_command(crop_set.config, defaults=defaults)}"
            )
        found = [known.get(key, ("missing", False)) for key in keys]
        with_crop[fingerprint] = np.flatnonzero([has_crop for _, has_crop in found])
        worst = [
            max(rank, STATUSES.index(status))
            for rank, (status, _) in zip(worst, found, strict=True)
        ]
    return _Photos(samples, tuple(STATUSES[rank] for rank in worst), with_crop)


def _look(
    team: Team,
    crop_sets: Mapping[str, CropSet],
    todo: _Photos,
    *,
    device: torch.device,
    batch_size: int,
    console: Console,
) -> list[dict[str, Probs]]:
    """Each member's probabilities of all photos; NaN rows where it has no crop to look at."""
    rows_of = [todo.with_crop[meta["crop_set"]["fingerprint"]] for meta in team.found.metas]
    found = run_members(
        team.found.folders,
        crop_sets,
        [[todo.samples[row].key for row in rows] for rows in rows_of],
        device=device,
        batch_size=batch_size,
        views=team.views,
        console=console,
    )
    return [
        {name: spread(probs, rows, len(todo.samples)) for name, probs in seen.items()}
        for rows, seen in zip(rows_of, found, strict=True)
    ]


def _count(team: Team, votes: Sequence[Mapping[str, Probs]], *, priors: Sequence[Shares]) -> Vote:
    """The answers: all members alike, or as the plan says."""
    found = team.found
    if team.plan is None:
        return vote(votes, found.schema, priors=priors, conditions=found.conditions)
    return vote_as_planned(
        votes, team.names, found.schema, team.plan, conditions=found.conditions, priors=priors
    )


def _shifts(ballot: Vote, found: FoundMembers, todo: _Photos) -> tuple[Shift, ...]:
    """Of the photos that somebody has looked at; the others have training's shares anyway."""
    seen = np.isin(np.arange(len(todo.samples)), np.concatenate([*todo.with_crop.values()]))
    rows = [{name: shares[None] for name, shares in prior.items()} for prior in _priors(found)]
    trained = vote(rows, found.schema).probs
    return tuple(
        shift_of(task, preds[seen], trained[task][0], found.schema.class_names(task))
        for task, preds in ballot.preds.items()
        if seen.any()
    )


def _priors(found: FoundMembers) -> list[Shares]:
    """Each member's class shares in training."""
    return [
        {name: np.asarray(shares, np.float64) for name, shares in meta["class_prior"].items()}
        for meta in found.metas
    ]


def _count_classes(ballot: Vote, schema: LabelSchema) -> dict[str, dict[str, int]]:
    """Task -> class -> photos predicted to be of it."""
    return {
        task: {
            name: int((codes == code).sum()) for code, name in enumerate(schema.class_names(task))
        }
        for task, codes in ballot.preds.items()
    }


def _count_members(votes: Sequence[Mapping[str, Probs]]) -> npt.NDArray[np.int32]:
    """(N,) how many members have looked at each photo."""
    looked = [~np.isnan(next(iter(probs.values()))[:, 0]) for probs in votes]
    return np.sum(looked, axis=0, dtype=np.int32)


def _say_shifts(console: Console, shifts: Sequence[Shift]) -> None:
    """Warn of answers in other shares than in training, before they are written."""
    for shift in shifts:
        if shift.is_large:
            _warn(
                console,
                f"{shift}: the answers are not in the shares of training. Are these other people, "
                "or is something wrong? Look at the crops and at cli.py evaluate first",
            )


def _say_start(console: Console, team: Team, todo: _Photos, *, device: str) -> None:
    found = team.found
    table = Table(title=f"{len(todo.samples)} photos, {len(found.folders)} members on {device}")
    for column in ("run", "folds", "tasks", "crops"):
        table.add_column(column)
    by_run: dict[Path, list[Mapping[str, Any]]] = {}
    for folder, meta in zip(found.folders, found.metas, strict=True):
        by_run.setdefault(run_of(folder), []).append(meta)
    for run, metas in by_run.items():
        folds = ", ".join(str(meta.get("fold", "?")) for meta in metas)
        cells = (run.name, folds, ", ".join(metas[0]["heads"]), metas[0]["crop_set"]["name"])
        table.add_row(*map(Text, cells))
    console.print(table)
    say(console, f"weights: {team.note}")
    if found.unfinished:
        names = ", ".join(str(fold) for fold in found.unfinished[:3])
        _warn(console, f"left out: {len(found.unfinished)} folds not trained to the end ({names})")
    if all(sample.split == "train" for sample in todo.samples):
        _warn(
            console,
            "there is no eval split: these are photos that the members may have been trained on. "
            "For honest scores see cli.py evaluate",
        )
    if missing := todo.statuses.count("missing"):
        _warn(
            console,
            f"{missing} photos are not in the crop set and get the class prior: run cli.py detect "
            "DATA again",
        )


def _warn(console: Console, text: str) -> None:
    say(console, text, style="yellow")


def _say_end(console: Console, done: Predictions) -> None:
    table = Table(title=f"{done.n_photos} photos predicted in {done.seconds:.1f} s")
    table.add_column("")
    table.add_column("photos")
    for task, counts in done.counts.items():
        table.add_row(Text(task), Text(_listed(counts)))
    table.add_section()
    table.add_row("crops", Text(_listed(done.statuses)))
    console.print(table)
    for path in (done.path, done.submission):
        say(console, f"written: {path}")


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())

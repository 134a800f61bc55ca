"""Which photos a run trains on: one row a photo, its person, class numbers and fold.

Knows samples, label schemas and crop rows; opens no crop and no photo.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cropfirst.cache import CropSet, TrainError
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.folds import make_folds
from cropfirst.stage2_classify.labels import LabelSchema


@dataclass(frozen=True)
class TrainingSet:
    """The photos of a run, in folds."""

    tasks: tuple[str, ...]
    class_names: Mapping[str, tuple[str, ...]]
    table: pl.DataFrame
    """key, group, fold, status and a `<task>_target` Int32 for each task, sorted by key."""
    excluded: Mapping[str, int]
    """Why photos of the train split are left out -> how many."""
    codes: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """Other tasks, that samplers and augmentation look at -> (N,) class numbers, -1 = unknown."""

    def __len__(self) -> int:
        return self.table.height

    @property
    def targets(self) -> NDArray[np.int64]:
        """(N, tasks) int64."""
        columns = [self.table[target_column(task)].to_numpy() for task in self.tasks]
        return np.stack(columns, axis=1).astype(np.int64)

    @property
    def target_map(self) -> dict[str, NDArray[np.int64]]:
        """Task -> (N,) int64."""
        return {
            task: self.table[target_column(task)].to_numpy().astype(np.int64) for task in self.tasks
        }

    def codes_of(self, task: str) -> NDArray[np.int64]:
        """(N,) class numbers of a task that is trained or was asked for besides; -1 = unknown."""
        return self.codes[task] if task in self.codes else self.target_map[task]

    def rows(self, fold: int, *, held_out: bool) -> NDArray[np.int64]:
        """Row numbers of a fold's validation part, or of what it is trained on.

        The fold after the last one holds nobody out: it is the training on all data.
        """
        inside = self.table["fold"].to_numpy() == fold
        return np.flatnonzero(inside if held_out else ~inside)

    def class_prior(self, fold: int) -> dict[str, list[float]]:
        """Shares of the classes in what `fold` is trained on, for each task."""
        part = self.targets[self.rows(fold, held_out=False)]
        counts = [
            np.bincount(column, minlength=len(self.class_names[task]))
            for task, column in zip(self.tasks, part.T, strict=True)
        ]
        return {task: (n / len(part)).tolist() for task, n in zip(self.tasks, counts, strict=True)}


def target_column(task: str) -> str:
    """Name of a task's column of class numbers."""
    return f"{task}_target"


def probs_column(task: str) -> str:
    """Name of a task's column of probabilities."""
    return f"{task}_probs"


def build_training_set(
    photos: PhotoSet,
    schema: LabelSchema,
    crops: CropSet,
    *,
    tasks: tuple[str, ...],
    n_folds: int,
    seed: int,
    also: Sequence[str] = (),
) -> TrainingSet:
    """Collect the train split's photos that have a crop and every task's label, and fold them.

    Args:
        also: further tasks whose classes are wanted, where they are known.

    Raises:
        TrainError: an unknown task, one class only, nothing to train on, too few persons.
        LabelError: a fact that fits no class.
    """
    others = tuple(dict.fromkeys(task for task in also if task not in tasks))
    for task in (*tasks, *others):
        _check_task(task, schema)
    status = dict(crops.manifest.read().select("key", "status").iter_rows())
    rows: list[tuple[object, ...]] = []
    excluded: Counter[str] = Counter()
    for sample in photos.by_split("train"):
        codes = {task: schema.target(task, sample.labels, where=sample.key) for task in tasks}
        missing = [task for task, code in codes.items() if code is None]
        if missing:
            excluded[f"no label for {', '.join(missing)}"] += 1
        elif sample.key not in status:
            excluded["not in the crop set (run detect)"] += 1
        elif status[sample.key] == "unreadable":
            excluded["unreadable"] += 1
        else:
            more = [schema.target(task, sample.labels, where=sample.key) for task in others]
            rows.append((sample.key, sample.group, status[sample.key], *codes.values(), *more))
    if not rows:
        why = "; ".join(f"{count} {reason}" for reason, count in excluded.items())
        raise TrainError(
            f"no photo of {photos.root} to train {', '.join(tasks)} on with crops {crops.name}: "
            f"{why or 'its train split is empty'}"
        )
    width = 3 + len(tasks)
    by_key = sorted(rows, key=lambda row: str(row[0]))  # as the table is
    columns = zip(others, zip(*(row[width:] for row in by_key), strict=True), strict=False)
    return TrainingSet(
        tasks,
        {task: schema.class_names(task) for task in tasks},
        _make_table([row[:width] for row in rows], tasks, n_folds=n_folds, seed=seed),
        dict(excluded),
        {task: np.array([-1 if c is None else c for c in column]) for task, column in columns},
    )


def _make_table(
    rows: list[tuple[object, ...]], tasks: tuple[str, ...], *, n_folds: int, seed: int
) -> pl.DataFrame:
    columns = {target_column(task): pl.Int32() for task in tasks}
    text = {"key": pl.String(), "group": pl.String(), "status": pl.String()}
    table = pl.DataFrame(rows, schema={**text, **columns}, orient="row").sort("key")
    for task in tasks:
        codes = table[target_column(task)]
        if codes.n_unique() < 2:
            raise TrainError(
                f"task {task!r} has one class only: all {len(codes)} photos with a label have "
                f"class number {codes[0]}; check the labels, or choose another --task"
            )
    folds = make_folds(
        table["key"].to_list(),
        groups=table["group"].to_list(),
        targets=table.select(*columns).to_numpy(),
        n_folds=n_folds,
        seed=seed,
    )
    return table.select("key", "group", pl.Series("fold", folds), "status", *columns)


def _check_task(task: str, schema: LabelSchema) -> None:
    known = schema.names
    if task not in known:
        near = difflib.get_close_matches(task, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise TrainError(
            f"no task {task!r} in the label schema {schema.name!r}: {hint}it has {', '.join(known)}"
        )

"""The photos of a run: one row per photo with its person, class numbers and fold.

Knows tables of class numbers; knows nothing of samples, crops or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cropfirst.stage2_classify.model.targets import TargetSpace


@dataclass(frozen=True)
class TrainingSet:
    """The photos of a run, divided into folds."""

    tasks: tuple[str, ...]
    class_names: Mapping[str, tuple[str, ...]]
    table: pl.DataFrame
    """Columns key, group, fold, status and `<task>_target` Int32 for each task, sorted by key. Only
    if they differ from the default: `<task>_true` and `<task>_learned` Int32, the training targets
    without and with label rules; `trains` Boolean, whether a photo is trained on; `applies`
    Boolean, whether it meets the run's condition (`where`)."""
    excluded: Mapping[str, int]
    """Reason why photos of the train split are left out -> number of them."""
    spaces: Mapping[str, TargetSpace] = field(default_factory=dict)
    """Task -> its training targets."""
    codes: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """Other tasks that sampling or augmentation needs -> (N,) class numbers, -1 = unknown."""
    rules: Mapping[str, int] = field(default_factory=dict)
    """Label rule in words -> number of photos whose training label it changed."""

    def __len__(self) -> int:
        return self.table.height

    @property
    def targets(self) -> NDArray[np.int64]:
        """(N, tasks) int64 true classes of the schema."""
        columns = [self.table[target_column(task)].to_numpy() for task in self.tasks]
        return np.stack(columns, axis=1).astype(np.int64)

    @property
    def true_targets(self) -> dict[str, NDArray[np.int64]]:
        """Task -> (N,) int64 true targets, as in `spaces`, for validation.

        -1 for photos that do not meet the run's condition.
        """
        applies = self.table["applies"].to_numpy() if "applies" in self.table.columns else True
        return {
            task: np.where(applies, self._target_column("true", task), -1) for task in self.tasks
        }

    @property
    def learned_targets(self) -> dict[str, NDArray[np.int64]]:
        """Task -> (N,) int64 targets as in `spaces`, after the label rules, for training."""
        return {task: self._target_column("learned", task) for task in self.tasks}

    def codes_of(self, task: str) -> NDArray[np.int64]:
        """Return the (N,) classes of a trained or extra task after label rules; -1 = unknown."""
        if task in self.codes:
            return self.codes[task]
        classes = np.asarray(self.spaces[task].class_of, np.int64)
        return classes[self.learned_targets[task]]

    def rows(self, fold: int, *, held_out: bool) -> NDArray[np.int64]:
        """Return the row numbers of a fold's validation part, or of its training part.

        The fold after the last one holds nobody out: it is the training on all data.
        """
        inside = self.table["fold"].to_numpy() == fold
        if held_out:
            return np.flatnonzero(inside)
        trains = self.table["trains"].to_numpy() if "trains" in self.table.columns else True
        return np.flatnonzero(~inside & trains)

    def class_counts(self, rows: NDArray[np.int64]) -> dict[str, list[int]]:
        """Return task -> number of photos of each class among `rows`, after the label rules."""
        return {
            task: np.bincount(
                self.codes_of(task)[rows], minlength=len(self.class_names[task])
            ).tolist()
            for task in self.tasks
        }

    def class_prior(self, fold: int) -> dict[str, list[float]]:
        """Return task -> true shares of the classes in the training part of `fold`."""
        part = self.targets[self.rows(fold, held_out=False)]
        counts = [
            np.bincount(column, minlength=len(self.class_names[task]))
            for task, column in zip(self.tasks, part.T, strict=True)
        ]
        return {task: (n / len(part)).tolist() for task, n in zip(self.tasks, counts, strict=True)}

    def _target_column(self, kind: str, task: str) -> NDArray[np.int64]:
        column = f"{task}_{kind}"
        name = column if column in self.table.columns else target_column(task)
        return self.table[name].to_numpy().astype(np.int64)


def target_column(task: str) -> str:
    """Return the name of a task's column of class numbers."""
    return f"{task}_target"


def probs_column(task: str) -> str:
    """Return the name of a task's column of probabilities."""
    return f"{task}_probs"


def absent_classes(training: TrainingSet, fold: int) -> dict[str, list[str]]:
    """Return task -> classes that a fold has in its validation part, but not in training."""
    counts = training.class_counts(training.rows(fold, held_out=False))
    held_out = training.targets[training.rows(fold, held_out=True)]
    absent = {}
    for column, task in enumerate(training.tasks):
        present = set(held_out[:, column].tolist())
        names = [
            name
            for code, name in enumerate(training.class_names[task])
            if code in present and not counts[task][code]
        ]
        if names:
            absent[task] = names
    return absent

"""Bootstrap intervals of scores and of differences between models, over people.

Photos of one person are not independent, so people are resampled, not photos: the cluster bootstrap
(Field and Welsh, "Bootstrapping clustered data", JRSS B 69, 2007). Knows class numbers; knows
nothing of runs or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cropfirst.core.bootstrap import Floats, Interval, Ints, bootstrap_intervals

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True)
class Paired:
    """Two models' predictions for one task, one row per photo that both have."""

    people: Ints
    """(N,) numbers of persons, from 0."""
    targets: Ints
    """(N,) class numbers."""
    preds: tuple[Ints, Ints]
    """(N,) class numbers of the first and of the second model."""
    n_classes: int


def paired_difference(
    tasks: Sequence[Paired], *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return the difference of two models' macro F1, mean over the tasks, with its interval.

    All models and tasks are scored on the same resampled people. The interval is for other people;
    it does not include the variation between trainings.

    Args:
        tasks: one or more, with the same numbers of persons in all of them.
        level: share of the resamples within the interval.

    Raises:
        ValueError: no task or no photo.
    """
    if not tasks or not all(len(task.targets) for task in tasks):
        raise ValueError("a paired difference needs at least one task, with at least one photo")
    n_people = 1 + max(int(task.people.max()) for task in tasks)
    tables = [
        [count_cells(task.people, task.targets, preds, task.n_classes, n_people=n_people)
         for preds in task.preds]
        for task in tasks
    ]  # fmt: skip

    def score(weights: Ints) -> Floats:
        gaps = [_macro_f1(weights @ two) - _macro_f1(weights @ one) for one, two in tables]
        return np.mean(gaps, axis=0, keepdims=True)

    return bootstrap_intervals(score, n_people, resamples=resamples, level=level, seed=seed)[0]


def score_intervals(
    people: Ints,
    targets: Ints,
    preds: Ints,
    n_classes: int,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Interval, Interval]:
    """Return macro F1 and accuracy of (N,) class numbers, with 95 % intervals over people.

    Raises:
        ValueError: no photo.
    """
    if not len(targets):
        raise ValueError("an interval needs at least one photo")
    cells = count_cells(people, targets, preds, n_classes)

    def score(weights: Ints) -> Floats:
        drawn = weights @ cells
        hits = drawn[:, :: n_classes + 1].sum(1)
        return np.stack([_macro_f1(drawn), hits / np.maximum(drawn.sum(1), 1)])

    f1, accuracy = bootstrap_intervals(score, cells.shape[0], resamples=resamples, seed=seed)
    return f1, accuracy


def mean_intervals(
    people: Ints, values: Floats, *, resamples: int = 2000, seed: int = 0
) -> tuple[Interval, ...]:
    """Return the means of (N, K) values per photo, with 95 % intervals over people."""
    n_people = 1 + int(people.max())
    sums = np.stack([np.bincount(people, column, n_people) for column in values.T], axis=1)
    counts = np.bincount(people, minlength=n_people)

    def score(weights: Ints) -> Floats:
        return (weights @ sums / np.maximum(weights @ counts, 1)[:, None]).T

    return bootstrap_intervals(score, n_people, resamples=resamples, seed=seed)


def ece_intervals(
    people: Ints, gaps: Sequence[tuple[Ints, Floats]], *, resamples: int = 2000, seed: int = 0
) -> tuple[Interval, ...]:
    """Return expected calibration errors, and the last minus the first, with 95 % intervals.

    Args:
        gaps: `confidence_gaps` of each model: (N,) bins and (N,) confidence minus correctness.
    """
    n_people = 1 + int(people.max())
    counts = np.bincount(people, minlength=n_people)
    tables = []
    for bins, gap in gaps:
        n_bins = 1 + int(bins.max())
        flat = np.bincount(people * n_bins + bins, gap, n_people * n_bins)
        tables.append(flat.reshape(n_people, n_bins))

    def score(weights: Ints) -> Floats:
        photos = np.maximum(weights @ counts, 1)
        errors = [np.abs(weights @ table).sum(1) / photos for table in tables]
        return np.stack([*errors, errors[-1] - errors[0]])

    return bootstrap_intervals(score, n_people, resamples=resamples, seed=seed)


def number_people(keys: Sequence[str], person_of: Mapping[str, str]) -> Ints:
    """Return (N,) numbers of persons from 0; a photo of an unknown person gets its own number."""
    names = [person_of.get(key, f"photo {key}") for key in keys]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def count_cells(
    people: Ints, targets: Ints, preds: Ints, n_classes: int, *, n_people: int | None = None
) -> sparse.csr_array:
    """Return (people, classes * classes) counts: each person's confusion matrix, flattened.

    Args:
        people: (N,) numbers of persons, from 0.
        n_people: number of rows; None = that of the largest number and those below it.
    """
    from scipy import sparse

    cells = targets.astype(np.int64) * n_classes + preds
    shape = (1 + int(people.max()) if n_people is None else n_people, n_classes**2)
    return sparse.csr_array((np.ones(len(cells), np.int64), (people, cells)), shape=shape)


def _macro_f1(cells: Ints) -> Floats:
    """Return the (B,) macro F1 of (B, classes * classes) flattened confusion matrices."""
    side = round(cells.shape[1] ** 0.5)
    matrix = cells.reshape(-1, side, side)
    total = matrix.sum(1) + matrix.sum(2)
    hits = np.diagonal(matrix, axis1=1, axis2=2)
    occurs = total > 0
    f1 = 2 * hits / np.maximum(total, 1)
    return np.asarray(f1.sum(1) / np.maximum(occurs.sum(1), 1), np.float64)

"""The share of sets that contain the true class, on people whom the calibration has not seen.

Knows votes; knows nothing of runs, files or the console.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cropfirst.core.bootstrap import Interval
from cropfirst.door.sets import ClassLimits, SetTable
from cropfirst.stage2_classify.calibrate.task_answers import TaskAnswers
from cropfirst.stage2_classify.metrics.conformal import (
    fit_limits,
    score_sets,
    smallest_alpha,
)

Ints = npt.NDArray[np.integer]

GRID = (*(n / 1000 for n in range(1, 10)), *(n / 100 for n in range(1, 51)))
"""Error rates that a table has limits for, as far as its people carry them."""
RESAMPLES = 1000
MIN_PEOPLE = 10
"""Number of people below which a slice is not scored."""
DIGITS = 10**9
"""The smallest error rate of a table is rounded up to a multiple of 1 / `DIGITS`."""


@dataclass(frozen=True)
class SetScore:
    """Shares of sets of each kind in one part of the people."""

    task: str
    alpha: float
    """Error rate of the sets."""
    by: str
    """Fact that divides the photos; the task itself for its classes, "" for all."""
    value: str
    """Value of that fact in this part."""
    n_people: int
    n_photos: int
    shares: dict[str, Interval]
    """Measure -> share of photos, each person counting the same; see `conformal.score_sets`."""

    @property
    def is_low(self) -> bool:
        """Whether the true class is missing more often than asked for, beyond chance."""
        return self.shares["coverage"].high < 1 - self.alpha

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON types."""
        shares = {
            name: None
            if math.isnan(share.value)
            else {key: None if math.isnan(x) else round(x, 4) for key, x in vars(share).items()}
            for name, share in self.shares.items()
        }
        own = {name: value for name, value in vars(self).items() if name != "shares"}
        return {**own, "is_low": self.is_low, **shares}


def fit_table(answers: TaskAnswers, alphas: Sequence[float]) -> SetTable:
    """Return the limits of every class at the error rates of `GRID` and `alphas`.

    Every class needs a person; a rate that the people of a class do not carry is not in its row.
    """
    classes = {}
    for code, (name, n_people) in enumerate(answers.count_people().items()):
        own = answers.targets == code
        least = math.ceil(smallest_alpha(n_people) * DIGITS) / DIGITS
        rows = tuple(sorted({least, *(each for each in (*GRID, *alphas) if each > least)}))
        limits = fit_limits(answers.probs[own, code], answers.people[own], rows)
        classes[name] = ClassLimits(n_people, rows, tuple(map(float, limits)))
    return SetTable(classes)


def score_coverage(
    answers: TaskAnswers, limits: npt.NDArray[np.float64], alphas: Sequence[float]
) -> list[SetScore]:
    """Score the sets over all people, each class, each slice and, where known, in swapped rooms.

    Args:
        limits: (A, P, C) limits for each of the P persons at each of the A error rates.
    """
    found = []
    for number, alpha in enumerate(alphas):
        own = limits[number, answers.people]
        possible = np.asarray(answers.probs >= own)
        for by, value, inside in _parts(answers):
            found.append(_score(answers, alpha, by, value, possible[inside], inside))
        if answers.swapped is not None:
            rows, probs = answers.swapped
            there = np.asarray(probs >= own[rows])
            found.append(_score(answers, alpha, "room", "swapped", there, rows))
    return found


def _parts(answers: TaskAnswers) -> list[tuple[str, str, Ints]]:
    """Return (fact, value, rows) of all photos, of each class, and of each slice."""
    parts: list[tuple[str, str, Ints]] = [("", "", np.arange(len(answers.targets)))]
    for code, name in enumerate(answers.classes):
        parts.append((answers.task, name, np.flatnonzero(answers.targets == code)))
    for by, words in answers.facts.items():
        if by == answers.task:
            continue
        column = np.asarray(words, dtype=object)
        for value in sorted({each for each in words if each is not None}):
            rows = np.flatnonzero(column == value)
            if len(rows) < len(words) and len(np.unique(answers.people[rows])) >= MIN_PEOPLE:
                parts.append((by, value, rows))
    return parts


def _score(
    answers: TaskAnswers,
    alpha: float,
    by: str,
    value: str,
    possible: npt.NDArray[np.bool_],
    rows: Ints,
) -> SetScore:
    people = answers.people[rows]
    shares = score_sets(possible, answers.targets[rows], people, resamples=RESAMPLES)
    return SetScore(answers.task, alpha, by, value, len(np.unique(people)), len(rows), shares)

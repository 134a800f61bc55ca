"""Scores of parts of the photos, the worst first: where is a model wrong?

Knows class numbers, persons and words; knows nothing of where they come from. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cropfirst.core.bootstrap import Interval
from cropfirst.stage2_classify.metrics.intervals import score_intervals
from cropfirst.stage2_classify.metrics.scores import confusion

Ints = npt.NDArray[np.integer]

FEWEST = 20
"""Photos below which a slice is listed last: its score is mostly chance."""
RESAMPLES = 500


@dataclass(frozen=True)
class Slice:
    """One part of the photos."""

    task: str
    by: str
    value: str
    n_photos: int
    n_people: int
    macro_f1: Interval
    """Over the classes that occur in this part, in the truth or in the answers."""
    accuracy: Interval
    expected: float
    """The accuracy that it would have if each of its classes were recognised as often as on all
    other photos; nan: there are no others."""
    matrix: npt.NDArray[np.int64]
    """(C, C) counts, truth in rows."""

    @property
    def gap(self) -> float:
        """Accuracy above what was to be expected; 0 where nothing was."""
        return 0.0 if np.isnan(self.expected) else self.accuracy.value - self.expected

    @property
    def is_small(self) -> bool:
        """Whether it is too small to be believed."""
        return self.n_photos < FEWEST

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        data = {name: value for name, value in asdict(self).items() if name != "matrix"}
        data["expected"] = None if np.isnan(self.expected) else self.expected
        return {**data, "is_small": self.is_small, "confusion": self.matrix.tolist()}


def score_slices(
    task: str,
    *,
    targets: Ints,
    preds: Ints,
    people: Ints,
    n_classes: int,
    facts: Mapping[str, Sequence[str | None]],
) -> tuple[Slice, ...]:
    """Score every part, the worst first and the small ones last.

    The worst is the one furthest below the accuracy to be expected of its classes: a part that has
    many of a hard class is not worse for that.

    Args:
        facts: by what -> one word a photo. The task itself is no slice: its classes are scored as
            classes.
    """
    found = []
    for by, words in facts.items():
        if by == task:
            continue
        column = np.asarray(words, dtype=object)
        known = np.array([word is not None for word in words], dtype=bool)
        for value in sorted({word for word in words if word is not None}):
            inside = column == value
            found.append(
                _score(
                    task, by, value, inside, known & ~inside, targets=targets, preds=preds,
                    people=people, n_classes=n_classes,
                )
            )  # fmt: skip
    return tuple(sorted(found, key=lambda each: (each.is_small, each.gap)))


def _score(
    task: str,
    by: str,
    value: str,
    inside: npt.NDArray[np.bool_],
    outside: npt.NDArray[np.bool_],
    *,
    targets: Ints,
    preds: Ints,
    people: Ints,
    n_classes: int,
) -> Slice:
    persons = np.unique(people[inside], return_inverse=True)[1]
    f1, accuracy = score_intervals(
        persons, targets[inside], preds[inside], n_classes, resamples=RESAMPLES
    )
    expected = float("nan")
    if outside.any():
        elsewhere = confusion(targets[outside], preds[outside], n_classes)
        expected = _expected(elsewhere, np.bincount(targets[inside], minlength=n_classes))
    return Slice(
        task, by, value, int(inside.sum()), len(np.unique(persons)), f1, accuracy, expected,
        confusion(targets[inside], preds[inside], n_classes),
    )  # fmt: skip


def _expected(elsewhere: npt.NDArray[np.int64], counts: Ints) -> float:
    """Accuracy on so many photos of each class, by the recall of other photos.

    A class that the others have not takes their accuracy.
    """
    there = elsewhere.sum(axis=1)
    overall = np.trace(elsewhere) / max(int(there.sum()), 1)
    recall = np.where(there > 0, np.diag(elsewhere) / np.maximum(there, 1), overall)
    return float((recall * counts).sum() / max(int(counts.sum()), 1))

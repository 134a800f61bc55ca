"""Scores of slices, which are parts of the photos, the worst first.

Knows class numbers, persons and values of facts; knows nothing of where they come from. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cropfirst.core.bootstrap import Interval
from cropfirst.stage2_classify.metrics.intervals import score_intervals
from cropfirst.stage2_classify.metrics.scores import MajorityScore, confusion, majority_score

Ints = npt.NDArray[np.integer]

MIN_PHOTOS = 20
"""Number of photos below which a slice is listed last: its score is mostly chance."""
RESAMPLES = 500


@dataclass(frozen=True)
class Slice:
    """The scores of one part of the photos."""

    task: str
    by: str
    """Fact that divides the photos, such as gender or crop."""
    value: str
    """Value of that fact in this part."""
    n_photos: int
    n_people: int
    macro_f1: Interval
    """Macro F1 over the classes that occur in this part, as target or as prediction."""
    accuracy: Interval
    expected: float
    """Accuracy that it would have with the recall that each of its classes has on all other
    photos; NaN where there are no others."""
    matrix: npt.NDArray[np.int64]
    """(C, C) counts, truth in rows."""

    @property
    def majority(self) -> MajorityScore:
        """Scores of always predicting the most frequent class of this part."""
        return majority_score(self.matrix.sum(1))

    @property
    def gap(self) -> float:
        """Accuracy minus the expected accuracy; 0 where that is not known."""
        return 0.0 if np.isnan(self.expected) else self.accuracy.value - self.expected

    @property
    def is_small(self) -> bool:
        """Whether it has too few photos for a reliable score."""
        return self.n_photos < MIN_PHOTOS

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON types."""
        data = {name: value for name, value in asdict(self).items() if name != "matrix"}
        data["expected"] = None if np.isnan(self.expected) else self.expected
        return {
            **data,
            "majority_macro_f1": self.majority.macro_f1,
            "majority_accuracy": self.majority.accuracy,
            "is_small": self.is_small,
            "confusion": self.matrix.tolist(),
        }


def score_slices(
    task: str,
    *,
    targets: Ints,
    preds: Ints,
    people: Ints,
    n_classes: int,
    facts: Mapping[str, Sequence[str | None]],
) -> tuple[Slice, ...]:
    """Score every slice, the worst first and the small ones last.

    The worst slice is the one furthest below its expected accuracy, so a slice with many photos of
    a hard class is not worse for that.

    Args:
        facts: fact -> (N,) value per photo, None where it is not known. The task itself makes no
            slices.
    """
    found = []
    for by, values in facts.items():
        if by == task:
            continue
        column = np.asarray(values, dtype=object)
        known = np.array([each is not None for each in values], dtype=bool)
        for value in sorted({each for each in values if each is not None}):
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
    """Return the accuracy on (C,) counts of photos by the recall of each class on other photos.

    A class that does not occur there gets the overall accuracy.
    """
    there = elsewhere.sum(axis=1)
    overall = np.trace(elsewhere) / max(int(there.sum()), 1)
    recall = np.where(there > 0, np.diag(elsewhere) / np.maximum(there, 1), overall)
    return float((recall * counts).sum() / max(int(counts.sum()), 1))

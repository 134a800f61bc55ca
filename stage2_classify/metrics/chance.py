"""Whether predictions are better than chance, judged over people.

Balanced accuracy is the mean recall of the classes that occur (Brodersen, Ong, Stephan and Buhmann,
"The balanced accuracy and its posterior distribution", ICPR 2010). Of predictions that do not
depend on the photo it is 1 / number of classes on average, however the classes are distributed; of
any constant prediction, exactly. Accuracy has no such value: a run that recognises a rare class may
be below the accuracy of the most frequent one. Nor has macro F1: a coin is above the majority
there. Knows class numbers and persons; knows nothing of runs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cropfirst.core.bootstrap import Floats, Interval, Ints, bootstrap_intervals
from cropfirst.stage2_classify.metrics.intervals import count_cells

MIN_PEOPLE = 6
"""Number of people below which nothing is said to be better than chance: that all of fewer people
are above it happens by luck in more than 1 of 40 cases, the level of the interval's lower bound."""


@dataclass(frozen=True)
class ChanceTest:
    """A comparison of balanced accuracy with chance."""

    balanced_accuracy: float
    """Mean recall of the classes that occur, in [0, 1]."""
    chance: float
    """1 / number of classes that occur."""
    margin: Interval
    """Balanced accuracy minus chance, with its 95 % interval over people."""
    n_people: int

    @property
    def is_better(self) -> bool:
        """Whether the predictions are better than chance: the whole interval is above 0."""
        return self.n_people >= MIN_PEOPLE and self.margin.low > 0

    def __str__(self) -> str:
        """Return the figures, as they follow "no better than chance"."""
        margin = f"{self.margin.value:+.3f} [{self.margin.low:+.3f}, {self.margin.high:+.3f}]"
        who = "person" if self.n_people == 1 else "people"
        few = f"; {MIN_PEOPLE} or more are needed" if self.n_people < MIN_PEOPLE else ""
        return (
            f"balanced accuracy {self.balanced_accuracy:.3f}, chance {self.chance:.3f}, "
            f"difference {margin} over {self.n_people} {who}{few}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON types."""
        return {**asdict(self), "is_better": self.is_better}


def compare_with_chance(
    people: Ints, targets: Ints, preds: Ints, n_classes: int, *, resamples: int = 2000
) -> ChanceTest:
    """Compare (N,) predicted class numbers with chance.

    A resample with one class alone counts as not above chance: its recall is at most 1, and so is
    chance. So a class of very few people gives no evidence, whatever is predicted for them.

    Args:
        people: (N,) numbers of persons, from 0.

    Raises:
        ValueError: no photo.
    """
    if not len(targets):
        raise ValueError("a comparison with chance needs at least one photo")
    cells = count_cells(people, targets, preds, n_classes)

    def score(weights: Ints) -> Floats:
        return _margin(weights @ cells)[None]

    margin = bootstrap_intervals(score, cells.shape[0], resamples=resamples)[0]
    chance = 1.0 / len(np.unique(targets))
    return ChanceTest(margin.value + chance, chance, margin, len(np.unique(people)))


def _margin(cells: Ints) -> Floats:
    """Return (B,) margins over chance of (B, classes * classes) flattened confusion matrices."""
    side = round(cells.shape[1] ** 0.5)
    matrix = cells.reshape(-1, side, side)
    support = matrix.sum(2)
    recall = np.diagonal(matrix, axis1=1, axis2=2) / np.maximum(support, 1)
    # One subtraction, so that the margin of a constant prediction is exactly 0.
    return np.asarray((recall.sum(1) - 1) / np.maximum((support > 0).sum(1), 1), np.float64)

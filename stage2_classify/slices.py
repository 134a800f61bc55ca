"""Scores of parts of the photos, the worst first: where is a model wrong?

Knows class numbers, persons and words; knows nothing of where they come from. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cropfirst.stage2_classify.bootstrap import Interval, score_intervals
from cropfirst.stage2_classify.metrics import confusion

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
    rest: float
    """Macro F1 of all other photos, for which the value is known; nan: there are none."""
    matrix: npt.NDArray[np.int64]
    """(C, C) counts, truth in rows."""

    @property
    def is_small(self) -> bool:
        """Whether it is too small to be believed."""
        return self.n_photos < FEWEST

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        data = {name: value for name, value in asdict(self).items() if name != "matrix"}
        data["rest"] = None if np.isnan(self.rest) else self.rest
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
    return tuple(sorted(found, key=lambda each: (each.is_small, each.macro_f1.value)))


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
    rest = float("nan")
    if outside.any():
        # On the classes of the part alone: else a part without a rare class would look good.
        rest = _f1_on(targets[outside], preds[outside], np.unique(targets[inside]), n_classes)
    return Slice(
        task, by, value, int(inside.sum()), len(np.unique(persons)), f1, accuracy, rest,
        confusion(targets[inside], preds[inside], n_classes),
    )  # fmt: skip


def _f1_on(targets: Ints, preds: Ints, classes: Ints, n_classes: int) -> float:
    matrix = confusion(targets, preds, n_classes)
    total = matrix.sum(0) + matrix.sum(1)
    f1 = 2 * np.diag(matrix) / np.maximum(total, 1)
    return float(f1[classes].mean())

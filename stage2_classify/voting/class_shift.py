"""Differences between the class shares of predictions and of training: a check before submitting.

A difference is no proof of a fault: the photos may be of other people. But broken crops, a wrong
schema or a missing shortcut show here first. Knows counts; knows nothing of models. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LIMIT = 0.1
"""Shift above which a warning is given, where chance alone does not explain it."""
DRAWS = 2000


@dataclass(frozen=True)
class ClassShift:
    """Class shares of one task: in training, and as predicted."""

    task: str
    classes: tuple[str, ...]
    trained: tuple[float, ...]
    """Shares in training, summing to 1."""
    predicted: tuple[float, ...]
    """Shares as predicted, summing to 1."""
    value: float
    """Total variation in [0, 1]: the share of photos that would have to be of another class."""
    chance: float
    """Value that 99 of 100 random draws of as many photos from the training shares stay below."""

    @property
    def is_large(self) -> bool:
        """Whether the shift is worth a warning."""
        return self.value > max(LIMIT, self.chance)

    def __str__(self) -> str:
        pairs = zip(self.classes, self.trained, self.predicted, strict=True)
        shares = ", ".join(f"{name} {then:.1%} -> {now:.1%}" for name, then, now in pairs)
        return f"{self.task}: {shares} (shift {self.value:.1%})"


def class_shift(
    task: str, preds: npt.NDArray[np.integer], shares: npt.ArrayLike, classes: Sequence[str]
) -> ClassShift:
    """Compare (N,) predicted class numbers with the (C,) class shares in training."""
    trained = np.asarray(shares, np.float64)
    trained = trained / trained.sum()
    n_photos = max(len(preds), 1)
    predicted = np.bincount(preds, minlength=len(trained)) / n_photos
    drawn = np.random.default_rng(0).multinomial(n_photos, trained, DRAWS) / n_photos
    chance = float(np.quantile(np.abs(drawn - trained).sum(1) / 2, 0.99))
    return ClassShift(
        task,
        tuple(classes),
        tuple(trained.tolist()),
        tuple(predicted.tolist()),
        float(np.abs(predicted - trained).sum() / 2),
        chance,
    )

"""Are the classes predicted in the shares that they were trained in? A check before submitting.

A shift is no proof of a fault: the photos may be of other people. But a broken crop, a wrong schema
or a shortcut that is gone shows here first. Knows counts; knows nothing of models. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.stage2_classify.voting.weighting import class_shift

LIMIT = 0.1
"""Shift from which a warning is given, where chance alone does not explain it."""
DRAWS = 2000


@dataclass(frozen=True)
class Shift:
    """One task's predicted class shares beside those in training."""

    task: str
    classes: tuple[str, ...]
    trained: tuple[float, ...]
    """Shares in training, summing to 1."""
    predicted: tuple[float, ...]
    """Shares of the answers."""
    value: float
    """Total variation in [0, 1]: the share of photos that would have to be of another class."""
    chance: float
    """What 99 of 100 draws of as many photos from training's shares stay below."""

    @property
    def is_large(self) -> bool:
        """Whether a person should look."""
        return self.value > max(LIMIT, self.chance)

    def __str__(self) -> str:
        pairs = zip(self.classes, self.trained, self.predicted, strict=True)
        shares = ", ".join(f"{name} {then:.1%} -> {now:.1%}" for name, then, now in pairs)
        return f"{self.task}: {shares} (shift {self.value:.1%})"


def shift_of(
    task: str, preds: npt.NDArray[np.integer], shares: npt.ArrayLike, classes: Sequence[str]
) -> Shift:
    """Compare (N,) class numbers with the classes' shares in training."""
    trained = np.asarray(shares, np.float64)
    trained = trained / trained.sum()
    counts = np.bincount(preds, minlength=len(trained))
    n_photos = max(len(preds), 1)
    drawn = np.random.default_rng(0).multinomial(n_photos, trained, DRAWS) / n_photos
    chance = float(np.quantile(np.abs(drawn - trained).sum(1) / 2, 0.99))
    return Shift(
        task,
        tuple(classes),
        tuple(trained.tolist()),
        tuple((counts / n_photos).tolist()),
        class_shift(preds, trained),
        chance,
    )

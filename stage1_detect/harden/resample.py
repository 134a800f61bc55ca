"""How sure a figure over photos is: a bootstrap that draws whole photos again, since faces of one
photo are lost together.

Percentile intervals (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
Knows counts a photo, and nothing of what they count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CELLS_AT_ONCE = 1 << 22
"""Drawn photos in one block: 32 MiB of counts."""


@dataclass(frozen=True)
class Interval:
    """A value with the percentile interval of the resamples."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0: of interest where this is a difference."""
        return self.low > 0 or self.high < 0


def resampled(
    score: Callable[[Ints], Floats], photos: int, resamples: int, seed: int
) -> list[Interval]:
    """Values of all photos with their 95 % intervals.

    Args:
        score: maps (B, photos) draws, how often each photo is drawn, to (K, B) values; a value that
            a draw does not have is NaN, and left out.

    Returns:
        K values.
    """
    values = score(np.ones((1, photos), np.int64))[:, 0]
    drawn = np.concatenate([score(w) for w in _draw(photos, resamples, seed)], axis=1)
    intervals = []
    for value, row in zip(values, drawn, strict=True):
        known = row[~np.isnan(row)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
        intervals.append(Interval(float(value), float(low), float(high)))
    return intervals


def _draw(photos: int, resamples: int, seed: int) -> Iterator[Ints]:
    """Blocks of (B, photos): how often each photo is drawn."""
    rng = np.random.default_rng(seed)
    block = max(CELLS_AT_ONCE // photos, 1)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, photos, (rows, photos)) + np.arange(rows)[:, None] * photos
        yield np.bincount(drawn.ravel(), minlength=rows * photos).reshape(rows, photos)

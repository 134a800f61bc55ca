"""How sure a figure is: a bootstrap that draws whole units again, photos or people, since what
belongs to one of them stands or falls together.

Percentile intervals (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
Knows how often each unit is drawn, and nothing of what is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]

CELLS_AT_ONCE = 1 << 22
"""Drawn units in one block: 32 MiB of counts."""


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

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def resampled(
    score: Callable[[Ints], Floats],
    units: int,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Interval, ...]:
    """Values of all units with their intervals.

    Args:
        score: maps (B, units) draws, how often each unit is drawn, to (K, B) values; a value that a
            draw does not have is NaN, and left out.
        level: share of the resamples that lies within the interval.

    Returns:
        K values.
    """
    values = score(np.ones((1, units), np.int64))[:, 0]
    drawn = np.concatenate([score(w) for w in _draw(units, resamples, seed)], axis=1)
    tails = [(1 - level) / 2, 1 - (1 - level) / 2]
    intervals = []
    for value, row in zip(values, drawn, strict=True):
        known = row[~np.isnan(row)]
        low, high = np.quantile(known, tails) if len(known) else (np.nan, np.nan)
        intervals.append(Interval(float(value), float(low), float(high)))
    return tuple(intervals)


def _draw(units: int, resamples: int, seed: int) -> Iterator[Ints]:
    """Blocks of (B, units): how often each unit is drawn."""
    rng = np.random.default_rng(seed)
    block = max(CELLS_AT_ONCE // units, 1)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, units, (rows, units)) + np.arange(rows)[:, None] * units
        yield np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)

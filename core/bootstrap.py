"""Compute confidence intervals by the cluster bootstrap.

Units are resampled with replacement, for example people with all their photos, because photos of
one person are not independent. Percentile intervals (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, chapter 13). Knows how often each unit is drawn; knows nothing of the score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]

BLOCK_CELLS = 1 << 22
"""Number of counts computed at once: 32 MiB."""


@dataclass(frozen=True)
class Interval:
    """A value and its percentile interval over the resamples."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0; meaningful for a difference."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_intervals(
    score: Callable[[Ints], Floats],
    units: int,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Interval, ...]:
    """Return K values over all units with their bootstrap intervals.

    Args:
        score: maps (B, units) counts, how often each unit is drawn, to (K, B) values. NaN marks a
            value that a draw does not have; it is left out of the interval.
        units: number of units.
        level: share of the resamples within the interval.
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
    """Yield blocks of (B, units) counts of how often each unit is drawn."""
    rng = np.random.default_rng(seed)
    block = max(BLOCK_CELLS // units, 1)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, units, (rows, units)) + np.arange(rows)[:, None] * units
        yield np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)

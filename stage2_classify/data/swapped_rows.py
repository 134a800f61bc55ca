"""The rows of swapped crops: photos whose heads were put into the rooms of other people.

In a `CropSource`, they follow the rows of the photos themselves. Knows keys and row numbers; opens
no crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cropfirst.cache import CropSet
from cropfirst.cache.swapped import SwappedTwin, draw_fingerprint

Rows = NDArray[np.int64]
SCORING_DRAW = 0
"""Draw that models are scored on. The later draws are for training alone."""


@dataclass(frozen=True)
class SwappedRows:
    """Rows of the swapped crops of N photos."""

    photos: Rows
    """(M,) row of the photo that each swapped crop shows; the crop's own row is N more than its
    index here."""
    draws: Rows
    """(M,) draw of each swapped crop."""
    parts: tuple[tuple[CropSet, tuple[str, ...]], ...]
    """Crop set and keys of each draw, in the order of the rows."""
    n_photos: int
    """N, the number of photos."""

    @property
    def fingerprint(self) -> str:
        """Hash of the swapped crops that models are scored on, 16 hex characters."""
        draw, keys = self.parts[SCORING_DRAW]
        return draw_fingerprint(draw, draw.manifest.read(keys))

    def scored(self, photos: Rows) -> Rows:
        """Return the (n,) rows of the scored crops of some photos; some photos have none."""
        scored = np.flatnonzero(self.draws == SCORING_DRAW)
        return scored[np.isin(self.photos[scored], photos)] + self.n_photos

    def photos_of(self, rows: Rows) -> Rows:
        """Return the rows of the photos that swapped crops show."""
        return self.photos[rows - self.n_photos]

    def by_photo(self) -> Rows:
        """Return the (N, D) rows of the draws for training of each photo; -1 where it has none."""
        drawn = np.unique(self.draws[self.draws != SCORING_DRAW])
        table = np.full((self.n_photos, len(drawn)), -1, np.int64)
        for column, draw in enumerate(drawn):
            index = np.flatnonzero(self.draws == draw)
            table[self.photos[index], column] = index + self.n_photos
        return table

    def extend(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return (N, ...) values of the photos, followed by those of the swapped crops."""
        return np.concatenate([values, values[self.photos]])


def build_swapped_rows(
    twin: SwappedTwin, keys: Sequence[str], *, n_training_draws: int
) -> SwappedRows:
    """Number the swapped crops of some photos.

    Args:
        keys: the N photos, by row.
        n_training_draws: number of draws to train on.
    """
    rows = np.array([row for row, key in enumerate(keys) if key in twin.usable], np.int64)
    names = tuple(keys[row] for row in rows)
    draws = twin.draws[: 1 + n_training_draws]
    return SwappedRows(
        photos=np.tile(rows, len(draws)),
        draws=np.repeat(np.arange(len(draws)), len(rows)),
        parts=tuple((draw, names) for draw in draws),
        n_photos=len(keys),
    )

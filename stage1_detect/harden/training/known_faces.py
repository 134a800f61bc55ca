"""Known faces of a photo with the mask state of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MASK_STATES = ("wear", "incorrect", "normal")
"""A mask is worn, worn wrongly (nose or mouth bare), or not worn."""


@dataclass(frozen=True)
class KnownFaces:
    """Boxes and mask states of the N faces of one photo."""

    boxes: np.ndarray
    """(N, 4) float32 xyxy in photo pixels."""
    states: tuple[str, ...]
    """N values of `MASK_STATES`, or "" if a face's state is unknown."""

    def __len__(self) -> int:
        return len(self.boxes)

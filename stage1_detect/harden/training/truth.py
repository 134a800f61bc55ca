"""Faces that are known, and the mask state of each. What harden learns from and is measured on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STATES = ("wear", "incorrect", "normal")
"""Mask worn, worn wrongly (nose or mouth bare), none."""


@dataclass(frozen=True)
class KnownFaces:
    """The faces of one photo."""

    boxes: np.ndarray
    """(N, 4) float32 xyxy in photo pixels."""
    states: tuple[str, ...]
    """N of `STATES`, or "" where a face's state is not known."""

    def __len__(self) -> int:
        return len(self.boxes)

"""The faces that a detector found in one photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Detections:
    """All faces of one photo, best score first. No face is zero rows, never None."""

    boxes: np.ndarray
    """(N, 4) float32 xyxy in photo pixels; may reach a little past the photo's edge."""
    probs: np.ndarray
    """(N,) float32 in [0, 1]."""
    landmarks: np.ndarray
    """(N, 5, 2) float32 x, y of the left eye, right eye, nose, left and right corner of the mouth;
    left and right are the viewer's."""

    def __len__(self) -> int:
        return len(self.boxes)

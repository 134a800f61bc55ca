"""The view of a photo in a retry step, and the way back to the photo's own coordinates."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from cropfirst.core.faces.detections import Detections

# Left and right are exchanged in a mirror image: eyes (0, 1) and corners of the mouth (3, 4).
_MIRRORED = [1, 0, 2, 4, 3]
_MAX_ENLARGED_PIXELS = 16_000_000
"""Photos that an enlarging step would make larger than this are left out of it."""


class RetryStep(Protocol):
    """The changes that a retry step makes to a photo."""

    @property
    def flip(self) -> bool:
        """Whether the photo is mirrored."""

    @property
    def contrast(self) -> bool:
        """Whether the local contrast is equalised (CLAHE)."""

    @property
    def scale(self) -> float:
        """Factor by which the photo is enlarged."""


def is_small_enough(photo: np.ndarray, step: RetryStep) -> bool:
    """Return whether a step may look at the photo: enlarging a huge one would take gigabytes."""
    return step.scale <= 1 or photo.size / 3 * step.scale**2 <= _MAX_ENLARGED_PIXELS


def retry_view(photo: np.ndarray, step: RetryStep) -> np.ndarray:
    """Return the photo as a retry step looks at it: contrast, size, then mirror."""
    if step.contrast:
        lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB)
        lab[..., 0] = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply(lab[..., 0])
        photo = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    if step.scale != 1.0:
        size = tuple(max(1, round(side * step.scale)) for side in photo.shape[1::-1])
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_LINEAR)
    return photo[:, ::-1] if step.flip else photo


def map_back(faces: Detections, step: RetryStep, *, width: int) -> Detections:
    """Map boxes and landmarks of a step's view to the pixels of a photo of that width."""
    boxes, landmarks = faces.boxes / step.scale, faces.landmarks / step.scale
    if step.flip:
        boxes = boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (width, 0, width, 0)
        landmarks = landmarks[:, _MIRRORED] * (-1, 1) + (width, 0)
    return Detections(boxes.astype(np.float32), faces.probs, landmarks.astype(np.float32))

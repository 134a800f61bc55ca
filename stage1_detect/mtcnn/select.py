"""Which of a photo's faces is its main face. Methods and names are facenet-pytorch's."""

from __future__ import annotations

import numpy as np

from cropfirst.stage1_detect.mtcnn.detector import Detections

PROB_THRESHOLD = 0.9
"""Of `largest_over_threshold`."""
CENTER_WEIGHT = 2.0
"""Of `center_weighted_size`: weight of the squared offset from the photo's centre."""


def select_face(faces: Detections, method: str, *, height: int, width: int) -> int | None:
    """Index of the main face, None when there is none.

    Args:
        method: `largest` box; best `probability`; `largest_over_threshold`: the largest of those
            scored 0.9 or more, the best scored when none is; `center_weighted_size`: area minus
            twice the squared distance from the photo's centre.
        height: of the photo in pixels.
        width: of the photo in pixels.

    Raises:
        ValueError: an unknown method.
    """
    if not len(faces):
        return None
    size = faces.boxes[:, 2:] - faces.boxes[:, :2]
    area = size[:, 0] * size[:, 1]
    if method == "largest":
        return int(area.argmax())
    if method == "probability":
        return int(faces.probs.argmax())
    if method == "largest_over_threshold":
        sure = faces.probs >= PROB_THRESHOLD
        return int(np.where(sure, area, -1.0).argmax() if sure.any() else faces.probs.argmax())
    if method == "center_weighted_size":
        offset = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2 - np.array([width, height]) / 2
        return int((area - CENTER_WEIGHT * (offset**2).sum(axis=1)).argmax())
    raise ValueError(
        f"unknown selection method {method!r}: use largest, probability, "
        f"largest_over_threshold or center_weighted_size"
    )

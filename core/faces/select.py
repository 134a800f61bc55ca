"""The choice of a photo's main face. Methods and their names are facenet-pytorch's."""

from __future__ import annotations

import numpy as np

from cropfirst.core.faces.detections import Detections

PROB_THRESHOLD = 0.9
"""Score that `largest_over_threshold` asks for."""
CENTER_WEIGHT = 2.0
"""Weight of the squared offset from the photo's centre in `center_weighted_size`."""


def select_face(faces: Detections, method: str, *, height: int, width: int) -> int | None:
    """Return the index of the main face, None when there is none.

    Args:
        method: `largest` box; best `probability`; `largest_over_threshold`: the largest of those
            scored 0.9 or more, the best scored when none is; `center_weighted_size`: area minus
            twice the squared distance from the photo's centre.
        height: height of the photo in pixels.
        width: width of the photo in pixels.

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

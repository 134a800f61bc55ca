"""The search for the largest face of a photo: large faces first, and when it may end."""

from __future__ import annotations

from collections.abc import Sequence

from cropfirst.core.faces.detections import Detections

FIRST_FACE_SIZE = 0.25
"""Smallest face of the first search, as a fraction of the photo's shorter side."""
SURE_SCORE = 0.9
"""Score from which on a face may end the search."""
MAX_GROWTH = 2.5
"""A level's faces are at most this many times as large as its `face_size`. On 809 web photos of
crowds the largest face is then another one, or its box another (IoU < 0.9), once; with 2.0 twelve
times."""


def may_be_outgrown(faces: Detections, face_sizes: Sequence[float], searched: float) -> bool:
    """Return whether levels not searched yet could hold a larger face than every sure one.

    Args:
        face_sizes: size in pixels of the faces of each level.
        searched: face size, in pixels, down to which levels have been searched.
    """
    finer = [size for size in face_sizes if size < searched]
    if not finer:
        return False
    sure = faces.boxes[faces.probs >= SURE_SCORE]
    if not len(sure):
        return True
    sides = (sure[:, 2:] - sure[:, :2]).max(axis=1)
    return bool(sides.max() < MAX_GROWTH * max(finer))

"""The differences between two detectors' faces on the same photos.

Tests and benchmarks hold every engine to it; it knows no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cropfirst.core.faces.boxes import iou
from cropfirst.stage1_detect.mtcnn.detector import Detections


@dataclass(frozen=True)
class Parity:
    """The number of faces matched, and the largest differences among those."""

    faces: int
    """Number of the reference's faces."""
    matched: float
    """Share of the reference's faces that have a counterpart, in [0, 1]."""
    extra: float
    """Number of faces without a counterpart in the reference, per face of the reference."""
    box_px: float
    """Largest difference of a side, in photo pixels."""
    prob: float
    """Largest difference of a score."""
    landmark_px: float
    """Largest difference of a coordinate, in photo pixels."""
    unlike: tuple[int, ...]
    """Indices of the photos with a face that has no counterpart on the other side."""


def compare_faces(
    found: Sequence[Detections], wanted: Sequence[Detections], *, min_iou: float = 0.99
) -> Parity:
    """Compare a detector's faces with a reference's, photo by photo.

    Args:
        found: faces of the detector.
        wanted: faces of the reference on the same photos, in the same order.
        min_iou: overlap from which on two boxes are the same face.
    """
    faces = matched = extra = 0
    unlike = []
    worst = {"boxes": 0.0, "probs": 0.0, "landmarks": 0.0}
    for index, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
        overlap = iou(theirs.boxes, mine.boxes)
        lone = int((overlap < min_iou).all(axis=0).sum()) if len(mine) else 0
        rows = np.flatnonzero((overlap >= min_iou).any(axis=1))
        faces, matched, extra = faces + len(theirs), matched + len(rows), extra + lone
        if lone or len(rows) < len(theirs):
            unlike.append(index)
        best = overlap[rows].argmax(axis=1) if len(rows) else rows
        for name in worst:
            apart = np.abs(getattr(mine, name)[best] - getattr(theirs, name)[rows])
            worst[name] = max(worst[name], float(apart.max(initial=0.0)))
    return Parity(
        faces=faces,
        matched=matched / faces if faces else 1.0,
        extra=extra / max(faces, 1),
        box_px=worst["boxes"],
        prob=worst["probs"],
        landmark_px=worst["landmarks"],
        unlike=tuple(unlike),
    )

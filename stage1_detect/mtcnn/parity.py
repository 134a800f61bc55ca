"""How far two detectors' faces on the same photos differ. What the tests and benchmarks hold every
engine to; knows no engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cropfirst.stage1_detect.mtcnn.boxes import iou
from cropfirst.stage1_detect.mtcnn.detector import Detections


@dataclass(frozen=True)
class Parity:
    """Faces matched at an IoU, and the largest differences among those."""

    faces: int
    """Of the reference."""
    matched: float
    """Share of the reference's faces that have a counterpart."""
    extra: float
    """Faces without a counterpart in the reference, per face of the reference."""
    box_px: float
    """Largest difference of a side, in photo pixels."""
    prob: float
    """Largest difference of a score."""
    landmark_px: float
    """Largest difference of a coordinate, in photo pixels."""
    unlike: tuple[int, ...]
    """Photos (by place in the sequence) that hold a face without a counterpart on either side."""


def compare_faces(
    found: Sequence[Detections], wanted: Sequence[Detections], *, min_iou: float = 0.99
) -> Parity:
    """Compare a detector's faces with a reference's, photo by photo.

    Args:
        found: the detector's.
        wanted: the reference's, on the same photos in the same order.
        min_iou: from which overlap on two boxes are the same face.
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

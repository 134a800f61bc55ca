"""What is taken for the truth of each photo: the teacher's own faces, and boxes that came with it.

Boxes drawn by people follow another convention than MTCNN's; it is learnt from the faces that both
know, and taken out, so that the student goes on to speak MTCNN's. Changes no photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cropfirst.stage1_detect.harden.training.truth import KnownFaces
from cropfirst.stage1_detect.mtcnn.boxes import iou
from cropfirst.stage1_detect.mtcnn.detector import Detections

_SAME = 0.5
"""IoU from which on a person's box and the teacher's are of one face."""
_OTHER = 0.2
"""IoU below which the teacher's face is none of the known ones."""
_ENOUGH = 20
"""Pairs from which on the convention of a set of boxes can be told."""


@dataclass(frozen=True)
class Taught:
    """The faces of one photo, as harden takes them to be."""

    boxes: np.ndarray
    """(N, 4) float32 xyxy, in MTCNN's convention."""
    landmarks: np.ndarray
    """(N, 5, 2) float32; NaN where they are not known."""
    states: tuple[str, ...]
    """N of `STATES`, or ""."""
    doubtful: np.ndarray
    """(M, 4) float32: places that may hold a face or not; nothing is taught about them."""
    complete: bool
    """Whether all faces are known: what is none of them is no face."""

    def __len__(self) -> int:
        return len(self.boxes)


def from_teacher(faces: Detections, *, sure: float) -> Taught:
    """A photo without boxes: the teacher's sure faces, all taken for bare."""
    good = faces.probs >= sure
    return Taught(
        boxes=faces.boxes[good],
        landmarks=faces.landmarks[good],
        states=("normal",) * int(good.sum()),
        doubtful=faces.boxes[~good],
        complete=False,
    )


def learn_convention(
    known: Sequence[KnownFaces], found: Sequence[Detections], *, sure: float
) -> np.ndarray | None:
    """What to add to each side of a person's box, as fractions of its width and height, to come to
    MTCNN's: the median over faces that both know.

    Returns:
        (4,) float32; None where too few faces are known to both.
    """
    offsets = []
    for faces, theirs in zip(known, found, strict=True):
        for box, best in _pairs(faces.boxes, theirs, sure=sure):
            size = np.tile(box[2:] - box[:2], 2)
            offsets.append((theirs.boxes[best] - box) / size)
    return np.median(offsets, axis=0).astype(np.float32) if len(offsets) >= _ENOUGH else None


def from_boxes(
    known: KnownFaces, faces: Detections, *, convention: np.ndarray | None, sure: float
) -> Taught:
    """A photo with boxes: those, and the teacher's box and landmarks where it is sure of a bare
    one. What it takes for a face and nobody marked is left in doubt: mostly it is one."""
    boxes: np.ndarray = known.boxes.astype(np.float32)
    landmarks = np.full((len(boxes), 5, 2), np.nan, dtype=np.float32)
    if convention is not None:
        boxes = boxes + convention * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    for index, state in enumerate(known.states):
        for _, best in _pairs(known.boxes[index : index + 1], faces, sure=sure):
            if state in {"normal", ""}:
                boxes[index], landmarks[index] = faces.boxes[best], faces.landmarks[best]
    unmarked = (iou(faces.boxes, known.boxes) < _OTHER).all(axis=1)
    return Taught(boxes, landmarks, known.states, faces.boxes[unmarked], complete=True)


def _pairs(boxes: np.ndarray, faces: Detections, *, sure: float) -> list[tuple[np.ndarray, int]]:
    """(box, row of the teacher's face) for each box that it is sure of."""
    if not len(boxes) or not len(faces):
        return []
    overlap = iou(boxes, faces.boxes) * (faces.probs >= sure)
    best = overlap.argmax(axis=1)
    return [
        (box, int(b)) for box, row, b in zip(boxes, overlap, best, strict=True) if row[b] >= _SAME
    ]

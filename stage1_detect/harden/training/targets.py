"""Training targets of each photo, from the teacher's faces and from boxes that people drew.

People draw boxes by another convention than MTCNN's. The difference is estimated from the faces
that both know, and removed, so that the student keeps MTCNN's convention. Changes no photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cropfirst.core.faces.boxes import iou
from cropfirst.stage1_detect.harden.training.known_faces import KnownFaces
from cropfirst.stage1_detect.mtcnn.detector import Detections

_SAME_FACE = 0.5
"""IoU from which on a drawn box and the teacher's box are of one face."""
_OTHER_FACE = 0.2
"""IoU below which the teacher's face is none of the drawn ones."""
_MIN_PAIRS = 20
"""Lowest number of faces from which the convention is estimated."""


@dataclass(frozen=True)
class FaceTargets:
    """The faces of one photo that the student is trained to find."""

    boxes: np.ndarray
    """(N, 4) float32 xyxy, in MTCNN's convention."""
    landmarks: np.ndarray
    """(N, 5, 2) float32; NaN if unknown."""
    states: tuple[str, ...]
    """N values of `MASK_STATES`, or "" if unknown."""
    doubtful: np.ndarray
    """(M, 4) float32 places that may hold a face; nothing is trained on them."""
    complete: bool
    """Whether all faces are known, so that everything else is no face."""

    def __len__(self) -> int:
        return len(self.boxes)


def targets_from_teacher(faces: Detections, *, sure: float) -> FaceTargets:
    """Take the teacher's faces with a score of at least `sure`, all as bare ones."""
    good = faces.probs >= sure
    return FaceTargets(
        boxes=faces.boxes[good],
        landmarks=faces.landmarks[good],
        states=("normal",) * int(good.sum()),
        doubtful=faces.boxes[~good],
        complete=False,
    )


def targets_from_boxes(
    known: KnownFaces, faces: Detections, *, convention: np.ndarray | None, sure: float
) -> FaceTargets:
    """Take drawn boxes; the teacher's box and landmarks replace those of bare faces.

    The teacher's faces that nobody drew are doubtful, since most of them are faces.

    Args:
        known: drawn boxes.
        faces: the teacher's faces.
        convention: see `estimate_convention`; None leaves the boxes as drawn.
        sure: lowest score at which the teacher's face replaces a drawn one.
    """
    boxes: np.ndarray = known.boxes.astype(np.float32)
    landmarks = np.full((len(boxes), 5, 2), np.nan, dtype=np.float32)
    if convention is not None:
        boxes = boxes + convention * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    for row, match in _match(known.boxes, faces, sure=sure):
        if known.states[row] in {"normal", ""}:
            boxes[row], landmarks[row] = faces.boxes[match], faces.landmarks[match]
    unmarked = (iou(faces.boxes, known.boxes) < _OTHER_FACE).all(axis=1)
    return FaceTargets(boxes, landmarks, known.states, faces.boxes[unmarked], complete=True)


def estimate_convention(
    known: Sequence[KnownFaces], found: Sequence[Detections], *, sure: float
) -> np.ndarray | None:
    """Estimate what to add to people's boxes to get MTCNN's: the median over common faces.

    Args:
        known: drawn boxes of each photo.
        found: the teacher's faces in the same photos.
        sure: lowest score of a teacher's face that is used.

    Returns:
        (4,) float32 fractions of a box's width and height; None if too few faces are in both.
    """
    offsets = []
    for drawn, faces in zip(known, found, strict=True):
        for row, match in _match(drawn.boxes, faces, sure=sure):
            box = drawn.boxes[row]
            offsets.append((faces.boxes[match] - box) / np.tile(box[2:] - box[:2], 2))
    if len(offsets) < _MIN_PAIRS:
        return None
    return np.median(offsets, axis=0).astype(np.float32)


def _match(boxes: np.ndarray, faces: Detections, *, sure: float) -> list[tuple[int, int]]:
    """Return (row of the box, row of the teacher's face) of each box with a certain face."""
    if not len(boxes) or not len(faces):
        return []
    overlap = iou(boxes, faces.boxes) * (faces.probs >= sure)
    best = overlap.argmax(axis=1)
    return [(row, int(col)) for row, col in enumerate(best) if overlap[row, col] >= _SAME_FACE]

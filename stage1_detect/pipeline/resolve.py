"""One face for every photo: its own, one borrowed from the same person, or the typical place.

The chain behind `status`: detected or retried (the photo's own main face) -> sibling (where the
same person's face is in their other photos) -> prior (where faces are in this data set). Works on
rows alone, in fractions of the photo's size, so that photos of different sizes can help each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cropfirst.stage1_detect.config import CropConfig
from cropfirst.stage1_detect.mtcnn.boxes import iou
from cropfirst.stage1_detect.mtcnn.detector import Detections
from cropfirst.stage1_detect.mtcnn.select import select_face
from cropfirst.stage1_detect.photos.read import PhotoRef

NO_FACE_ANYWHERE = np.array([0.3, 0.25, 0.7, 0.65], dtype=np.float64)
"""The prior of a data set in which no face was found at all: a box above the middle."""


PLACED_ALIKE = 0.5
"""Median IoU of the faces with their typical box, from which on a data set counts as portraits."""


@dataclass(frozen=True)
class Face:
    """The main face of one photo, and how it was come by."""

    status: str
    """`detected`, `retried`, `sibling`, `prior` or `unreadable`."""
    box: np.ndarray | None = None
    """(4,) float32 xyxy in photo pixels; None only where the photo is unreadable."""
    prob: float | None = None
    """Detector's score; None for borrowed boxes."""
    landmarks: np.ndarray | None = None
    """(5, 2) float32; None for borrowed boxes."""


def faces_of_row(row: Mapping[str, Any]) -> Detections:
    """The faces that a detection row holds."""
    return Detections(
        np.asarray(row["boxes"], dtype=np.float32).reshape(-1, 4),
        np.asarray(row["probs"], dtype=np.float32),
        np.asarray(row["landmarks"], dtype=np.float32).reshape(-1, 5, 2),
    )


def own_face(row: Mapping[str, Any], method: str) -> Face | None:
    """The photo's own main face, None when the detector missed it or it could not be read."""
    if row["found"] not in {"detected", "retried"}:
        return None
    faces = faces_of_row(row)
    index = select_face(faces, method, height=row["height"], width=row["width"])
    if index is None:
        return None
    return Face(row["found"], faces.boxes[index], float(faces.probs[index]), faces.landmarks[index])


class Resolver:
    """Decides the face of every photo, once all rows are there.

    What a retry found is a weaker find: measured on masked faces, it sits on the face in nine of
    ten photos where it agrees with the same person's other photos, and in hardly any where it does
    not. So it must agree with the sibling's box (or the typical one) where the data set's faces are
    placed alike; crowds and snapshots, where they are not, are left alone.

    Args:
        photos: all photos of the data set.
        rows: detection row by key; every photo has one.
        config: selection method and `min_agreement`.
    """

    def __init__(
        self,
        photos: Sequence[PhotoRef],
        rows: Mapping[str, Mapping[str, Any]],
        *,
        config: CropConfig,
    ) -> None:
        self.rows = rows
        self.own = {photo.key: own_face(rows[photo.key], config.select) for photo in photos}
        sure = [photo for photo in photos if self._status(photo) == "detected"]
        sure = sure or [photo for photo in photos if self._status(photo) == "retried"]
        by_group: dict[str, list[np.ndarray]] = defaultdict(list)
        for photo in sure:
            if photo.group is not None:
                by_group[photo.group].append(self._relative(photo.key))
        self._siblings = {group: np.median(boxes, axis=0) for group, boxes in by_group.items()}
        train = [photo for photo in sure if photo.split == "train"] or sure
        known = [self._relative(photo.key) for photo in train]
        self.prior = np.median(known, axis=0) if known else NO_FACE_ANYWHERE
        alike = bool(known) and float(np.median(iou(np.array(known), self.prior))) >= PLACED_ALIKE
        self.min_agreement = config.min_agreement if alike else 0.0

    def face(self, photo: PhotoRef) -> Face:
        """The face of one photo; only an unreadable photo has no box."""
        row = self.rows[photo.key]
        if row["found"] == "unreadable":
            return Face("unreadable")
        own, sibling = self.own[photo.key], self._siblings.get(photo.group or "")
        expected = self.prior if sibling is None else sibling
        if own is not None and (own.status == "detected" or self._agrees(photo, expected)):
            return own
        status = "prior" if sibling is None else "sibling"
        return Face(status, self._on_photo(expected, row))

    def _status(self, photo: PhotoRef) -> str | None:
        own = self.own[photo.key]
        return None if own is None else own.status

    def _agrees(self, photo: PhotoRef, expected: np.ndarray) -> bool:
        return bool(iou(self._relative(photo.key), expected)[0, 0] >= self.min_agreement)

    def typical_box(self, key: str) -> np.ndarray:
        """(4,) float32: the data set's typical face box on this photo, whatever is on it."""
        return self._on_photo(self.prior, self.rows[key])

    def _relative(self, key: str) -> np.ndarray:
        face, row = self.own[key], self.rows[key]
        assert face is not None and face.box is not None
        return np.asarray(face.box, dtype=np.float64) / _size(row)

    def _on_photo(self, box: np.ndarray, row: Mapping[str, Any]) -> np.ndarray:
        return (box * _size(row)).astype(np.float32)


def _size(row: Mapping[str, Any]) -> np.ndarray:
    return np.array([row["width"], row["height"]] * 2, dtype=np.float64)

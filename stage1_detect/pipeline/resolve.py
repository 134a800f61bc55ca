"""Decide the main face of every photo: its own, a sibling's box, or the data set's typical box.

The chain behind `status`: detected or retried (the photo's own face), sibling (where the same
person's face is in their other photos), prior (where faces usually are in this data set). Works on
rows alone, in fractions of the photo's size, so that photos of any size can be compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cropfirst.core.faces.boxes import iou
from cropfirst.core.faces.select import select_face
from cropfirst.stage1_detect.config import CropConfig
from cropfirst.stage1_detect.mtcnn.detector import Detections
from cropfirst.stage1_detect.photos.read import PhotoRef

NO_FACE_ANYWHERE = np.array([0.3, 0.25, 0.7, 0.65], dtype=np.float64)
"""Typical box of a data set without any face, as fractions xyxy: above the middle."""
MIN_PORTRAIT_IOU = 0.5
"""Median IoU of faces with their typical box from which on a data set counts as portraits."""


@dataclass(frozen=True)
class MainFace:
    """The main face of one photo, and where its box comes from."""

    status: str
    """`detected`, `retried`, `sibling`, `prior` or `unreadable`."""
    box: np.ndarray | None = None
    """(4,) float32 xyxy in photo pixels; None only for an unreadable photo."""
    prob: float | None = None
    """Score of the detector in [0, 1]; None for a sibling's or the typical box."""
    landmarks: np.ndarray | None = None
    """(5, 2) float32 x, y in photo pixels; None for a sibling's or the typical box."""


def faces_of_row(row: Mapping[str, Any]) -> Detections:
    """Return the faces in a detection row."""
    return Detections(
        np.asarray(row["boxes"], dtype=np.float32).reshape(-1, 4),
        np.asarray(row["probs"], dtype=np.float32),
        np.asarray(row["landmarks"], dtype=np.float32).reshape(-1, 5, 2),
    )


def own_face(row: Mapping[str, Any], method: str) -> MainFace | None:
    """Return the photo's own main face; None if none was found or the photo is unreadable."""
    if row["found"] not in {"detected", "retried"}:
        return None
    faces = faces_of_row(row)
    index = select_face(faces, method, height=row["height"], width=row["width"])
    if index is None:
        return None
    return MainFace(
        row["found"], faces.boxes[index], float(faces.probs[index]), faces.landmarks[index]
    )


class FaceResolver:
    """Decides the main face of every photo once all detection rows are known.

    A face found by a retry is less certain: measured on masked faces, it is right in nine of ten
    photos where it agrees with the same person's other photos, and hardly ever where it does not.
    So in portraits it must overlap the sibling's (or the typical) box; in crowds and snapshots,
    where faces have no typical place, every retry is accepted.
    """

    def __init__(
        self,
        photos: Sequence[PhotoRef],
        rows: Mapping[str, Mapping[str, Any]],
        *,
        config: CropConfig,
    ) -> None:
        """Compute the boxes of siblings and the typical box.

        Args:
            photos: all photos of the data set.
            rows: detection row by key; every photo has one.
            config: selection method and `min_agreement`.
        """
        self.rows = rows
        self.own = {photo.key: own_face(rows[photo.key], config.select) for photo in photos}
        certain = [photo for photo in photos if self._status(photo) == "detected"]
        certain = certain or [photo for photo in photos if self._status(photo) == "retried"]
        by_group: dict[str, list[np.ndarray]] = defaultdict(list)
        for photo in certain:
            if photo.group is not None:
                by_group[photo.group].append(self._relative(photo.key))
        self._siblings = {group: np.median(boxes, axis=0) for group, boxes in by_group.items()}
        train = [photo for photo in certain if photo.split == "train"] or certain
        known = [self._relative(photo.key) for photo in train]
        self.prior = np.median(known, axis=0) if known else NO_FACE_ANYWHERE
        portraits = bool(known) and (
            float(np.median(iou(np.array(known), self.prior))) >= MIN_PORTRAIT_IOU
        )
        self.min_agreement = config.min_agreement if portraits else 0.0

    def face(self, photo: PhotoRef) -> MainFace:
        """Return the main face of a photo; only an unreadable photo has no box."""
        row = self.rows[photo.key]
        if row["found"] == "unreadable":
            return MainFace("unreadable")
        own, sibling = self.own[photo.key], self._siblings.get(photo.group or "")
        expected = self.prior if sibling is None else sibling
        if own is not None and (own.status == "detected" or self._agrees(photo, expected)):
            return own
        status = "prior" if sibling is None else "sibling"
        return MainFace(status, self._on_photo(expected, row))

    def _status(self, photo: PhotoRef) -> str | None:
        own = self.own[photo.key]
        return None if own is None else own.status

    def _agrees(self, photo: PhotoRef, expected: np.ndarray) -> bool:
        return bool(iou(self._relative(photo.key), expected)[0, 0] >= self.min_agreement)

    def typical_box(self, key: str) -> np.ndarray:
        """Return the data set's typical face box on a photo: (4,) float32 xyxy in photo pixels."""
        return self._on_photo(self.prior, self.rows[key])

    def _relative(self, key: str) -> np.ndarray:
        face, row = self.own[key], self.rows[key]
        assert face is not None and face.box is not None
        return np.asarray(face.box, dtype=np.float64) / _size(row)

    def _on_photo(self, box: np.ndarray, row: Mapping[str, Any]) -> np.ndarray:
        return (box * _size(row)).astype(np.float32)


def _size(row: Mapping[str, Any]) -> np.ndarray:
    return np.array([row["width"], row["height"]] * 2, dtype=np.float64)

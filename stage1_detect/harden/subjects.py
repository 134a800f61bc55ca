"""The photos that harden learns from and is measured on, and which of them are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cropfirst.cache.errors import DetectError
from cropfirst.stage1_detect.harden.truth import KnownFaces
from cropfirst.stage1_detect.images import PhotoRef


@dataclass(frozen=True)
class Subject:
    """One photo."""

    key: str
    """Unique over all data sets: the data set's folder and the photo's key in it."""
    path: Path
    group: str
    """Photos of one person, which are held out together; the key where nobody knows."""
    known: KnownFaces | None
    """Its faces, where there are boxes."""


def gather(
    photos: Sequence[PhotoRef], root: Path, boxes: Mapping[str, KnownFaces] | None
) -> list[Subject]:
    """A data set's photos, with their boxes.

    Args:
        boxes: by the photos' keys; photos that it leaves out are photos without boxes.

    Raises:
        DetectError: the boxes are of other photos.
    """
    boxes = boxes or {}
    foreign = sorted(boxes.keys() - {photo.key for photo in photos})
    if foreign:
        raise DetectError(
            f"the boxes name photos that {root} does not hold, such as {foreign[0]!r} "
            f"({len(foreign)} of {len(boxes)}): their column `file` must hold paths below {root}"
        )
    name = root.resolve().name
    return [
        Subject(
            f"{name}/{photo.key}",
            photo.path,
            f"{name}/{photo.group or photo.key}",
            boxes.get(photo.key),
        )
        for photo in photos
    ]


def hold_out(
    subjects: Sequence[Subject], *, folds: int, fold: int | None
) -> tuple[list[Subject], list[Subject]]:
    """Those to learn from, and those of one fold to be measured on; nobody's photos are in both.

    Who is in which fold hangs on nothing but the person's name, so that it stays when photos come.
    """
    if fold is None:
        return list(subjects), []
    held = [_place(subject.group) % folds == fold for subject in subjects]
    return (
        [subject for subject, out in zip(subjects, held, strict=True) if not out],
        [subject for subject, out in zip(subjects, held, strict=True) if out],
    )


def _place(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")

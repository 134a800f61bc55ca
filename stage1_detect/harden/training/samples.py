"""The photos that harden learns from and is measured on, and which of them are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.harden.training.truth import KnownFaces
from cropfirst.stage1_detect.photos.read import PhotoRef

_SAME_LOOK = 8
"""Bits of 64 in which the hashes of one picture may differ: found by eye on web photos."""
_BLOCK = 2048


@dataclass(frozen=True)
class Subject:
    """One photo."""

    key: str
    """Unique over all data sets: the data set's folder and the photo's key in it."""
    photo: str
    """The photo's key in its data set."""
    path: Path
    group: str
    """Photos of one person, which are held out together; the key where nobody knows."""
    known: KnownFaces | None
    """Its faces, where there are boxes."""
    dataset: str
    """The data set's folder."""


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
            photo.key,
            photo.path,
            f"{name}/{photo.group or photo.key}",
            boxes.get(photo.key),
            name,
        )
        for photo in photos
    ]


def hold_out(
    subjects: Sequence[Subject],
    *,
    folds: int,
    fold: int | None,
    looks: Mapping[str, int] | None = None,
) -> tuple[list[Subject], list[Subject]]:
    """Those to learn from, and those of one fold to be measured on: nobody's photos are in both,
    nor is what is nearly the same picture.

    Who is in which fold hangs on names alone, so that it stays when other photos come.

    Args:
        looks: 64-bit perceptual hashes by key, of the photos that are to be compared.
    """
    if fold is None:
        return list(subjects), []
    names = _joined(subjects, looks or {})
    held = [_place(name) % folds == fold for name in names]
    return (
        [subject for subject, out in zip(subjects, held, strict=True) if not out],
        [subject for subject, out in zip(subjects, held, strict=True) if out],
    )


def _joined(subjects: Sequence[Subject], looks: Mapping[str, int]) -> list[str]:
    """For each photo the least group that it is joined with, by person or by look."""
    first: dict[str, int] = {}
    links = [(i, first.setdefault(each.group, i)) for i, each in enumerate(subjects)]
    rows = [i for i, each in enumerate(subjects) if each.key in looks]
    links += [(rows[a], rows[b]) for a, b in _alike([looks[subjects[row].key] for row in rows])]
    places = np.array(links).T
    graph = coo_matrix((np.ones(len(links)), places), shape=(len(subjects), len(subjects)))
    labels = connected_components(graph, directed=False)[1].tolist()
    least: dict[int, str] = {}
    for label, subject in zip(labels, subjects, strict=True):
        least[label] = min(least.get(label, subject.group), subject.group)
    return [least[label] for label in labels]


def _alike(looks: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of hashes that differ in few bits."""
    bits = np.array([[look >> bit & 1 for bit in range(64)] for look in looks], dtype=np.float32)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(looks), _BLOCK):
        block = bits[start : start + _BLOCK]
        apart = block @ (1 - bits.T) + (1 - block) @ bits.T
        pairs += [(start + int(a), int(b)) for a, b in np.argwhere(apart <= _SAME_LOOK)]
    return pairs


def _place(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")

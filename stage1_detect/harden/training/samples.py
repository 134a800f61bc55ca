"""The photos that harden trains on and is measured on, and the choice of those held out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.harden.training.known_faces import KnownFaces
from cropfirst.stage1_detect.photos.read import PhotoRef

_MAX_HASH_DISTANCE = 8
"""Bits of 64 in which the hashes of one picture may differ, chosen by eye on web photos."""
_BLOCK = 2048


@dataclass(frozen=True)
class HardenSample:
    """One photo with its known faces."""

    key: str
    """Key that is unique over all data sets: the data set's folder and the photo's key in it."""
    photo: str
    """The photo's key in its data set."""
    path: Path
    group: str
    """Name of the person, whose photos are held out together; the key if unknown."""
    known: KnownFaces | None
    """Drawn boxes; None for a photo without boxes."""
    dataset: str
    """Name of the data set's folder."""


def collect_samples(
    photos: Sequence[PhotoRef], root: Path, boxes: Mapping[str, KnownFaces] | None
) -> list[HardenSample]:
    """Return the photos of a data set with their boxes.

    Args:
        boxes: known faces by the photos' keys; photos without an entry are photos without boxes.

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
        HardenSample(
            key=f"{name}/{photo.key}",
            photo=photo.key,
            path=photo.path,
            group=f"{name}/{photo.group or photo.key}",
            known=boxes.get(photo.key),
            dataset=name,
        )
        for photo in photos
    ]


def hold_out(
    samples: Sequence[HardenSample],
    *,
    folds: int,
    fold: int | None,
    image_hashes: Mapping[str, int] | None = None,
) -> tuple[list[HardenSample], list[HardenSample]]:
    """Split samples into those to train on and those of one fold, which are held out.

    All photos of a person, and pictures that look nearly alike, are on one side. The side depends
    on names alone, so that it stays the same when photos are added.

    Args:
        fold: number of the fold to hold out; None holds nothing out.
        image_hashes: 64-bit perceptual hashes by key, of the photos to compare.
    """
    if fold is None:
        return list(samples), []
    groups = _merge_groups(samples, image_hashes or {})
    held = [_hash_name(name) % folds == fold for name in groups]
    return (
        [sample for sample, out in zip(samples, held, strict=True) if not out],
        [sample for sample, out in zip(samples, held, strict=True) if out],
    )


def _merge_groups(samples: Sequence[HardenSample], image_hashes: Mapping[str, int]) -> list[str]:
    """Return the least group name that each sample is connected with, by person or by hash."""
    first: dict[str, int] = {}
    links = [(i, first.setdefault(each.group, i)) for i, each in enumerate(samples)]
    rows = [i for i, each in enumerate(samples) if each.key in image_hashes]
    pairs = _similar_pairs([image_hashes[samples[row].key] for row in rows])
    links += [(rows[a], rows[b]) for a, b in pairs]
    places = np.array(links).T
    graph = coo_matrix((np.ones(len(links)), places), shape=(len(samples), len(samples)))
    labels = connected_components(graph, directed=False)[1].tolist()
    least: dict[int, str] = {}
    for label, sample in zip(labels, samples, strict=True):
        least[label] = min(least.get(label, sample.group), sample.group)
    return [least[label] for label in labels]


def _similar_pairs(hashes: Sequence[int]) -> list[tuple[int, int]]:
    """Return the pairs of hashes that differ in few bits."""
    bits = np.array([[each >> bit & 1 for bit in range(64)] for each in hashes], dtype=np.float32)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(hashes), _BLOCK):
        block = bits[start : start + _BLOCK]
        distance = block @ (1 - bits.T) + (1 - block) @ bits.T
        near = np.argwhere(distance <= _MAX_HASH_DISTANCE)
        pairs += [(start + int(a), int(b)) for a, b in near]
    return pairs


def _hash_name(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")

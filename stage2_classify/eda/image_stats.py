"""How photos look, without a model: brightness, and which are nearly the same.

Pixels come from a reader that is handed in: this module opens no file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.stage2_classify.datasets.sample import Sample

Image = npt.NDArray[np.uint8]
ReadPhoto = Callable[[Sample], Image | None]
"""A photo as (H, W, 3) uint8 RGB; None where it cannot be read."""

SMALL = 96
"""Side in pixels that photos are shrunk to first."""
BANDS = 8
"""Of 8 bits each. Hashes that differ in less than 8 bits agree in one of them."""
NEAR = 6
"""Bits of 64 up to which two photos count as nearly the same."""
CROWD = 2000
"""Photos that share a band beyond which only equal hashes are looked for among them."""


@dataclass(frozen=True)
class Look:
    """One photo in numbers."""

    key: str
    brightness: float
    """Mean of luma, 0-255."""
    contrast: float
    """Standard deviation of luma."""
    phash: int
    """64-bit perceptual hash (imagehash.phash)."""


@dataclass(frozen=True)
class Twin:
    """Two photos that look the same, and are not of one known person."""

    first: str
    second: str
    bits: int
    """Of 64 that differ."""
    across_splits: bool


def look_at(
    samples: Sequence[Sample], read: ReadPhoto, *, on_photo: Callable[[], None] = lambda: None
) -> list[Look]:
    """Brightness and hash of every photo that can be read, in order."""

    def look(sample: Sample) -> Look | None:
        image = read(sample)
        found = None if image is None else look_of(sample.key, image)
        on_photo()
        return found

    with ThreadPoolExecutor() as pool:
        return [found for found in pool.map(look, samples) if found is not None]


def look_of(key: str, image: Image) -> Look:
    """Brightness and hash of one (H, W, 3) uint8 RGB image."""
    import cv2
    import imagehash
    from PIL import Image as Pillow

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    bits = imagehash.phash(Pillow.fromarray(small)).hash
    return Look(
        key,
        float(grey.mean()),
        float(grey.std()),
        int("".join("1" if bit else "0" for bit in bits.flatten()), 2),
    )


def find_twins(
    looks: Sequence[Look], samples: Sequence[Sample], *, near: int = NEAR
) -> tuple[Twin, ...]:
    """Pairs of photos that look the same and are of different persons or splits, nearest first.

    Photos that agree in a band of their hashes are compared bit by bit.

    Args:
        near: bits that may differ, less than `BANDS`.
    """
    by_key = {sample.key: sample for sample in samples}
    bands: dict[tuple[int, int], list[Look]] = defaultdict(list)
    for look in looks:
        for band in range(BANDS):
            bands[band, (look.phash >> (8 * band)) & 0xFF].append(look)
    found: dict[tuple[str, str], Twin] = {}
    for members in bands.values():
        if len(members) > CROWD:
            members = _repeated(members)
        hashes = np.array([look.phash for look in members], np.uint64)
        for row, look in enumerate(members[:-1]):
            differ = _count_bits(hashes[row + 1 :] ^ hashes[row])
            for place in np.flatnonzero(differ <= near):
                other = members[row + 1 + int(place)]
                pair = _twin(by_key[look.key], by_key[other.key], int(differ[place]))
                if pair is not None:
                    found[pair.first, pair.second] = pair
    return tuple(sorted(found.values(), key=lambda twin: (twin.bits, twin.first, twin.second)))


def _repeated(looks: Sequence[Look]) -> list[Look]:
    """Those whose hash is there more than once, `CROWD` at most."""
    counts = Counter(look.phash for look in looks)
    return [look for look in looks if counts[look.phash] > 1][:CROWD]


def _count_bits(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Set bits of each; NumPy has a function for it from version 2 on alone."""
    octets = values[:, None].view(np.uint8)
    return np.unpackbits(octets, axis=1).sum(axis=1).astype(np.int64)


def _twin(one: Sample, two: Sample, bits: int) -> Twin | None:
    same_person = one.group is not None and one.group == two.group
    if same_person and one.split == two.split:
        return None
    first, second = sorted((one.key, two.key))
    return Twin(first, second, bits, one.split != two.split)

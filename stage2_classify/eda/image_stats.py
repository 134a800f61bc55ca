"""Statistics of photos without a model: brightness, contrast and near-duplicates.

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
"""Returns a photo as (H, W, 3) uint8 RGB; None where it cannot be read."""

SMALL = 96
"""Side in pixels to which photos are shrunk before they are hashed."""
BANDS = 8
"""Number of bands of 8 bits. Hashes that differ in fewer than 8 bits agree in one of them."""
NEAR = 6
"""Number of bits of 64 in which near-duplicates may differ."""
CROWD = 2000
"""Number of photos with the same band beyond which only those with equal hashes are compared."""


@dataclass(frozen=True)
class ImageStats:
    """Statistics of one photo."""

    key: str
    brightness: float
    """Mean luma, 0-255."""
    contrast: float
    """Standard deviation of luma."""
    phash: int
    """64-bit perceptual hash (imagehash.phash)."""


@dataclass(frozen=True)
class NearDuplicate:
    """Two photos that look nearly the same and are not of one known person."""

    first: str
    second: str
    bits: int
    """Number of bits of 64 that differ."""
    across_splits: bool
    """Whether one photo is in train and the other in eval."""


def measure_photos(
    samples: Sequence[Sample], read: ReadPhoto, *, on_photo: Callable[[], None] = lambda: None
) -> list[ImageStats]:
    """Return the statistics of every photo that can be read, in order.

    Args:
        samples: the photos.
        read: gets their pixels.
        on_photo: called after each photo.
    """

    def measure(sample: Sample) -> ImageStats | None:
        image = read(sample)
        found = None if image is None else measure_photo(sample.key, image)
        on_photo()
        return found

    with ThreadPoolExecutor() as pool:
        return [found for found in pool.map(measure, samples) if found is not None]


def measure_photo(key: str, image: Image) -> ImageStats:
    """Return the statistics of one (H, W, 3) uint8 RGB image."""
    import cv2
    import imagehash
    from PIL import Image as Pillow

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    bits = imagehash.phash(Pillow.fromarray(small)).hash
    return ImageStats(
        key,
        float(grey.mean()),
        float(grey.std()),
        int("".join("1" if bit else "0" for bit in bits.flatten()), 2),
    )


def find_near_duplicates(
    stats: Sequence[ImageStats], samples: Sequence[Sample]
) -> tuple[NearDuplicate, ...]:
    """Find pairs of photos of different persons or splits that look nearly the same.

    Photos whose hashes agree in a band are compared bit by bit.

    Returns:
        The pairs, the most similar first.
    """
    by_key = {sample.key: sample for sample in samples}
    bands: dict[tuple[int, int], list[ImageStats]] = defaultdict(list)
    for each in stats:
        for band in range(BANDS):
            bands[band, (each.phash >> (8 * band)) & 0xFF].append(each)
    found: dict[tuple[str, str], NearDuplicate] = {}
    for members in bands.values():
        if len(members) > CROWD:
            members = _repeated(members)
        hashes = np.array([each.phash for each in members], np.uint64)
        for row, each in enumerate(members[:-1]):
            differ = _count_bits(hashes[row + 1 :] ^ hashes[row])
            for place in np.flatnonzero(differ <= NEAR):
                other = members[row + 1 + int(place)]
                pair = _pair(by_key[each.key], by_key[other.key], int(differ[place]))
                if pair is not None:
                    found[pair.first, pair.second] = pair
    return tuple(sorted(found.values(), key=lambda pair: (pair.bits, pair.first, pair.second)))


def _repeated(stats: Sequence[ImageStats]) -> list[ImageStats]:
    """Return the photos whose hash occurs more than once, at most `CROWD`."""
    counts = Counter(each.phash for each in stats)
    return [each for each in stats if counts[each.phash] > 1][:CROWD]


def _count_bits(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return the number of set bits of each value; NumPy has a function for it since version 2."""
    octets = values[:, None].view(np.uint8)
    return np.unpackbits(octets, axis=1).sum(axis=1).astype(np.int64)


def _pair(one: Sample, two: Sample, bits: int) -> NearDuplicate | None:
    same_person = one.group is not None and one.group == two.group
    if same_person and one.split == two.split:
        return None
    first, second = sorted((one.key, two.key))
    return NearDuplicate(first, second, bits, one.split != two.split)

"""The photos of an audit split once: head masks and backgrounds, kept small in memory.

Knows keys and pixels, and asks a reader for whole photos; knows nothing of models. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from cropfirst.core.errors import DataError
from cropfirst.core.fingerprint import fingerprint
from cropfirst.stage2_classify.audit.probe import background_features
from cropfirst.stage2_classify.audit.variants import Image, SplitPhoto, split_foreground

Row = Mapping[str, Any]
Item = TypeVar("Item")
Result = TypeVar("Result")

BACKGROUND_SIDE = 512
"""Longer side in pixels of the backgrounds that are kept for other photos."""
THREADS = 4


class HeadMask(Protocol):
    """Where a photo's head is."""

    @property
    def alpha(self) -> np.ndarray:
        """(H, W) uint8, 255 where the head is."""
        ...

    @property
    def fault(self) -> str:
        """Reason why the mask is an ellipse; "" where the head could be segmented."""
        ...


class PhotoReader(Protocol):
    """Reads, segments and crops whole photos as stage 1 does."""

    def read(self, row: Row) -> np.ndarray | None:
        """Return the (H, W, 3) uint8 RGB photo of a crop row; None if it is gone or has changed."""
        ...

    def head(self, photo: np.ndarray, row: Row) -> HeadMask:
        """Return the mask of the head."""
        ...

    def crop(self, photo: np.ndarray, row: Row, crop_config: Mapping[str, Any]) -> np.ndarray:
        """Return a changed copy of the photo cropped as its row was, (S, S, 3) uint8 RGB."""
        ...


@dataclass(frozen=True)
class Backgrounds:
    """What is kept of every photo that could be read."""

    keys: tuple[str, ...]
    hashes: tuple[str, ...]
    """Hashes of the photos and of the faces by which their heads were segmented."""
    masks: tuple[bytes, ...]
    """PNGs of the heads' masks."""
    images: tuple[bytes, ...]
    """JPEGs of the photos with their heads tiled over, at most `BACKGROUND_SIDE` large."""
    features: npt.NDArray[np.float64]
    """(N, F) features for the probe."""
    clean: npt.NDArray[np.bool_]
    """(N,) True where the face was plainly detected and the head could be segmented."""
    n_missing: int
    """Number of photos that are gone, or have changed since they were cropped."""
    n_unsegmented: int
    """Number of photos whose head is an ellipse, since it could not be segmented."""

    def image(self, index: int) -> Image:
        """Return the background of photo `index`, (H, W, 3) uint8 RGB."""
        return _decode(self.images[index], cv2.IMREAD_COLOR_RGB)

    def split(self, index: int, reader: PhotoReader, row: Row) -> SplitPhoto | None:
        """Read photo `index` again and split it; None if it is gone meanwhile."""
        photo = reader.read(row)
        if photo is None:
            return None
        mask = _decode(self.masks[index], cv2.IMREAD_GRAYSCALE)
        return split_foreground(photo, mask, row["box"])


@dataclass(frozen=True)
class _Entry:
    mask: bytes
    image: bytes
    features: npt.NDArray[np.float64]
    is_clean: bool
    is_segmented: bool


def collect_backgrounds(
    keys: Sequence[str],
    rows: Mapping[str, Row],
    reader: PhotoReader,
    *,
    tick: Callable[[int], None] = lambda count: None,
) -> Backgrounds:
    """Split every photo into head and background.

    Args:
        keys: photos to split.
        rows: key -> crop row.
        reader: of whole photos.
        tick: told of each photo that is done.

    Raises:
        DataError: fewer than two photos can be read.
    """

    def collect(key: str) -> _Entry | None:
        row = rows[key]
        photo = reader.read(row)
        if photo is None:
            return None
        head = reader.head(photo, row)
        split = split_foreground(photo, np.asarray(head.alpha, np.uint8), row["box"])
        small = _shrink(split.background)
        return _Entry(
            mask=_encode(".png", split.mask, [cv2.IMWRITE_PNG_COMPRESSION, 1]),
            image=_encode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]),
            features=background_features(small),
            is_clean=not head.fault and row["status"] == "detected",
            is_segmented=not head.fault,
        )

    found: dict[str, _Entry] = {}
    for key, entry in in_threads(keys, collect):
        if entry is not None:
            found[key] = entry
        tick(1)
    if len(found) < 2:
        raise DataError(
            f"{len(keys) - len(found)} of {len(keys)} photos are gone or changed since cli.py "
            "detect (its cache holds crops alone, and the audit needs whole photos): put them "
            "back, or run detect again where they are now"
        )
    entries = found.values()
    return Backgrounds(
        keys=tuple(found),
        hashes=tuple(
            fingerprint({name: rows[key][name] for name in ("content_hash", "box", "landmarks")})
            for key in found
        ),
        masks=tuple(entry.mask for entry in entries),
        images=tuple(entry.image for entry in entries),
        features=np.stack([entry.features for entry in entries]),
        clean=np.array([entry.is_clean for entry in entries]),
        n_missing=len(keys) - len(found),
        n_unsegmented=sum(not entry.is_segmented for entry in entries),
    )


def in_threads(
    items: Iterable[Item], work: Callable[[Item], Result]
) -> Iterator[tuple[Item, Result]]:
    """Yield (item, result) in order; several items are worked on at once, few of them ahead."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: list[tuple[Item, Any]] = []
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= 2 * THREADS:
                first, future = waiting.pop(0)
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _shrink(image: Image) -> Image:
    scale = BACKGROUND_SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _encode(ending: str, image: Image, options: list[int]) -> bytes:
    return bytes(cv2.imencode(ending, image, options)[1])


def _decode(data: bytes, how: int) -> Image:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    assert image is not None, "it was encoded here"
    return np.asarray(image, np.uint8)

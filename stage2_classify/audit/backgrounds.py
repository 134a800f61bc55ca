"""All photos of an audit taken apart once: their heads and headless rooms, kept small in memory.

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
from cropfirst.stage2_classify.audit.probe import background_features
from cropfirst.stage2_classify.audit.variants import Image, Scene, take_apart

Row = Mapping[str, Any]
Item = TypeVar("Item")
Result = TypeVar("Result")

ROOM_SIDE = 512
"""Longer side of the rooms that are kept for others, in pixels."""
THREADS = 4


class Segmented(Protocol):
    """A head as the reader finds it."""

    @property
    def alpha(self) -> np.ndarray:
        """(H, W) uint8, 255 where head."""
        ...

    @property
    def fault(self) -> str:
        """Why it is an ellipse instead; "" where it is a segment."""
        ...


class PhotoReader(Protocol):
    """Whole photos, as stage 1 reads, segments and cuts them."""

    def read(self, row: Row) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB of a crop row; None where the photo is gone or changed."""
        ...

    def head(self, photo: np.ndarray, row: Row) -> Segmented:
        """Where the head is."""
        ...

    def crop(self, photo: np.ndarray, row: Row, crop_config: Mapping[str, Any]) -> np.ndarray:
        """A copy of the photo cut as the row's crop was, (S, S, 3) uint8."""
        ...


@dataclass(frozen=True)
class Rooms:
    """What is kept of every photo that could be read."""

    keys: tuple[str, ...]
    heads: tuple[bytes, ...]
    """PNG of the head's mask."""
    rooms: tuple[bytes, ...]
    """JPEG of the photo with its head tiled over, at most ROOM_SIDE large."""
    features: npt.NDArray[np.float64]
    """(N, F) for the probe."""
    clean: npt.NDArray[np.bool_]
    """(N,) where the face was plainly detected and its head segmented."""
    n_gone: int
    """Photos that are not there any more, or not as they were."""
    n_unsegmented: int
    """Photos whose head is an ellipse, since it could not be segmented."""

    def room(self, index: int) -> Image:
        """(H, W, 3) RGB."""
        return _decode(self.rooms[index], cv2.IMREAD_COLOR_RGB)

    def scene(self, index: int, reader: PhotoReader, row: Row) -> Scene | None:
        """A photo taken apart again; None where it has gone meanwhile."""
        photo = reader.read(row)
        if photo is None:
            return None
        head = _decode(self.heads[index], cv2.IMREAD_GRAYSCALE)
        return take_apart(photo, head, row["box"])


@dataclass(frozen=True)
class _Room:
    head: bytes
    room: bytes
    features: npt.NDArray[np.float64]
    fault: str


def enter_rooms(
    keys: Sequence[str],
    rows: Mapping[str, Row],
    reader: PhotoReader,
    *,
    tick: Callable[[int], None] = lambda count: None,
) -> Rooms:
    """Take every photo apart.

    Args:
        rows: key -> crop row.
        tick: told of each photo that is done.

    Raises:
        DataError: hardly any photo is there.
    """

    def enter(key: str) -> _Room | None:
        row = rows[key]
        photo = reader.read(row)
        if photo is None:
            return None
        head = reader.head(photo, row)
        scene = take_apart(photo, np.asarray(head.alpha, np.uint8), row["box"])
        small = _shrink(scene.room)
        return _Room(
            _encode(".png", scene.head, [cv2.IMWRITE_PNG_COMPRESSION, 1]),
            _encode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]),
            background_features(small),
            head.fault,
        )

    found: dict[str, _Room] = {}
    for key, room in in_threads(keys, enter):
        if room is not None:
            found[key] = room
        tick(1)
    if len(found) < 2:
        raise DataError(
            f"{len(keys) - len(found)} of {len(keys)} photos are gone or changed since cli.py "
            "detect (its cache holds crops alone, and the audit needs whole photos): put them "
            "back, or run detect again where they are now"
        )
    return Rooms(
        keys=tuple(found),
        heads=tuple(room.head for room in found.values()),
        rooms=tuple(room.room for room in found.values()),
        features=np.stack([room.features for room in found.values()]),
        clean=np.array(
            [not room.fault and rows[key]["status"] == "detected" for key, room in found.items()]
        ),
        n_gone=len(keys) - len(found),
        n_unsegmented=sum(bool(room.fault) for room in found.values()),
    )


def in_threads(
    items: Iterable[Item], work: Callable[[Item], Result]
) -> Iterator[tuple[Item, Result]]:
    """Work on all items, some at once; results come in order, and none runs far ahead."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: list[tuple[Item, Any]] = []
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= 2 * THREADS:
                first, future = waiting.pop(0)
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _shrink(room: Image) -> Image:
    scale = ROOM_SIDE / max(room.shape[:2])
    if scale >= 1:
        return room
    size = (max(1, round(room.shape[1] * scale)), max(1, round(room.shape[0] * scale)))
    return np.asarray(cv2.resize(room, size, interpolation=cv2.INTER_AREA), np.uint8)


def _encode(ending: str, image: Image, options: list[int]) -> bytes:
    return bytes(cv2.imencode(ending, image, options)[1])


def _decode(data: bytes, how: int) -> Image:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    assert image is not None, "it was encoded here"
    return np.asarray(image, np.uint8)

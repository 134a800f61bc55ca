"""The photos of an audit split once: head masks and backgrounds, kept small in memory.

Knows keys and pixels, and asks a reader for whole photos; knows nothing of models. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from cropfirst.core.errors import DataError
from cropfirst.core.fingerprint import fingerprint
from cropfirst.stage2_classify.audit.probe import background_features
from cropfirst.stage2_classify.audit.variants import Image, SplitPhoto, split_foreground

Row = Mapping[str, Any]
Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 4


class CutOut(Protocol):
    """The head of a photo, and what is left of the photo without it, as stage 1 keeps them."""

    @property
    def fault(self) -> str:
        """Reason why the mask is an ellipse; "" where the head could be segmented."""
        ...

    def mask(self) -> np.ndarray:
        """Return the mask of the head, (H, W) uint8, 255 where the head is."""
        ...

    def background(self) -> np.ndarray:
        """Return a small copy of the photo with its head tiled over, (h, w, 3) uint8 RGB."""
        ...


class PhotoReader(Protocol):
    """Reads whole photos, cuts out their heads, and crops them as stage 1 does."""

    def read(self, row: Row) -> np.ndarray | None:
        """Return the (H, W, 3) uint8 RGB photo of a crop row; None if it is gone or has changed."""
        ...

    def cut_out(self, row: Row) -> CutOut | None:
        """Return the head and the background of a row's photo; None as in `read`."""
        ...

    def crop(self, photo: np.ndarray, row: Row, crop_config: Mapping[str, Any]) -> np.ndarray:
        """Return a changed copy of the photo cropped as its row was, (S, S, 3) uint8 RGB."""
        ...


@dataclass(frozen=True)
class Backgrounds:
    """The data that is kept of every photo that could be read."""

    keys: tuple[str, ...]
    hashes: tuple[str, ...]
    """Hashes of the photos and of the faces by which their heads were segmented."""
    cut_outs: tuple[CutOut, ...]
    """Heads and backgrounds."""
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
        return np.asarray(self.cut_outs[index].background(), np.uint8)

    def split(self, index: int, reader: PhotoReader, row: Row) -> SplitPhoto | None:
        """Read photo `index` again and split it; None if it is gone meanwhile."""
        photo = reader.read(row)
        if photo is None:
            return None
        mask = np.asarray(self.cut_outs[index].mask(), np.uint8)
        return split_foreground(photo, mask, row["box"])


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

    def collect(key: str) -> tuple[CutOut, npt.NDArray[np.float64]] | None:
        cut_out = reader.cut_out(rows[key])
        return None if cut_out is None else (cut_out, background_features(cut_out.background()))

    found: dict[str, tuple[CutOut, npt.NDArray[np.float64]]] = {}
    for key, entry in in_threads(keys, collect):
        if entry is not None:
            found[key] = entry
        tick(1)
    if len(found) < 2:
        raise DataError(
            f"{len(keys) - len(found)} of {len(keys)} photos are gone or changed since cropfirst "
            "detect (its cache holds crops alone, and the audit needs whole photos): put them "
            "back, or run detect again where they are now"
        )
    cut_outs = tuple(cut_out for cut_out, _ in found.values())
    return Backgrounds(
        keys=tuple(found),
        hashes=tuple(
            fingerprint({name: rows[key][name] for name in ("content_hash", "box", "landmarks")})
            for key in found
        ),
        cut_outs=cut_outs,
        features=np.stack([features for _, features in found.values()]),
        clean=np.array(
            [
                not each.fault and rows[key]["status"] == "detected"
                for key, each in zip(found, cut_outs, strict=True)
            ]
        ),
        n_missing=len(keys) - len(found),
        n_unsegmented=sum(bool(each.fault) for each in cut_outs),
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

"""Photos whose faces are known, to crops: read again, cut, handed over to be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cropfirst.stage1_detect.ahead import available_cores, run_ahead
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.crop import Window, make_crop
from cropfirst.stage1_detect.fallback import Face
from cropfirst.stage1_detect.images import PhotoRef, ReadError
from cropfirst.stage1_detect.look import budget_of, one_thread_a_kernel, read


@dataclass(frozen=True)
class ToCut:
    """A photo whose detection is known, and what to cut out of it."""

    ref: PhotoRef
    face: Face
    box: np.ndarray
    content_hash: str
    """Of the photo that the detection saw."""


@dataclass(frozen=True)
class Cut:
    """What came of it: a crop that was handed over, or the fault."""

    todo: ToCut
    crop_hash: str | None
    window: Window | None
    error: tuple[str, str] | None = None
    """Type and message; None without a crop where the photo is another than it was."""


def cut_all(
    todo: Sequence[ToCut], config: DetectConfig, *, put: Callable[[str, np.ndarray], str]
) -> Iterator[Cut]:
    """Cut each, in order, with the next ones read and cut meanwhile.

    Args:
        put: takes the crop of a key, and returns its hash.
    """
    budget = budget_of(config, config.workers or available_cores())

    def cut(item: ToCut) -> _Pixels:
        got = read(item.ref, config, budget)
        if got.photo is None or got.photo.content_hash != item.content_hash:
            return _Pixels(None, got.error)
        return _Pixels(make_crop(got.photo.image, item.box, item.face.landmarks, config.crop), None)

    with one_thread_a_kernel():
        for item, found in run_ahead(
            todo, cut, workers=config.workers, size_of=lambda pixels: pixels.nbytes
        ):
            if found.cut is None:
                error = None if found.error is None else (found.error.kind, str(found.error))
                yield Cut(item, None, None, error)
                continue
            crop, window = found.cut
            yield Cut(item, put(item.ref.key, crop), window)


@dataclass(frozen=True)
class _Pixels:
    """A crop and its window, not handed over yet; or the fault, if there is one to name."""

    cut: tuple[np.ndarray, Window] | None
    error: ReadError | None

    @property
    def nbytes(self) -> int:
        return 0 if self.cut is None else self.cut[0].nbytes

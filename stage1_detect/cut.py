"""Photos whose faces are known, to crops: read again, cut, handed over to be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cropfirst.stage1_detect.ahead import run_ahead
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.crop import Window, make_crop
from cropfirst.stage1_detect.fallback import Face
from cropfirst.stage1_detect.images import PhotoRef
from cropfirst.stage1_detect.look import read


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
    """Cut each, in order, with photos read ahead.

    Args:
        put: takes the crop of a key, and returns its hash.
    """
    for item, got in run_ahead(
        todo,
        lambda item: read(item.ref, config),
        workers=config.workers,
        size_of=lambda result: result.nbytes,
    ):
        if got.photo is None or got.photo.content_hash != item.content_hash:
            error = None if got.error is None else (got.error.kind, str(got.error))
            yield Cut(item, None, None, error)
            continue
        crop, window = make_crop(got.photo.image, item.box, item.face.landmarks, config.crop)
        yield Cut(item, put(item.ref.key, crop), window)

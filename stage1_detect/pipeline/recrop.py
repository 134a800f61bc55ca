"""Photos whose faces are known, to crops: read again, cut, handed over to be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cropfirst.cache import Encoded, encode_crop
from cropfirst.core.prefetch import available_cores, run_ahead
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.crops.crop import Window, make_crop
from cropfirst.stage1_detect.photos.read import PhotoRef
from cropfirst.stage1_detect.pipeline.detect_batches import budget_of, one_thread_a_kernel, read
from cropfirst.stage1_detect.pipeline.resolve import Face


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
    todo: Sequence[ToCut], config: DetectConfig, *, put: Callable[[str, Encoded], str]
) -> Iterator[Cut]:
    """Cut each, in order, with the next ones read and cut meanwhile.

    Args:
        put: takes the crop of a key, and returns its hash.
    """
    budget = budget_of(config, config.workers or available_cores())

    def cut(item: ToCut) -> tuple[Cut, Encoded | None]:
        got = read(item.ref, config, budget)
        if got.photo is None or got.photo.content_hash != item.content_hash:
            error = None if got.error is None else (got.error.kind, str(got.error))
            return Cut(item, None, None, error), None
        crop, window = make_crop(got.photo.image, item.box, item.face.landmarks, config.crop)
        return Cut(item, None, window), encode_crop(crop)

    with one_thread_a_kernel():
        for item, (done, crop) in run_ahead(
            todo,
            cut,
            workers=config.workers,
            size_of=lambda found: 0 if found[1] is None else found[1].nbytes,
        ):
            yield done if crop is None else replace(done, crop_hash=put(item.ref.key, crop))

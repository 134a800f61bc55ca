"""Cut crops of photos whose faces are known already: read again, crop, hand over to be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cropfirst.cache import Encoded, encode_crop
from cropfirst.core.faces.crop import Window, make_crop
from cropfirst.core.prefetch import available_cores, prefetch
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.photos.read import PhotoRef
from cropfirst.stage1_detect.pipeline.detect_batches import crop_bytes, single_threaded_kernels
from cropfirst.stage1_detect.pipeline.memory import memory_budget
from cropfirst.stage1_detect.pipeline.photo_reads import PhotoReads
from cropfirst.stage1_detect.pipeline.resolve import MainFace


@dataclass(frozen=True)
class RecropItem:
    """A photo whose detection is known, and the box to crop it by."""

    ref: PhotoRef
    face: MainFace
    box: np.ndarray
    """(4,) float32 xyxy in photo pixels."""
    content_hash: str
    """Hash of the file that the detection was made on."""


@dataclass(frozen=True)
class RecropResult:
    """A crop that was handed over, or why there is none."""

    item: RecropItem
    crop_hash: str | None
    """Hash of the crop; None if the photo is unreadable or another than it was."""
    window: Window | None
    """Part of the photo that the crop was cut from."""
    error: tuple[str, str] | None = None
    """Error type and message of an unreadable photo."""


def recrop(
    items: Sequence[RecropItem], config: DetectConfig, *, put: Callable[[str, Encoded], str]
) -> Iterator[RecropResult]:
    """Crop each photo, in order, while threads read and crop the next ones.

    Args:
        put: takes the key and crop of a photo, and returns the crop's hash.
    """
    budget = memory_budget(config, config.workers or available_cores())
    photo_reads = PhotoReads(config.decode, budget, ahead=budget.batch_pixels)

    def crop_one(item: RecropItem) -> tuple[RecropResult, Encoded | None]:
        ahead = photo_reads.read_ahead(item.ref.path)
        with photo_reads.read_rest([item.ref.path], [ahead]) as (read,):
            if read.photo is None or read.photo.content_hash != item.content_hash:
                error = None if read.error is None else (read.error.kind, str(read.error))
                return RecropResult(item, None, None, error), None
            crop, window = make_crop(read.photo.image, item.box, item.face.landmarks, config.crop)
            return RecropResult(item, None, window), encode_crop(crop)

    with single_threaded_kernels():
        for item, (result, crop) in prefetch(
            items,
            crop_one,
            workers=config.workers,
            size_of=lambda pair: 0 if pair[1] is None else pair[1].nbytes,
            max_bytes=budget.crop_bytes,
            expected=crop_bytes(config),
        ):
            yield result if crop is None else replace(result, crop_hash=put(item.ref.key, crop))

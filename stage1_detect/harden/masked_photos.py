"""Copies of photos with masks pasted on their faces, to train classifiers on.

Knows photos, crop rows and mask templates; knows no labels and no nets.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cropfirst.core.errors import DetectError
from cropfirst.core.files import write_atomic
from cropfirst.core.prefetch import available_cores
from cropfirst.stage1_detect.config import DecodeConfig
from cropfirst.stage1_detect.harden.config import PasteConfig
from cropfirst.stage1_detect.harden.paste.cover import TemplateSet, can_wear_mask, cover_face
from cropfirst.stage1_detect.photos.read import PhotoRef, ReadError, read_photo

JPEG_QUALITY = 95
_JPEG = {".jpg", ".jpeg"}


@dataclass(frozen=True)
class MaskedCopy:
    """The copy of a photo."""

    photo: PhotoRef
    """The photo that was copied."""
    path: str
    """POSIX path of the copy relative to the folder of all copies."""
    state: str
    """`wear`, `incorrect` or `normal` (bare); "" if something else than a mask covers the face."""


def write_masked_photos(
    photos: Sequence[PhotoRef],
    rows: Mapping[str, Mapping[str, Any]],
    out: Path,
    *,
    templates: TemplateSet,
    config: PasteConfig,
    seed: int,
) -> Iterator[MaskedCopy]:
    """Copy photos and paste masks on their main faces, and yield the copies in the given order.

    A photo that stays bare is copied byte for byte: by chance, or because its face was not found in
    the photo itself. Photos that cannot be read are left out. What a photo gets depends on its key
    and the seed alone.

    Args:
        rows: key -> crop row, with the box and the landmarks of the face.
        out: folder of the copies; those that exist are replaced.
        config: the shares of faces that get a mask.

    Raises:
        DetectError: two photos would have copies of the same name.
    """
    names = [_name_of_copy(photo.key) for photo in photos]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DetectError(f"two photos would be copied to {twice[0]}: rename one of them")

    def copy(photo: PhotoRef, name: str) -> MaskedCopy | None:
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        row = rows.get(photo.key)
        place = hashlib.blake2b(photo.key.encode(), digest_size=8).digest()
        rng = np.random.default_rng([seed, *place])
        try:
            image = read_photo(photo.path, DecodeConfig()).image
        except ReadError:
            return None
        state = "normal"
        if row is not None and row["landmarks"] is not None:
            box = np.asarray(row["box"], np.float32)
            landmarks = np.asarray(row["landmarks"], np.float32).reshape(5, 2)
            if can_wear_mask(box, landmarks):
                image, state = cover_face(image, box, landmarks, templates, config, rng)
        if state == "normal" and photo.path.suffix.lower() in _JPEG:
            shutil.copyfile(photo.path, target)
        else:
            write_atomic(target, _encode(image))
        return MaskedCopy(photo, name, state)

    with ThreadPoolExecutor(available_cores()) as threads:
        yield from (made for made in threads.map(copy, photos, names) if made is not None)


def _name_of_copy(key: str) -> str:
    """Return the path of a copy, in a folder of its own lest the layout of DATA be recognised."""
    return f"photos/{key}" if Path(key).suffix.lower() in _JPEG else f"photos/{key}.jpg"


def _encode(image: np.ndarray) -> bytes:
    """Encode (H, W, 3) uint8 RGB as JPEG."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert ok
    return data.tobytes()

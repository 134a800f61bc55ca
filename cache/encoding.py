"""The encoding of a crop: a header with time, format and shape, then the raw pixels.

Knows photo keys, bytes and uint8 images; knows nothing of files.
"""

from __future__ import annotations

import hashlib
import struct
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.core.fingerprint import content_hash

Image = npt.NDArray[np.uint8]

# Time of writing (ns), magic, version, encoding, channels, 0, height, width.
_HEADER = struct.Struct("<Q4sBBBxII")
_TIME = struct.Struct("<Q")
_MAGIC = b"crop"
_VERSION = 1
_RAW = 0


@dataclass(frozen=True)
class Encoded:
    """A crop as it is stored."""

    value: memoryview
    """Header and pixels."""
    hash: str
    """Hash of shape and pixels, 32 hex characters."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.value.nbytes


def encode_crop(image: Image) -> Encoded:
    """Encode a crop, (H, W, 3) uint8 RGB, with the current time.

    Raises:
        ValueError: the image has another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"a crop is (H, W, 3) uint8, got {image.shape} {image.dtype}")
    height, width, channels = image.shape
    value = np.empty(_HEADER.size + image.size, np.uint8)
    _HEADER.pack_into(
        value.data, 0, time.time_ns(), _MAGIC, _VERSION, _RAW, channels, height, width
    )
    value[_HEADER.size :].reshape(image.shape)[...] = image
    return Encoded(value.data, value_hash(value.data))


def view_crop(value: memoryview) -> Image:
    """Return the crop in a stored value, (H, W, 3) uint8 RGB, without copying it.

    Raises:
        ValueError: the value is not a crop.
    """
    height, width = shape_of(value)
    flat = np.frombuffer(value, np.uint8, offset=_HEADER.size)
    return flat.reshape(height, width, -1)


def shape_of(value: memoryview) -> tuple[int, int]:
    """Return height and width of the crop in a stored value.

    Raises:
        ValueError: the value is not a crop.
    """
    if len(value) < _HEADER.size:
        raise ValueError(f"{len(value)} bytes are too few")
    _, magic, version, encoding, channels, height, width = _HEADER.unpack_from(value)
    if (magic, version, encoding) != (_MAGIC, _VERSION, _RAW):
        raise ValueError("its header is not one of this version")
    size = height * width * channels
    if len(value) != _HEADER.size + size or not size:
        raise ValueError(f"{len(value)} bytes do not hold {height}x{width}x{channels}")
    return height, width


def value_hash(value: memoryview) -> str:
    """Return the hash of a stored value without its time."""
    return content_hash(value[_TIME.size :])


def written_at(value: memoryview) -> int:
    """Return the time at which a stored value was written, in ns since 1970."""
    return int(_TIME.unpack_from(value)[0]) if len(value) >= _TIME.size else 0


def set_written_at(value: memoryview, time_ns: int) -> None:
    """Overwrite the time of a stored value, in ns since 1970."""
    _TIME.pack_into(value, 0, time_ns)


def digest_of(key: str) -> bytes:
    """Return the 16 bytes under which the crop of a photo is stored."""
    # LMDB's keys have at most 511 bytes; paths may have more.
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).digest()

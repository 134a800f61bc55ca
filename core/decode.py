"""Decode the bytes of an image into an upright (H, W, 3) uint8 RGB array.

Pillow reads the header first, so that limits apply before a pixel is decoded. OpenCV, the faster
decoder, decodes the pixels, except for what it gets wrong: CMYK, palettes, transparency, and
truncated JPEGs and TIFFs, whose missing part it fills with grey or black without an error.

Knows bytes and pixels; knows no files and no faces.
"""

from __future__ import annotations

import functools
import io
import re
import struct
import threading
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import cv2
import numpy as np
from PIL import Image, ImageOps

# Not all of Pillow's: its plug-ins for EPS and WMF run other programs, and some others accept any
# bytes as an image.
FORMATS = (
    "JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "SUN",
) + (("HEIF",) if find_spec("pillow_heif") else ())  # fmt: skip
"""Formats that Pillow may read, tried in this order."""
# Pillow's modes that OpenCV converts to 8-bit RGB as a viewer does.
_OPENCV_MODES = {"RGB", "L", "I;16", "I;16B", "I", "1"}
# Headers of formats that only OpenCV reads: PAM, Radiance HDR, PFM in colour.
_SIZES = (
    re.compile(rb"P7\s.*?WIDTH (?P<width>\d{1,9})\s.*?HEIGHT (?P<height>\d{1,9})\s", re.DOTALL),
    re.compile(rb"#\?RADIANCE.*?\n-Y (?P<height>\d{1,9}) \+X (?P<width>\d{1,9})\n", re.DOTALL),
    re.compile(rb"PF\s+(?P<width>\d{1,9})\s+(?P<height>\d{1,9})\s"),
)
_BITS_PER_SAMPLE = 258
"""Number of the TIFF tag."""
_DEPTHS = (8, 10, 12, 14)
"""Bits per sample that cameras store in 16 bits."""
_PNG = b"\x89PNG\r\n\x1a\n"
LARGE_PIXELS = 32_000_000
"""Number of pixels from which on photos are decoded one at a time."""
TOO_LARGE = "TooLargeForMemory"
"""`ReadError.kind` of photos that do not fit into the memory of this run."""
_LARGE = threading.Lock()
_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
"""The entry that `warnings.filterwarnings` adds to the list of filters."""


class DecodeLimits(Protocol):
    """Limits of decoding, against decompression bombs."""

    @property
    def max_megapixels(self) -> float:
        """Largest number of pixels, in millions."""

    @property
    def max_scans(self) -> int:
        """Largest number of scans of a progressive JPEG."""


class ReadError(Exception):
    """Raised for a photo that cannot be read.

    Attributes:
        kind: type of the error, for the row and the summary.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class EncodedImage:
    """The bytes of an image whose header has been checked."""

    data: bytes
    header: Image.Image | None
    """The image as Pillow opened it; None for a format that only OpenCV reads."""
    size: tuple[int, int]
    """Width and height in pixels, as stored."""


def decode(data: bytes, limits: DecodeLimits, *, room: int | None = None) -> np.ndarray:
    """Decode image bytes to an upright (H, W, 3) uint8 RGB array.

    Args:
        room: number of pixels that the memory allows; None means any.

    Raises:
        ReadError: the data is not an image, is truncated, or has more pixels or scans than
            `limits` allow.
    """
    return decode_image(open_image(data, limits, room=room))


def open_image(data: bytes, limits: DecodeLimits, *, room: int | None = None) -> EncodedImage:
    """Read the header of an image, and check it against the limits; decodes no pixel.

    Raises:
        ReadError: as for `decode`, as far as the header says it.
    """
    header = _header(data, limits)
    size = _declared_size(data) if header is None else header.size
    if size is None:
        raise ReadError("NotAnImage", "neither Pillow nor OpenCV recognises an image in this file")
    _check_size(*size, limits)
    if room is not None and size[0] * size[1] > room:
        raise ReadError(
            TOO_LARGE,
            f"{size[0]}x{size[1]} is {size[0] * size[1] / 1e6:.0f} megapixels, the run's memory "
            f"allows {room / 1e6:.0f} (--memory)",
        )
    if header is not None and header.info.get("progression"):
        _check_scans(data, limits)
    return EncodedImage(data, header, size)


def decode_image(encoded: EncodedImage) -> np.ndarray:
    """Decode an image to an upright (H, W, 3) uint8 RGB array; can be called once.

    Raises:
        ReadError: the data is not an image, or is truncated.
    """
    data, header, size = encoded.data, encoded.header, encoded.size
    # Large photos one at a time: decoding takes several times their pixels in memory.
    with _LARGE if size[0] * size[1] > LARGE_PIXELS else nullcontext():
        image = None
        if _suits_opencv(data, header):
            image = _decode_opencv(data, size, deep=_is_16_bit(data, header))
        if image is None and header is not None:
            image = _decode_pillow(header)
    if image is None:
        raise ReadError("Undecodable", "its header is one of an image, and the rest is not")
    return image


def _header(data: bytes, limits: DecodeLimits) -> Image.Image | None:
    """Open an image without decoding it; None if Pillow does not know its format.

    Raises:
        ReadError: it has twice the allowed pixels (a GIF takes its memory when opened).
    """
    _set_up_pillow(limits)
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        _check_size(*(_declared_size(data) or (0, 0)), limits, least=0)
        raise ReadError("TooManyPixels", f"{error} (--set decode.max_megapixels=...)") from error
    except Exception:  # Pillow's plug-ins raise all sorts on broken headers
        return None


def _set_up_pillow(limits: DecodeLimits) -> None:
    """Let Pillow open what the limits allow, without warnings, and HEIF if that is installed.

    Threads share Python's warning filters, so one filter, for Pillow's own modules, is added once
    and stays.
    """
    if _PILLOW_WARNINGS not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")
    # Pillow refuses twice its limit, which is raised if ours is higher, and never lowered.
    least = round(limits.max_megapixels * 1e6 / 2)
    if Image.MAX_IMAGE_PIXELS is not None and least > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = least
    if "HEIF" in FORMATS:
        _register_heif()


@functools.cache
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


def _declared_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of an image that only OpenCV reads; None for other data."""
    for pattern in _SIZES:
        found = pattern.match(data[:4096])
        if found:
            width, height = (int(found[name]) for name in ("width", "height"))
            return width, height
    if data.startswith(_PNG) and len(data) > 24:
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    return None


def _check_scans(data: bytes, limits: DecodeLimits) -> None:
    """Refuse a progressive JPEG of many scans: each decodes all pixels from a few bytes."""
    scans = data.count(b"\xff\xda")
    if scans > limits.max_scans:
        raise ReadError(
            "TooManyScans",
            f"a progressive JPEG of {scans} scans, the limit is {limits.max_scans} "
            "(--set decode.max_scans=...)",
        )


def _check_size(width: int, height: int, limits: DecodeLimits, *, least: int = 1) -> None:
    if width < least or height < least:
        raise ReadError("NoPixels", f"the image is {width}x{height}")
    if width * height > limits.max_megapixels * 1e6:
        raise ReadError(
            "TooManyPixels",
            f"{width}x{height} is {width * height / 1e6:.0f} megapixels, the limit is "
            f"{limits.max_megapixels:g} (--set decode.max_megapixels=...)",
        )


def _suits_opencv(data: bytes, header: Image.Image | None) -> bool:
    """Return whether OpenCV decodes the image correctly and safely.

    Pillow refuses a JPEG without an end marker, and a PNG with chunks longer than the file, for
    which OpenCV would allocate memory before reading them.
    """
    if data.startswith(_PNG) and not _has_complete_chunks(data):
        return False
    if header is None:
        return True
    if header.format == "TIFF" and not _is_16_bit(data, header):
        return False
    if header.format in {"JPEG", "MPO"} and data.rstrip(b"\0")[-2:] != b"\xff\xd9":
        return False
    # OpenCV ignores the orientation of an AVIF.
    return header.mode in _OPENCV_MODES and header.format != "AVIF"


def _has_complete_chunks(data: bytes) -> bool:
    """Return whether all chunks of a PNG, up to the end chunk, are within the file."""
    place = len(_PNG)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        place += 12 + length
        if kind == b"IEND":
            return place <= len(data)
    return False


def _is_16_bit(data: bytes, header: Image.Image | None) -> bool:
    if data.startswith(_PNG):
        return data[24:25] == b"\x10"
    if header is not None and header.format == "TIFF":
        return 16 in header.tag_v2.get(_BITS_PER_SAMPLE, ())  # type: ignore[attr-defined]
    return header is not None and header.mode.startswith("I")


def _decode_opencv(data: bytes, size: tuple[int, int], *, deep: bool) -> np.ndarray | None:
    """Decode by OpenCV with EXIF orientation applied; None if it fails.

    Args:
        size: width and height in the header, which was checked against the limits.
        deep: whether the file has 16 bits per sample. They are scaled to 8 by the number of bits
            in use: the 12 bits of a camera stored in 16 would make a nearly black photo.
    """
    _silence_opencv()
    raw = np.frombuffer(data, dtype=np.uint8)
    try:
        image = cv2.imdecode(raw, cv2.IMREAD_COLOR_RGB)
        if deep and image is not None:
            samples: Any = cv2.imdecode(raw, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
            used = int(samples.max()).bit_length()
            if samples.dtype == np.uint16 and 0 < used <= _DEPTHS[-1]:
                depth = next(bits for bits in _DEPTHS if used <= bits)
                image = (samples[..., ::-1] >> (depth - 8)).astype(np.uint8)
    except (cv2.error, MemoryError):
        return None
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        return None
    # OpenCV may have decoded another image of the file, which the limits did not check.
    return image if sorted(image.shape[:2]) == sorted(size) else None


@functools.cache
def _silence_opencv() -> None:
    """Turn off OpenCV's log: errors are recorded in rows."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _decode_pillow(header: Image.Image) -> np.ndarray:
    try:
        if header.mode.startswith("F"):
            raise ReadError("FloatPixels", "its pixels are fractions: save it with 8 or 16 bits")
        header.load()
        return np.array(_flatten(ImageOps.exif_transpose(header)))
    except ReadError:
        raise
    except MemoryError as error:
        raise ReadError("MemoryError", "there was too little memory to decode it") from error
    except Exception as error:  # Pillow's plug-ins raise all sorts on broken data
        raise ReadError(
            "Truncated" if "truncated" in str(error).lower() else "Undecodable",
            str(error) or type(error).__name__,
        ) from error


def _flatten(image: Image.Image) -> Image.Image:
    """Convert to RGB, with transparency on white."""
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")

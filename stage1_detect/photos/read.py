"""Read one photo file: bytes to an upright (H, W, 3) uint8 RGB array, or a reason why not.

OpenCV decodes what it does well (it is the fastest here); Pillow reads the header first, so that
limits hold before a pixel is decoded, and takes what OpenCV gets wrong: CMYK, palettes,
transparency, and JPEGs whose end is missing, which OpenCV would fill up with grey in silence.
"""

from __future__ import annotations

import functools
import io
import os
import re
import stat
import struct
import threading
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from cropfirst.core.fingerprint import content_hash
from cropfirst.stage1_detect.config import DecodeConfig

# Not all that Pillow can: its plug-ins for EPS and WMF run other programs, and some others take any
# bytes for an image.
FORMATS = (
    "JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "SUN",
) + (("HEIF",) if find_spec("pillow_heif") else ())  # fmt: skip
"""What Pillow may be asked to read, tried in this order."""
# Pillow's modes that OpenCV turns into 8-bit RGB as a viewer would.
_OPENCV_MODES = {"RGB", "L", "I;16", "I;16B", "I", "1"}
# Headers of what OpenCV alone reads: PAM, Radiance HDR, PFM in colour.
_SIZES = (
    re.compile(rb"P7\s.*?WIDTH (?P<width>\d{1,9})\s.*?HEIGHT (?P<height>\d{1,9})\s", re.DOTALL),
    re.compile(rb"#\?RADIANCE.*?\n-Y (?P<height>\d{1,9}) \+X (?P<width>\d{1,9})\n", re.DOTALL),
    re.compile(rb"PF\s+(?P<width>\d{1,9})\s+(?P<height>\d{1,9})\s"),
)
_BITS_PER_SAMPLE = 258
"""TIFF's tag."""
_DEPTHS = (8, 10, 12, 14)
"""Bits of a sample that cameras store in 16."""
_PNG = b"\x89PNG\r\n\x1a\n"
LARGE_PIXELS = 32_000_000
TOO_LARGE = "TooLargeForMemory"
"""Kind of fault of photos that there is no memory for in this run."""
_LARGE = threading.Lock()
_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
"""The entry that `warnings.filterwarnings` makes."""


class ReadError(Exception):
    """This photo cannot be used; `kind` names the sort of fault for the row and the summary."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class PhotoRef:
    """A photo as stage 1 knows it: no labels."""

    key: str
    """POSIX path relative to the data set's root."""
    path: Path
    split: str = "train"
    group: str | None = None
    """The person; None where unknown."""


@dataclass(frozen=True)
class FileStat:
    """What says, for one stat call, that a file is the one seen before."""

    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Photo:
    """A decoded photo."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB, EXIF orientation applied, transparency laid over white."""
    content_hash: str
    """Hash of the file's bytes."""


def stat_photo(path: Path) -> FileStat:
    """Stat a photo without opening it.

    Raises:
        ReadError: missing, not permitted, or not a plain file (a folder, pipe or socket).
    """
    try:
        info = os.stat(path)
    except OSError as error:
        raise ReadError(type(error).__name__, error.strerror or str(error)) from error
    return _plain(info)


def read_bytes(path: Path, limits: DecodeConfig) -> bytes:
    """Read a photo's file whole.

    Raises:
        ReadError: missing, not permitted, not a plain file, empty, above `limits.max_file_mb`, or
            changed while it was being read.
    """
    stat_photo(path)  # a pipe or device is not even opened
    try:
        # Should a pipe take the file's place just now, opening it must not wait for a writer.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            before = _plain(os.fstat(file.fileno()))
            if before.size > limits.max_file_mb * 1e6:
                raise ReadError(
                    "FileTooLarge",
                    f"{before.size / 1e6:.0f} MB, the limit is {limits.max_file_mb:g} MB "
                    f"(--set decode.max_file_mb=...)",
                )
            data = file.read(before.size + 1)
            after = _plain(os.fstat(file.fileno()))
    except OSError as error:
        raise ReadError(type(error).__name__, error.strerror or str(error)) from error
    if after != before or len(data) != before.size:
        raise ReadError("Changed", "the file changed while it was being read; run detect again")
    if not data:
        raise ReadError("EmptyFile", "the file has no bytes")
    return data


def _plain(info: os.stat_result) -> FileStat:
    if not stat.S_ISREG(info.st_mode):
        raise ReadError("NotAFile", "not a plain file (a folder, pipe or device)")
    return FileStat(info.st_size, info.st_mtime_ns)


def read_photo(path: Path, limits: DecodeConfig | None = None, *, room: int | None = None) -> Photo:
    """Read and decode one photo.

    Args:
        room: pixels that there is memory for; None = any number.

    Raises:
        ReadError: whatever keeps this file from being a photo.
    """
    limits = limits or DecodeConfig()
    data = read_bytes(path, limits)
    return Photo(decode(data, limits, room=room), content_hash(data))


def decode(
    data: bytes, limits: DecodeConfig | None = None, *, room: int | None = None
) -> np.ndarray:
    """Decode image bytes to an upright (H, W, 3) uint8 RGB array.

    Args:
        room: pixels that there is memory for; None = any number.

    Raises:
        ReadError: not an image, truncated, more pixels than `limits.max_megapixels`, or more scans
            than `limits.max_scans`.
    """
    limits = limits or DecodeConfig()
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
    # Large ones one after the other: each takes several times its pixels in memory.
    with _LARGE if size[0] * size[1] > LARGE_PIXELS else nullcontext():
        image = None
        if _suits_opencv(data, header):
            image = _decode_opencv(data, size, deep=_is_16_bit(data, header))
        if image is None and header is not None:
            image = _decode_pillow(header)
    if image is None:
        raise ReadError("Undecodable", "its header is one of an image, and the rest is not")
    return image


def _header(data: bytes, limits: DecodeConfig) -> Image.Image | None:
    """The lazily opened image, or None when Pillow knows no such format.

    Raises:
        ReadError: twice the pixels that the limit allows; GIFs take their memory when opened.
    """
    _set_up_pillow(limits)
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        _check_size(*(_declared_size(data) or (0, 0)), limits, least=0)
        raise ReadError("TooManyPixels", f"{error} (--set decode.max_megapixels=...)") from error
    except Exception:  # Pillow's plug-ins raise all sorts on broken headers
        return None


def _set_up_pillow(limits: DecodeConfig) -> None:
    """Let Pillow open what the limits allow, without its warnings, and HEIF where it is installed.

    Threads share Python's list of warning filters, so it is added to once and never put back; the
    filter is for Pillow's own modules alone.
    """
    if _PILLOW_WARNINGS not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")
    # Pillow refuses twice its limit. It is raised where ours is higher, and never lowered.
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
    """Width and height of an image that OpenCV alone may read; None where it is none of those."""
    for pattern in _SIZES:
        found = pattern.match(data[:4096])
        if found:
            width, height = (int(found[name]) for name in ("width", "height"))
            return width, height
    if data.startswith(_PNG) and len(data) > 24:
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    return None


def _check_scans(data: bytes, limits: DecodeConfig) -> None:
    """Each scan of a progressive JPEG is a pass over all its pixels, for a few bytes."""
    scans = data.count(b"\xff\xda")
    if scans > limits.max_scans:
        raise ReadError(
            "TooManyScans",
            f"a progressive JPEG of {scans} scans, the limit is {limits.max_scans} "
            "(--set decode.max_scans=...)",
        )


def _check_size(width: int, height: int, limits: DecodeConfig, *, least: int = 1) -> None:
    if width < least or height < least:
        raise ReadError("NoPixels", f"the image is {width}x{height}")
    if width * height > limits.max_megapixels * 1e6:
        raise ReadError(
            "TooManyPixels",
            f"{width}x{height} is {width * height / 1e6:.0f} megapixels, the limit is "
            f"{limits.max_megapixels:g} (--set decode.max_megapixels=...)",
        )


def _suits_opencv(data: bytes, header: Image.Image | None) -> bool:
    """Whether OpenCV does it right, and is safe to ask.

    A JPEG without its end marker is for Pillow to refuse. So is a PNG of chunks longer than the
    file: OpenCV takes the memory before it reads them.
    """
    if data.startswith(_PNG) and not _has_whole_chunks(data):
        return False
    if header is None:
        return True
    if header.format in {"JPEG", "MPO"} and data.rstrip(b"\0")[-2:] != b"\xff\xd9":
        return False
    # OpenCV does not turn an AVIF upright.
    return header.mode in _OPENCV_MODES and header.format != "AVIF"


def _has_whole_chunks(data: bytes) -> bool:
    """Whether every chunk of a PNG, up to its end chunk, lies within the file."""
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
    """Decode with EXIF orientation applied; None when OpenCV cannot.

    Args:
        size: width and height in the header that the limits were held against.
        deep: the file has 16 bits a sample. They are scaled to 8 by the bits that are used: a
            camera's 12 bits stored in 16 would be a nearly black photo.
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
    # Another image of the same file, or one that the limits have not seen, is not what was asked.
    return image if sorted(image.shape[:2]) == sorted(size) else None


@functools.cache
def _silence_opencv() -> None:
    """Faults become rows; OpenCV's own lines about them would flood the console."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _decode_pillow(header: Image.Image) -> np.ndarray:
    try:
        if header.mode.startswith("F"):
            raise ReadError("FloatPixels", "its pixels are fractions: save it with 8 or 16 bits")
        header.load()
        return np.array(_flatten(ImageOps.exif_transpose(header)))
    except ReadError:
        raise
    except Exception as error:  # Pillow's plug-ins raise all sorts on broken data
        raise ReadError(
            "Truncated" if "truncated" in str(error).lower() else "Undecodable",
            str(error) or type(error).__name__,
        ) from error


def _flatten(image: Image.Image) -> Image.Image:
    """RGB, transparency laid over white as viewers show it."""
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")

"""Read one photo file: bytes to an upright (H, W, 3) uint8 RGB array, or a reason why not.

OpenCV decodes what it does well (it is the fastest here); Pillow reads the header first, so that
limits hold before a pixel is decoded, and takes what OpenCV gets wrong: CMYK, palettes,
transparency, and JPEGs whose end is missing, which OpenCV would fill up with grey in silence.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from cropfirst.cache.fingerprint import content_hash
from cropfirst.stage1_detect.config import DecodeConfig

# Pillow's modes that OpenCV turns into 8-bit RGB as a viewer would.
_OPENCV_MODES = {"RGB", "L", "I;16", "I;16B", "I", "F", "1"}


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
    if not stat.S_ISREG(info.st_mode):
        raise ReadError("NotAFile", "not a plain file (a folder, pipe or device)")
    return FileStat(info.st_size, info.st_mtime_ns)


def read_bytes(path: Path, limits: DecodeConfig) -> bytes:
    """Read a photo's file whole.

    Raises:
        ReadError: missing, not permitted, not a plain file, empty or above `limits.max_file_mb`.
    """
    size = stat_photo(path).size
    if size > limits.max_file_mb * 1e6:
        raise ReadError(
            "FileTooLarge",
            f"{size / 1e6:.0f} MB, the limit is {limits.max_file_mb:g} MB "
            f"(--set decode.max_file_mb=...)",
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ReadError(type(error).__name__, error.strerror or str(error)) from error
    if not data:
        raise ReadError("EmptyFile", "the file has no bytes")
    return data


def read_photo(path: Path, limits: DecodeConfig | None = None) -> Photo:
    """Read and decode one photo.

    Raises:
        ReadError: whatever keeps this file from being a photo.
    """
    limits = limits or DecodeConfig()
    data = read_bytes(path, limits)
    return Photo(decode(data, limits), content_hash(data))


def decode(data: bytes, limits: DecodeConfig | None = None) -> np.ndarray:
    """Decode image bytes to an upright (H, W, 3) uint8 RGB array.

    Raises:
        ReadError: not an image, truncated, or more pixels than `limits.max_megapixels`.
    """
    limits = limits or DecodeConfig()
    header = _header(data, limits)
    if header is not None and header.mode in _OPENCV_MODES and _looks_whole(data, header):
        image = _decode_opencv(data)
        if image is not None:
            return image
    if header is not None:
        return _decode_pillow(header)
    # Formats that only OpenCV knows. Their headers were not checked: bound the file instead.
    image = _decode_opencv(data) if len(data) <= limits.max_megapixels * 1e6 else None
    if image is None:
        raise ReadError("NotAnImage", "neither Pillow nor OpenCV recognises an image in this file")
    _check_size(image.shape[1], image.shape[0], limits)
    return image


def _header(data: bytes, limits: DecodeConfig) -> Image.Image | None:
    """The lazily opened image, or None when Pillow knows no such format."""
    # Pillow's fixed limit would overrule a higher one of ours, which is checked right below.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = Image.open(io.BytesIO(data))
    except Exception:  # Pillow's plug-ins raise all sorts on broken headers
        return None
    _check_size(header.width, header.height, limits)
    return header


def _check_size(width: int, height: int, limits: DecodeConfig) -> None:
    if width < 1 or height < 1:
        raise ReadError("NoPixels", f"the image is {width}x{height}")
    if width * height > limits.max_megapixels * 1e6:
        raise ReadError(
            "TooManyPixels",
            f"{width}x{height} is {width * height / 1e6:.0f} megapixels, the limit is "
            f"{limits.max_megapixels:g} (--set decode.max_megapixels=...)",
        )


def _looks_whole(data: bytes, header: Image.Image) -> bool:
    """False for a JPEG without its end marker; Pillow then decides strictly."""
    return header.format != "JPEG" or data.rstrip(b"\0")[-2:] == b"\xff\xd9"


def _decode_opencv(data: bytes) -> np.ndarray | None:
    """Applies EXIF orientation, scales 16 bits to 8; None when OpenCV cannot."""
    try:
        return cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        return None


def _decode_pillow(header: Image.Image) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header.load()
            upright = ImageOps.exif_transpose(header)
            return np.array(_flatten(upright))
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

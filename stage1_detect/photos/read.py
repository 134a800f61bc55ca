"""Read photo files: their size and time, their bytes, and the decoded photo with its hash."""

from __future__ import annotations

import builtins
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cropfirst.core.decode import (
    TOO_LARGE,
    EncodedImage,
    ReadError,
    decode_image,
    open_image,
)
from cropfirst.core.errors import DetectError
from cropfirst.core.fingerprint import content_hash
from cropfirst.stage1_detect.config import DecodeConfig

__all__ = [
    "FileStat",
    "Photo",
    "PhotoFile",
    "PhotoRef",
    "ReadError",
    "decode_limits",
    "may_pass",
    "open_photo",
    "read_bytes",
    "read_photo",
    "stat_photo",
]


@dataclass(frozen=True)
class PhotoRef:
    """A photo to process, without labels."""

    key: str
    """POSIX path relative to the root of the data set."""
    path: Path
    """Path of the file."""
    split: str = "train"
    """`train` or `eval`."""
    group: str | None = None
    """The person; None if unknown."""


@dataclass(frozen=True)
class FileStat:
    """Size and time of a file, by which a changed file is recognised without reading it."""

    size: int
    """Size in bytes."""
    mtime_ns: int
    """Time of the last change in ns since 1970."""


@dataclass(frozen=True)
class Photo:
    """A decoded photo."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB, with EXIF orientation applied and transparency on white."""
    content_hash: str
    """Hash of the bytes of the file."""


@dataclass(frozen=True)
class PhotoFile:
    """The bytes of a photo whose header has been checked, not yet decoded."""

    encoded: EncodedImage

    @property
    def pixels(self) -> int:
        """Number of pixels, as the header says."""
        width, height = self.encoded.size
        return width * height

    def decode(self) -> Photo:
        """Decode the photo; can be called once.

        Raises:
            ReadError: the file is no image or is truncated.
        """
        return Photo(decode_image(self.encoded), content_hash(self.encoded.data))


def stat_photo(path: Path) -> FileStat:
    """Stat a photo without opening it.

    Raises:
        ReadError: the file is missing, not permitted, or not a plain file.
    """
    try:
        info = os.stat(path)
    except OSError as error:
        raise ReadError(type(error).__name__, error.strerror or str(error)) from error
    return _plain(info)


def decode_limits(crop_key: Mapping[str, Any]) -> DecodeConfig:
    """Return the limits that the photos of a crop set were decoded with.

    Args:
        crop_key: config of the crop set.

    Raises:
        DetectError: the config is not one of this version.
    """
    try:
        return DecodeConfig.model_validate(crop_key["detection"]["decode"])
    except (KeyError, TypeError, ValueError) as error:
        raise DetectError(
            f"the crops' config is not one of this version ({error}): run cropfirst detect again"
        ) from error


def may_pass(kind: str) -> bool:
    """Return whether a later run may read the photo although its size and time are the same.

    This is so for faults of the operating system, such as a missing permission, a disk or network
    that failed, and too little memory. It is not so for faults of the file's content.

    Args:
        kind: `ReadError.kind`.
    """
    error = getattr(builtins, kind, None)
    is_system = isinstance(error, type) and issubclass(error, (OSError, MemoryError))
    return is_system or kind in (TOO_LARGE, "Changed")


def read_bytes(path: Path, limits: DecodeConfig) -> bytes:
    """Read all bytes of a photo's file.

    Raises:
        ReadError: the file is missing, not permitted, not a plain file, empty, larger than
            `limits.max_file_mb`, or changed while it was read.
    """
    stat_photo(path)  # a pipe or device is not even opened
    try:
        # If a pipe has just replaced the file, opening it must not wait for a writer.
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
        room: number of pixels that the memory allows; None means any.

    Raises:
        ReadError: the file cannot be read or decoded.
    """
    return open_photo(path, limits or DecodeConfig(), room=room).decode()


def open_photo(path: Path, limits: DecodeConfig, *, room: int | None = None) -> PhotoFile:
    """Read the bytes of a photo and check its header; decodes no pixel.

    Args:
        room: number of pixels that the memory allows; None means any.

    Raises:
        ReadError: the file cannot be read, or its header is not one of an allowed image.
    """
    return PhotoFile(open_image(read_bytes(path, limits), limits, room=room))

"""Read photos within the memory: small ones ahead, large ones when there is room for them.

A photo's header says how many pixels it has. Those of a large photo are only decoded once the
memory for them is free, however many threads have come to one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cropfirst.stage1_detect.config import DecodeConfig
from cropfirst.stage1_detect.photos.read import (
    Photo,
    ReadError,
    open_photo,
    read_photo,
    stat_photo,
)
from cropfirst.stage1_detect.pipeline.memory import MemoryBudget, PixelGate


@dataclass(frozen=True)
class ReadResult:
    """A photo, the error that reading it raised, or neither for a large photo not yet read."""

    photo: Photo | None
    error: ReadError | None
    pixels: int
    """Number of pixels, also of a photo that is not yet read; 0 for an error."""

    @property
    def is_waiting(self) -> bool:
        """Whether the photo is a large one that is not yet read."""
        return self.photo is None and self.error is None

    @property
    def nbytes(self) -> int:
        """Size of the decoded photo in bytes; 0 without one."""
        return 0 if self.photo is None else self.photo.image.nbytes


class PhotoReads:
    """Reads photos for several threads, which share one memory budget."""

    def __init__(self, limits: DecodeConfig, budget: MemoryBudget, *, ahead: int) -> None:
        """Set the limits.

        Args:
            ahead: largest number of pixels of a photo that is read ahead; the memory must allow as
                many for each thread.
        """
        self._limits, self._budget, self._ahead = limits, budget, ahead
        self._gate = PixelGate(budget.photo_pixels)

    def read_ahead(self, path: Path) -> ReadResult:
        """Read a photo, unless it is a large one."""
        room = self._budget.photo_pixels
        try:
            if stat_photo(path).size > 3 * self._ahead:  # its bytes alone are too many
                return ReadResult(None, None, room)
            file = open_photo(path, self._limits, room=room)
            if file.pixels > self._ahead:
                return ReadResult(None, None, file.pixels)
            return ReadResult(file.decode(), None, file.pixels)
        except ReadError as error:
            return ReadResult(None, error, 0)

    @contextmanager
    def read_rest(
        self, paths: Sequence[Path], reads: Sequence[ReadResult]
    ) -> Iterator[list[ReadResult]]:
        """Read the large photos of a batch once there is memory for them, which the block holds.

        Args:
            paths: files of the photos.
            reads: what `read_ahead` returned for them.
        """
        with self._gate.hold(sum(read.pixels for read in reads if read.is_waiting)):
            yield [
                self._read(path) if read.is_waiting else read
                for path, read in zip(paths, reads, strict=True)
            ]

    def _read(self, path: Path) -> ReadResult:
        try:
            photo = read_photo(path, self._limits, room=self._budget.photo_pixels)
        except ReadError as error:
            return ReadResult(None, error, 0)
        return ReadResult(photo, None, photo.image.size // 3)

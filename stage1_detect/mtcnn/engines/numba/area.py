"""Area resize on the CPU: levels and candidates are summed from the photo's own bytes.

The bins are those of `interpolate(mode="area")`: means over whole pixels, first down the columns,
many at once in a vector, then along the row. Each pixel is read once per level, in order, where an
integral image reads 64 scattered bytes per bin; and no memory is taken, where an integral image
takes 16 bytes per pixel. The compiled code releases Python's lock, so other threads run meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from cropfirst.stage1_detect.mtcnn.engines.numba.jit import compiled
from cropfirst.stage1_detect.mtcnn.engines.numba.llvm import sum_bins, sum_rows
from cropfirst.stage1_detect.mtcnn.pyramid.levels import Tile


@dataclass(frozen=True)
class RawPhotos:
    """Photos of any sizes as they were decoded: a `PhotoBatch`."""

    photos: Sequence[np.ndarray]
    """Contiguous (H, W, 3) uint8 RGB arrays."""
    shapes: tuple[tuple[int, int], ...]
    """Height and width of each photo."""
    sizes: Tensor
    """`shapes` as (B, 2) int64."""

    @staticmethod
    def from_photos(photos: Sequence[np.ndarray]) -> RawPhotos:
        """Wrap contiguous (H, W, 3) uint8 arrays of any sizes."""
        shapes = tuple((photo.shape[0], photo.shape[1]) for photo in photos)
        return RawPhotos(photos, shapes, torch.tensor(shapes, dtype=torch.int64).view(-1, 2))

    def resize_strips(self, strips: Sequence[Tile]) -> Tensor:
        """See `PhotoBatch`."""
        total = sum(strip.height * strip.width for strip in strips)
        pixels = np.empty((1 + total, 4), dtype=np.float32)
        pixels[0] = (0, 0, 0, 1)
        self._resize_into(pixels.reshape(-1)[4:], strips, 4)
        return torch.from_numpy(pixels)

    def resize_strips_rgb(self, strips: Sequence[Tile]) -> np.ndarray:
        """Return the pixels of `resize_strips` without row 0 and the fourth channel: (P * 3,)."""
        pixels = np.empty(sum(s.height * s.width for s in strips) * 3, dtype=np.float32)
        self._resize_into(pixels, strips, 3)
        return pixels

    def _resize_into(self, pixels: np.ndarray, strips: Sequence[Tile], channels: int) -> None:
        end = 0
        for photo, group in groupby(strips, key=lambda strip: strip.level.photo):
            rows = np.array(
                [(each.level.height, each.level.width, each.y0, each.height) for each in group]
            )
            address, width = self._memory[photo].tolist()
            _resize_strips(address, self.shapes[photo][0], width, rows, pixels[end:], channels)
            end += channels * int((rows[:, 1] * rows[:, 3]).sum())

    def crop_resize(self, photo: Tensor, windows: Tensor, size: int) -> Tensor:
        """See `PhotoBatch`."""
        crops = np.empty((len(windows), size, size, 3), dtype=np.float32)
        _crop(self._memory[photo.numpy()], windows.numpy(), size, crops.reshape(len(crops), -1), 3)
        return torch.from_numpy(crops)

    @cached_property
    def _memory(self) -> np.ndarray:
        """(B, 2) int64 address and width of each photo, for one call over windows of all photos."""
        return np.array(
            [(photo.__array_interface__["data"][0], photo.shape[1]) for photo in self.photos],
            dtype=np.int64,
        ).reshape(-1, 2)


@compiled
def _resize_strips(
    photo: int, height: int, width: int, strips: np.ndarray, out: np.ndarray, channels: int
) -> None:
    """Resize strips of one photo's levels.

    Args:
        strips: (n, 4) int64 level height, level width, first row, number of rows.
        out: (P * channels,) float32.
    """
    end = 0
    for level_height, level_width, first, rows in strips:
        part = out[end : end + rows * level_width * channels]
        _resize(photo, 3 * width, width, height, level_width, level_height, first, part, channels)
        end += len(part)


@compiled
def _crop(
    photos: np.ndarray, windows: np.ndarray, size: int, out: np.ndarray, channels: int
) -> None:
    """Resize windows of photos to squares.

    Args:
        photos: (n, 2) int64 address and width.
        windows: (n, 4) int64 x0, y0, x1, y1.
        out: (n, size * size * 3) float32.
    """
    for i in range(len(windows)):
        x0, y0, x1, y1 = windows[i]
        address, width = photos[i]
        start = address + 3 * (y0 * width + x0)
        # A literal 0, or 3 for the channels, would make Numba compile `_resize` once more.
        _resize(start, 3 * width, x1 - x0, y1 - y0, size, size, i - i, out[i], channels)


@compiled
def _resize(
    start: int, row_step: int, across: int, down: int, width: int, height: int, first: int,
    out: np.ndarray, channels: int,
) -> None:  # fmt: skip
    """Resize a window to width x height, from row `first` on until `out` is full.

    Args:
        start: address of the window's first byte; its rows begin `row_step` bytes apart.
        across, down: width and height of the window in pixels.
        out: (rows * width * channels,) float32; a fourth channel is 0.
    """
    starts, ends = np.empty(width, np.int64), np.empty(width, np.int64)
    # Sums and areas of one row of bins; what stays in a fourth channel comes out as 0.
    sums, wide = np.empty(width * channels + 1, np.float32), np.ones(width * channels, np.float32)
    for i in range(width):
        left, right = i * across // width, -(-(i + 1) * across // width)
        starts[i], ends[i] = 3 * left, 3 * right
        for k in range(3):
            wide[i * channels + k] = right - left
    columns, more = np.empty(across * 3 + 1, np.uint32), np.empty(across * 3, np.uint32)
    columns[across * 3] = 0
    for row in range(len(out) // (width * channels)):
        low = (first + row) * down // height
        high = -(-(first + row + 1) * down // height)
        sum_rows(start + low * row_step, row_step, min(high - low, 257), across * 3, columns)
        for begin in range(low + 257, high, 257):
            rows = min(high - begin, 257)
            sum_rows(start + begin * row_step, row_step, rows, across * 3, more)
            for i in range(across * 3):
                columns[i] += more[i]
        sum_bins(columns, starts, ends, width, sums, channels)
        tall = np.float32(high - low)
        if channels == 4:
            sums[3::4] = np.float32(127.5) * tall
        line = out[row * width * channels : (row + 1) * width * channels]
        for i in range(width * channels):
            mean = sums[i] / (wide[i] * tall)
            line[i] = (mean - np.float32(127.5)) * np.float32(0.0078125)

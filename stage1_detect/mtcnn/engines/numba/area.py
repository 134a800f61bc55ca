"""Area resize on the CPU: levels and candidates summed straight from the photo's own bytes.

The bins of `interpolate(mode="area")`: means over whole pixels, first down the columns, many at
once in a vector, then along the row. That reads each pixel once a level, in order, where an
integral image reads 64 scattered bytes a bin, and takes no memory, where it takes 16 bytes a pixel.
Compiled by Numba, which lets other threads run meanwhile.
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
from cropfirst.stage1_detect.mtcnn.pyramid.canvas import Piece


@dataclass(frozen=True)
class RawPhotos:
    """Photos of any sizes, as they were decoded."""

    photos: Sequence[np.ndarray]
    """(H, W, 3) uint8, contiguous."""
    shapes: tuple[tuple[int, int], ...]
    """Height, width of each."""
    sizes: Tensor
    """`shapes` as (B, 2) int64."""

    @staticmethod
    def of(photos: Sequence[np.ndarray]) -> RawPhotos:
        """Take contiguous (H, W, 3) uint8 arrays of any sizes."""
        shapes = tuple((photo.shape[0], photo.shape[1]) for photo in photos)
        return RawPhotos(photos, shapes, torch.tensor(shapes, dtype=torch.int64).view(-1, 2))

    def draw_strips(self, strips: Sequence[Piece]) -> Tensor:
        """See `base.PhotoBatch`."""
        total = sum(strip.height * strip.width for strip in strips)
        pixels = np.empty((1 + total, 4), dtype=np.float32)
        pixels[0] = (0, 0, 0, 1)
        self._draw_into(pixels.reshape(-1)[4:], strips, 4)
        return torch.from_numpy(pixels)

    def draw_rows(self, strips: Sequence[Piece]) -> np.ndarray:
        """The same without row 0 and the fourth channel: (P * 3,) float32."""
        pixels = np.empty(sum(s.height * s.width for s in strips) * 3, dtype=np.float32)
        self._draw_into(pixels, strips, 3)
        return pixels

    def _draw_into(self, pixels: np.ndarray, strips: Sequence[Piece], lanes: int) -> None:
        end = 0
        for photo, group in groupby(strips, key=lambda strip: strip.level.photo):
            rows = np.array(
                [(each.level.height, each.level.width, each.y0, each.height) for each in group]
            )
            address, width = self._memory[photo].tolist()
            _draw(address, self.shapes[photo][0], width, rows, pixels[end:], lanes)
            end += lanes * int((rows[:, 1] * rows[:, 3]).sum())

    def crop_resize(self, photo: Tensor, windows: Tensor, size: int) -> Tensor:
        """See `base.PhotoBatch`."""
        crops = np.empty((len(windows), size, size, 3), dtype=np.float32)
        _crop(self._memory[photo.numpy()], windows.numpy(), size, crops.reshape(len(crops), -1), 3)
        return torch.from_numpy(crops)

    @cached_property
    def _memory(self) -> np.ndarray:
        """(B, 2) int64 address and width of each photo: one call for windows of all of them."""
        return np.array(
            [(photo.__array_interface__["data"][0], photo.shape[1]) for photo in self.photos],
            dtype=np.int64,
        ).reshape(-1, 2)


@compiled
def _draw(
    photo: int, height: int, width: int, strips: np.ndarray, out: np.ndarray, lanes: int
) -> None:
    """Strips of levels, (n, 4) int64 level height, level width, first row, rows -> (P * lanes,)."""
    end = 0
    for level_height, level_width, first, rows in strips:
        part = out[end : end + rows * level_width * lanes]
        _resize(photo, 3 * width, width, height, level_width, level_height, first, part, lanes)
        end += len(part)


@compiled
def _crop(photos: np.ndarray, windows: np.ndarray, size: int, out: np.ndarray, lanes: int) -> None:
    """(n, 2) int64 address and width, (n, 4) int64 x0, y0, x1, y1 -> (n, size * size * 3)."""
    for i in range(len(windows)):
        x0, y0, x1, y1 = windows[i]
        address, width = photos[i]
        start = address + 3 * (y0 * width + x0)
        # A literal 0, or 3 for the lanes, would have Numba compile `_resize` anew.
        _resize(start, 3 * width, x1 - x0, y1 - y0, size, size, i - i, out[i], lanes)


@compiled
def _resize(
    start: int, row_step: int, across: int, down: int, width: int, height: int, first: int,
    out: np.ndarray, lanes: int,
) -> None:  # fmt: skip
    """A window at width x height, from row `first` on until `out` is full.

    Args:
        start: address of its first byte; its rows begin `row_step` bytes apart.
        across, down: its size.
        out: (rows * width * lanes,) float32; a fourth lane is 0.
    """
    starts, ends = np.empty(width, np.int64), np.empty(width, np.int64)
    # Sums and areas of one row of bins; what stays in a fourth lane comes out as 0.
    sums, wide = np.empty(width * lanes + 1, np.float32), np.ones(width * lanes, np.float32)
    for i in range(width):
        left, right = i * across // width, -(-(i + 1) * across // width)
        starts[i], ends[i] = 3 * left, 3 * right
        for k in range(3):
            wide[i * lanes + k] = right - left
    columns, more = np.empty(across * 3 + 1, np.uint32), np.empty(across * 3, np.uint32)
    columns[across * 3] = 0
    for row in range(len(out) // (width * lanes)):
        low = (first + row) * down // height
        high = -(-(first + row + 1) * down // height)
        sum_rows(start + low * row_step, row_step, min(high - low, 257), across * 3, columns)
        for begin in range(low + 257, high, 257):
            rows = min(high - begin, 257)
            sum_rows(start + begin * row_step, row_step, rows, across * 3, more)
            for i in range(across * 3):
                columns[i] += more[i]
        sum_bins(columns, starts, ends, width, sums, lanes)
        tall = np.float32(high - low)
        if lanes == 4:
            sums[3::4] = np.float32(127.5) * tall
        line = out[row * width * lanes : (row + 1) * width * lanes]
        for i in range(width * lanes):
            mean = sums[i] / (wide[i] * tall)
            line[i] = (mean - np.float32(127.5)) * np.float32(0.0078125)

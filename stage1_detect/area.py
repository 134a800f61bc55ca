"""Area resize on the CPU: levels and candidates summed straight from the photo's own bytes.

The bins of `interpolate(mode="area")`: means over whole pixels, first down the columns, many at
once in a vector, then along the row. That reads each pixel once a level, in order, where an
integral image reads 64 scattered bytes a bin, and takes no memory, where it takes 16 bytes a pixel.
Compiled by Numba, which lets other threads run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from cropfirst.stage1_detect.canvas import Piece


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use, and keep the machine code beside the .pyc files where that can be."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # nowhere to write: then each process compiles anew
        return numba.njit(function, **options)


@dataclass(frozen=True)
class Photos:
    """Photos of any sizes, as they were decoded."""

    photos: Sequence[np.ndarray]
    """(H, W, 3) uint8, contiguous."""
    shapes: tuple[tuple[int, int], ...]
    """Height, width of each."""
    sizes: Tensor
    """`shapes` as (B, 2) int64."""

    @staticmethod
    def of(photos: Sequence[np.ndarray]) -> Photos:
        """Take contiguous (H, W, 3) uint8 arrays of any sizes."""
        shapes = tuple((photo.shape[0], photo.shape[1]) for photo in photos)
        return Photos(photos, shapes, torch.tensor(shapes, dtype=torch.int64).view(-1, 2))

    def draw_strips(self, strips: Sequence[Piece]) -> Tensor:
        """The pixels of a group of strips of the photos' levels.

        Returns:
            (1 + P, 4) float32: row 0 is what no photo shows, (0, 0, 0, 1); then strip after strip,
            row by row, RGB in [-1, 1] and 0 in the fourth channel.
        """
        total = sum(strip.height * strip.width for strip in strips)
        pixels = np.empty((1 + total, 4), dtype=np.float32)
        pixels[0] = (0, 0, 0, 1)
        end = 4
        for photo, group in groupby(strips, key=lambda strip: strip.level.photo):
            rows = np.array(
                [(each.level.height, each.level.width, each.y0, each.height) for each in group]
            )
            part = pixels.reshape(-1)[end:]
            _draw(self._rows_of(photo), rows, part)
            end += 4 * int((rows[:, 1] * rows[:, 3]).sum())
        return torch.from_numpy(pixels)

    def crop_resize(self, photo: Tensor, windows: Tensor, size: int) -> Tensor:
        """Area-resize one window of its photo per candidate.

        Args:
            photo: (N,) int64, which photo each window is cut from.
            windows: (N, 4) int64 x0, y0, x1, y1, half open, inside the photo and not empty.
            size: side of the result in pixels.

        Returns:
            (N, size, size, 3) float32 in [-1, 1].
        """
        crops = np.empty((len(windows), size, size, 3), dtype=np.float32)
        flat = crops.reshape(len(windows), size * size * 3)
        numbers, places = photo.numpy(), windows.numpy()
        ends = np.flatnonzero(np.diff(numbers, append=-1)) + 1
        start = 0
        for end in ends.tolist():
            rows = self._rows_of(int(numbers[start]))
            _crop(rows, np.ascontiguousarray(places[start:end]), size, flat[start:end])
            start = end
        return torch.from_numpy(crops)

    def _rows_of(self, photo: int) -> np.ndarray:
        return self.photos[photo].reshape(self.shapes[photo][0], -1)


@_compiled
def _draw(photo: np.ndarray, strips: np.ndarray, out: np.ndarray) -> None:
    """Strips of levels, (n, 4) int64 level height, level width, first row, rows -> (P * 4,)."""
    height, width = photo.shape[0], photo.shape[1] // 3
    end = 0
    for strip in strips:
        count = strip[3] * strip[1] * 4
        _resize(photo, 0, 0, width, height, strip[1], strip[0], strip[2], out[end : end + count], 4)
        end += count


@_compiled
def _crop(photo: np.ndarray, windows: np.ndarray, size: int, out: np.ndarray) -> None:
    """(n, 4) int64 x0, y0, x1, y1 -> (n, size * size * 3)."""
    for i in range(len(windows)):
        x0, y0, x1, y1 = windows[i]
        _resize(photo, x0, y0, x1, y1, size, size, 0, out[i], 3)


@_compiled
def _resize(
    photo: np.ndarray,
    x0: int, y0: int, x1: int, y1: int,
    width: int, height: int, first: int,
    out: np.ndarray,
    lanes: int,
) -> None:  # fmt: skip
    """A window at width x height, from row `first` on until `out` is full.

    Args:
        photo: (H, W * 3) uint8.
        out: (rows * width * lanes,) float32; a fourth lane is 0.
    """
    across, down = x1 - x0, y1 - y0
    starts, ends = np.empty(width, np.int64), np.empty(width, np.int64)
    # Sums and areas of one row of bins; what stays in a fourth lane comes out as 0.
    sums = np.full(width * lanes, np.float32(127.5))
    wide = np.ones(width * lanes, np.float32)
    for i in range(width):
        starts[i] = i * across // width
        ends[i] = -(-(i + 1) * across // width)
        for k in range(3):
            wide[i * lanes + k] = ends[i] - starts[i]
    short, columns = np.empty(across * 3, np.uint16), np.empty(across * 3, np.uint32)
    for row in range(len(out) // (width * lanes)):
        low = y0 + (first + row) * down // height
        high = y0 - (-(first + row + 1) * down // height)
        _sum_columns(photo, 3 * x0, low, high, short, columns)
        for i in range(width):
            red = green = blue = np.uint32(0)
            for x in range(3 * starts[i], 3 * ends[i], 3):
                red += columns[x]
                green += columns[x + 1]
                blue += columns[x + 2]
            sums[i * lanes], sums[i * lanes + 1], sums[i * lanes + 2] = red, green, blue
        if lanes == 4:
            sums[3::4] = np.float32(127.5) * np.float32(high - low)
        line = out[row * width * lanes : (row + 1) * width * lanes]
        tall = np.float32(high - low)
        for i in range(width * lanes):
            mean = sums[i] / (wide[i] * tall)
            line[i] = (mean - np.float32(127.5)) * np.float32(0.0078125)


@_compiled
def _sum_columns(
    photo: np.ndarray, x0: int, low: int, high: int, short: np.ndarray, columns: np.ndarray
) -> None:
    """Add up the rows low..high. 257 rows of 255 fill 16 bits, twice as many a vector."""
    count = len(short)
    for begin in range(low, high, 257):
        row = photo[begin, x0 : x0 + count]
        for i in range(count):
            short[i] = row[i]
        for y in range(begin + 1, min(begin + 257, high)):
            row = photo[y, x0 : x0 + count]
            for i in range(count):
                short[i] += row[i]
        if begin == low:
            for i in range(count):
                columns[i] = short[i]
        else:
            for i in range(count):
                columns[i] += short[i]

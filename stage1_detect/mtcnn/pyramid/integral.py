"""Area resize and crop by integral image (summed-area table; Crow, SIGGRAPH 1984), on any device.

Area resize is a mean over whole-pixel bins, the same bins as `interpolate(mode="area")`. With the
integral image each bin costs four reads, whatever its size; so all levels of the pyramid and all
candidates of all photos, of any sizes, come from one table, in a few calls of the device.

Sums are int32 and may wrap around in large photos: differences are still exact (arithmetic modulo
2**32) as long as one bin's own sum is below 2**31, that is for bins under 8.4 megapixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cropfirst.core.faces.pyramid import area_bins
from cropfirst.stage1_detect.mtcnn.pyramid.levels import Tile

_CACHED_PIXELS = 300_000
"""Pixels of pyramid up to which the reads are kept for the next photo of the same shape."""


@dataclass(frozen=True)
class IntegralImages:
    """Integral images of photos of any sizes, end to end in one table: a `PhotoBatch`."""

    table: Tensor
    """(sum of (H+1)*(W+1), 4) int32; the fourth channel is 0, so that a read is 16 bytes."""
    starts: tuple[int, ...]
    """First row of the table of each photo."""
    shapes: tuple[tuple[int, int], ...]
    """Height and width of each photo."""
    offsets: Tensor
    """`starts` as (B,) int64 on the table's device."""
    sizes: Tensor
    """`shapes` as (B, 2) int64 on the table's device."""

    @staticmethod
    def from_photos(photos: Sequence[np.ndarray], device: torch.device) -> IntegralImages:
        """Sum the pixels of each photo from its top left corner.

        Args:
            photos: (H, W, 3) uint8 arrays of any sizes.
        """
        shapes = tuple((photo.shape[0], photo.shape[1]) for photo in photos)
        starts = np.cumsum([0] + [(h + 1) * (w + 1) for h, w in shapes])[:-1].tolist()
        tables = [_integral(photo, device) for photo in photos]
        return IntegralImages(
            table=tables[0] if len(tables) == 1 else torch.cat(tables),
            starts=tuple(starts),
            shapes=shapes,
            offsets=torch.tensor(starts, dtype=torch.int64, device=device),
            sizes=torch.tensor(shapes, dtype=torch.int64, device=device).view(-1, 2),
        )

    def resize_strips(self, strips: Sequence[Tile]) -> Tensor:
        """See `PhotoBatch`."""
        total = sum(strip.height * strip.width for strip in strips)
        pixels = torch.empty((1 + total, 4), dtype=torch.float32, device=self.table.device)
        start = 1
        for photo, group in groupby(strips, key=lambda strip: strip.level.photo):
            rows = tuple(
                (each.level.height, each.level.width, each.y0, each.height) for each in group
            )
            reads = _reads_of(self.shapes[photo], rows, self.table.device)
            part = pixels[start : start + len(reads.area)]
            torch.div(self._read_boxes(photo, reads.corners), reads.area, out=part)
            start += len(part)
        _normalise(pixels)[:, 3] = 0
        pixels[0] = torch.tensor([0.0, 0.0, 0.0, 1.0])
        return pixels

    def crop_resize(self, photo: Tensor, windows: Tensor, size: int) -> Tensor:
        """See `PhotoBatch`. All windows are one gather."""
        kind = torch.int32 if len(self.table) < 2**31 else torch.int64
        step = torch.arange(size, dtype=torch.int64, device=windows.device)[None, :, None]
        start, length = windows[:, None, :2], (windows[:, 2:] - windows[:, :2])[:, None, :]
        low = start + step * length // size
        high = start - (-(step + 1) * length // size)
        stride = (self.sizes[photo, 1] + 1)[:, None]
        base = self.offsets[photo][:, None]
        bottom, top = ((base + each[..., 1] * stride).to(kind)[:, :, None] for each in (high, low))
        right, left = (each[:, None, :, 0].to(kind) for each in (high, low))
        sums = _box_sums(self.table, bottom + right, bottom + left, top + right, top + left)
        wide, tall = (high - low).float().unbind(-1)
        area = tall[:, :, None] * wide.repeat_interleave(4, dim=1)[:, None, :]
        return _normalise(sums / area.view(sums.shape))[..., :3].contiguous()

    def _read_boxes(self, photo: int, corners: Tensor) -> Tensor:
        """Return the sums over boxes of one photo. (4, P) rows of its own table -> (P, 4) int32."""
        height, width = self.shapes[photo]
        start = self.starts[photo]
        return _box_sums(self.table[start : start + (height + 1) * (width + 1)], *corners)


def _integral(photo: np.ndarray, device: torch.device) -> Tensor:
    pixels = torch.from_numpy(photo).to(device, non_blocking=True)
    sums = pixels.cumsum(0, dtype=torch.int32).cumsum(1, dtype=torch.int32)
    return torch.nn.functional.pad(sums, (0, 1, 1, 0, 1, 0)).reshape(-1, 4)


def _box_sums(
    table: Tensor, bottom_right: Tensor, bottom_left: Tensor, top_right: Tensor, top_left: Tensor
) -> Tensor:
    """Return the sums over boxes from rows of the table at their corners. (...,) -> (..., 4)
    int32."""
    # One 16-byte element per row is three times as fast as rows of four elements.
    flat = table.view(torch.complex128).view(-1)

    def read(index: Tensor) -> Tensor:
        return flat.index_select(0, index.flatten()).view(torch.int32).view(*index.shape, 4)

    sums = read(bottom_right)
    sums -= read(bottom_left)
    sums -= read(top_right)
    sums += read(top_left)
    return sums


def _normalise(means: Tensor) -> Tensor:
    """Scale pixels in [0, 255] to the networks' [-1, 1], in place."""
    return means.sub_(127.5).mul_(0.0078125)


def fill_canvases(pixels: Tensor, source: Tensor) -> Tensor:
    """Return the pixels of canvases.

    Args:
        pixels: (1 + P, 4) float32 pixels of a group (`PhotoBatch.resize_strips`).
        source: (N, H, W) int32 rows of it (`canvas.CanvasMap.source`).

    Returns:
        (N, H, W, 4) float32.
    """
    flat = pixels.view(torch.complex128).view(-1).index_select(0, source.flatten())
    return flat.view(torch.float32).view(*source.shape, 4)


@dataclass(frozen=True)
class _StripReads:
    """The entries of one photo's table that some strips of its levels need."""

    corners: Tensor
    """(4, P) int32 or int64 rows: bottom right, bottom left, top right, top left of each bin."""
    area: Tensor
    """(P, 4) float32 number of pixels of each bin, repeated four times: arithmetic on full arrays
    is many times faster than broadcasting to a last axis of four."""


_Rows = tuple[tuple[int, int, int, int], ...]
"""Height and width of a level, first row and number of rows of its strip."""


def _reads_of(shape: tuple[int, int], rows: _Rows, device: torch.device) -> _StripReads:
    if sum(width * count for _, width, _, count in rows) <= _CACHED_PIXELS:
        return _cached_reads(shape, rows, device)
    return _make_reads(shape, rows, device)


@lru_cache(maxsize=8)
def _cached_reads(shape: tuple[int, int], rows: _Rows, device: torch.device) -> _StripReads:
    return _make_reads(shape, rows, device)


def _make_reads(shape: tuple[int, int], rows: _Rows, device: torch.device) -> _StripReads:
    kind: type[Any] = np.int32 if (shape[0] + 1) * (shape[1] + 1) < 2**31 else np.int64
    stride, corners, areas = shape[1] + 1, [], []
    for height, width, first, count in rows:
        y0, y1 = (each[first : first + count, None] for each in area_bins(shape[0], height))
        x0, x1 = (each[None, :] for each in area_bins(shape[1], width))
        top, bottom, left, right = (
            each.astype(kind) for each in (y0 * stride, y1 * stride, x0, x1)
        )
        boxes = (bottom + right, bottom + left, top + right, top + left)
        corners.append(np.stack([each.ravel() for each in boxes]))
        areas.append(((y1 - y0) * (x1 - x0)).astype(np.float32).ravel())
    area = np.repeat(np.concatenate(areas), 4).reshape(-1, 4)
    return _StripReads(
        torch.from_numpy(np.concatenate(corners, axis=1)).to(device),
        torch.from_numpy(area).to(device),
    )

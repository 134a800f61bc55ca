"""Area resize and crop by integral image (summed-area table; Crow, SIGGRAPH 1984).

Area resize is a mean over whole-pixel bins, the same bins as `interpolate(mode="area")`. With the
integral image each bin costs four reads, whatever its size; so the levels of the pyramid and the
candidates of all photos, of any sizes, come from one table in one gather each.

Sums are int32 and may wrap around at large photos: differences are exact all the same (arithmetic
modulo 2**32) as long as one bin's own sum is below 2**31, that is for bins under 8.4 megapixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class IntegralImages:
    """Integral images of photos of any sizes, end to end in one table."""

    table: Tensor
    """(sum of (H+1)*(W+1), 3) int32."""
    offsets: Tensor
    """(B,) int64: where each photo starts in the table."""
    sizes: Tensor
    """(B, 2) int64: height, width of each photo."""
    shapes: tuple[tuple[int, int], ...]
    """`sizes` on the host, so that no loop needs to ask the device."""

    def group(self, photos: Sequence[int]) -> Tensor:
        """Photos of one size as (len(photos), H+1, W+1, 3) int32."""
        height, width = self.shapes[photos[0]]
        step = (height + 1) * (width + 1)
        starts = np.concatenate([[0], np.cumsum([(h + 1) * (w + 1) for h, w in self.shapes])])
        first, last = int(starts[photos[0]]), int(starts[photos[-1]])
        if last - first == step * (len(photos) - 1):
            part = self.table[first : last + step]
        else:
            part = torch.cat([self.table[starts[i] : starts[i] + step] for i in photos])
        return part.view(len(photos), height + 1, width + 1, 3)


def integral_images(photos: Sequence[np.ndarray], *, device: torch.device) -> IntegralImages:
    """Sum each photo's pixels from its top left corner.

    Args:
        photos: (H, W, 3) uint8 arrays of any sizes.
    """
    shapes = tuple((photo.shape[0], photo.shape[1]) for photo in photos)
    lengths = np.array([(h + 1) * (w + 1) for h, w in shapes], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    if device.type == "cpu":
        host = np.empty((int(starts[-1]), 3), dtype=np.int32)
        for photo, (h, w), start, length in zip(photos, shapes, starts, lengths, strict=False):
            view = host[start : start + length].reshape(h + 1, w + 1, 3)
            out = cv2.integral(photo, sum=view, sdepth=cv2.CV_32S)
            if out is not view and not np.shares_memory(out, view):
                view[:] = out
        table = torch.from_numpy(host)
    else:
        table = torch.cat([_integral_on_device(photo, device) for photo in photos])
    return IntegralImages(
        table=table,
        offsets=torch.as_tensor(starts[:-1], device=device),
        sizes=torch.tensor(shapes, dtype=torch.int64, device=device).view(-1, 2),
        shapes=shapes,
    )


def _integral_on_device(photo: np.ndarray, device: torch.device) -> Tensor:
    pixels = torch.from_numpy(photo).to(device, non_blocking=True)
    sums = pixels.cumsum(0, dtype=torch.int32).cumsum(1, dtype=torch.int32)
    return torch.nn.functional.pad(sums, (0, 0, 1, 0, 1, 0)).reshape(-1, 3)


def _bins(length: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Start and end of each of `count` bins over `length` pixels (they may share pixels)."""
    index = torch.arange(count, dtype=torch.int64, device=device)
    return index * length // count, -(-(index + 1) * length // count)


def resize_level(group: Tensor, height: int, width: int) -> Tensor:
    """Area-resize photos of one size.

    Args:
        group: (B, H+1, W+1, 3) int32 integral images.

    Returns:
        (B, 3, height, width) float32 in [0, 255], channels last in memory.
    """
    y0, y1 = _bins(group.shape[1] - 1, height, group.device)
    x0, x1 = _bins(group.shape[2] - 1, width, group.device)
    rows = group.index_select(1, y1) - group.index_select(1, y0)
    sums = rows.index_select(2, x1) - rows.index_select(2, x0)
    area = ((y1 - y0)[:, None] * (x1 - x0)[None, :]).float()
    return (sums.float() / area[None, :, :, None]).permute(0, 3, 1, 2)


def crop_resize(images: IntegralImages, photo: Tensor, windows: Tensor, size: int) -> Tensor:
    """Area-resize one window of its photo per candidate, all in one gather.

    Args:
        photo: (N,) int64, which photo each window is cut from.
        windows: (N, 4) int64 x0, y0, x1, y1, half open, inside the photo and not empty.
        size: side of the result in pixels.

    Returns:
        (N, 3, size, size) float32 in [0, 255], channels last in memory.
    """
    step = torch.arange(size, dtype=torch.int64, device=windows.device)
    start, length = windows[:, None, :2], (windows[:, 2:] - windows[:, :2])[:, None, :]
    low = start + step[None, :, None] * length // size
    high = start - (-(step[None, :, None] + 1) * length // size)
    stride = (images.sizes[photo, 1] + 1)[:, None]
    base = images.offsets[photo][:, None]
    row0, row1 = base + low[..., 1] * stride, base + high[..., 1] * stride
    col0, col1 = low[:, None, :, 0], high[:, None, :, 0]

    def read(row: Tensor, col: Tensor) -> Tensor:
        return images.table.index_select(0, (row[:, :, None] + col).flatten())

    sums = read(row1, col1)
    sums -= read(row0, col1)
    sums -= read(row1, col0)
    sums += read(row0, col0)
    area = (high - low)[:, :, None, 1] * (high - low)[:, None, :, 0]
    means = sums.view(-1, size, size, 3).float() / area[..., None].float()
    return means.permute(0, 3, 1, 2)

"""Geometry of MTCNN's image pyramid: its scales, the outputs of P-Net, and the bins of a resize."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

WINDOW, STRIDE = 12, 2
"""Receptive field and stride of P-Net, in pixels of a level."""


def pyramid_scales(height: int, width: int, *, min_face_size: int, factor: float) -> list[float]:
    """Return the scales at which P-Net's window sees faces from `min_face_size` up to the photo."""
    scale = WINDOW / min_face_size
    shorter = min(height, width) * scale
    scales = []
    while shorter >= WINDOW:
        scales.append(scale)
        scale *= factor
        shorter *= factor
    return scales


def output_length(length: int) -> int:
    """Return the number of P-Net outputs along a side of `length` pixels."""
    return -(-length // STRIDE) - 5  # its pool rounds up (ceil_mode)


@lru_cache(maxsize=4096)
def area_bins(length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the start and end of each of `count` bins over `length` pixels.

    They are the bins of `interpolate(mode="area")`; neighbours may share a pixel. Do not write to
    the two (count,) int64 arrays.
    """
    index = np.arange(count, dtype=np.int64)
    return index * length // count, -(-(index + 1) * length // count)

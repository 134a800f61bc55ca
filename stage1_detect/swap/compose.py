"""Set the head of a photo into another room, and cut the crop by the recipe of its crop set.

Works on pixels and one crop row; knows nothing of files, donors or the cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cropfirst.core.compositing import Box, Image, compose
from cropfirst.core.faces.crop import Window, crop_window
from cropfirst.core.faces.segment import searched_square
from cropfirst.stage1_detect.config import CropConfig
from cropfirst.stage1_detect.crops.photo_reader import box_of, landmarks_of

VERSION = 1
"""Version of how heads are set into rooms: raise it with any change of the pixels."""


def swapped_crop(
    photo: Image, mask: Image, background: Image, row: Mapping[str, Any], config: CropConfig
) -> tuple[Image, Window]:
    """Return the crop of a photo whose head is in another room.

    Only the part of the photo that the crop depends on is composed.

    Args:
        photo: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, 255 where the head is.
        background: (h, w, 3) uint8 RGB of any size, the other room.
        row: crop row of the photo.
        config: of the crop set.

    Returns:
        The crop, (image_size, image_size, 3) uint8 RGB, and its window, with the `fault` that the
        segmentation of the composed photo had.
    """
    x0, y0, x1, _ = row["window"]
    window = Window(x0, y0, x1 - x0, row["angle"])
    box, landmarks = box_of(row), landmarks_of(row)
    region = _needed_region(photo, window, box, config)
    left, top = region[:2]
    part = compose(photo, mask, background, region)
    moved = Window(window.x0 - left, window.y0 - top, window.side, window.angle)
    corner = np.array([left, top, left, top], np.float32)
    points = None if landmarks is None else landmarks - corner[:2]
    crop, cut = crop_window(part, moved, box - corner, points, config)
    return crop, Window(window.x0, window.y0, window.side, window.angle, cut.fault)


def _needed_region(photo: Image, window: Window, box: np.ndarray, config: CropConfig) -> Box:
    """Return the part of a photo that a crop depends on; one pixel if it is outside the photo."""
    height, width = photo.shape[:2]
    # Half of the diagonal covers a window that is rotated, and two pixels the interpolation.
    half = window.side / 2 * (math.sqrt(2) if window.angle else 1) + 2
    centre_x, centre_y = window.x0 + window.side / 2, window.y0 + window.side / 2
    edges = [centre_x - half, centre_y - half, centre_x + half, centre_y + half]
    if config.background == "segment":
        searched = searched_square(box, height=height, width=width)
        edges = [*map(min, edges[:2], searched[:2]), *map(max, edges[2:], searched[2:])]
    x0, y0 = (int(np.clip(math.floor(edge), 0, size - 1)) for edge, size in
              zip(edges[:2], (width, height), strict=True))  # fmt: skip
    x1, y1 = (int(np.clip(math.ceil(edge), 1, size)) for edge, size in
              zip(edges[2:], (width, height), strict=True))  # fmt: skip
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)

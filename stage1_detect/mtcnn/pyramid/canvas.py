"""Pyramid levels packed onto canvases, so that P-Net sees many of them in one call.

Levels of any photos and sizes can share one image, a canvas, as long as no output whose window
straddles two of them is used. Canvases have few, fixed shapes, because PyTorch pays for every new
shape: milliseconds on a CPU, tuning on a GPU. Small levels go through together; a strip too wide
for what is left of a canvas is cut into overlapping tiles. Everything here is geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cropfirst.core.faces.pyramid import STRIDE, WINDOW, output_length
from cropfirst.stage1_detect.mtcnn.pyramid.levels import (
    MAX_TILE_HEIGHT,
    Tile,
    pack_position,
)

CANVAS_PIXELS = 32_768
"""Pixels of one canvas: P-Net's activations for it still fit a core's second-level cache."""
_MIN_COLUMNS = 8
"""Columns of outputs that must fit at a canvas's right edge for a strip to be cut there."""


@dataclass(frozen=True)
class Canvas:
    """One input image of P-Net, which holds one row of tiles."""

    height: int
    """Height in pixels."""
    width: int
    """Width in pixels."""
    tiles: tuple[Tile, ...]


def canvas_heights() -> tuple[int, ...]:
    """Return the heights that canvases may have, in pixels, rising."""
    return tuple(range(16, MAX_TILE_HEIGHT + 1, 8))


def canvas_width(height: int) -> int:
    """Return the width of a canvas of that height, in pixels."""
    return CANVAS_PIXELS // height // 32 * 32


def plan_canvases(strips: Sequence[Tile]) -> list[Canvas]:
    """Pack strips onto canvases, tallest first."""
    canvases: list[Canvas] = []
    height = width = x = 0
    tiles: list[Tile] = []
    for strip in sorted(strips, key=lambda strip: -strip.height):
        rest: Tile | None = strip
        while rest is not None:
            if not tiles:
                height = next(each for each in canvas_heights() if each >= rest.height)
                width, x = canvas_width(height), 0
            placed, rest = _split(rest, x, width)
            if placed is not None:
                tiles.append(placed)
                x += placed.width + placed.width % 2
            if rest is not None:
                canvases.append(Canvas(height, width, tuple(tiles)))
                tiles = []
    if tiles:
        used = tiles[-1].x + tiles[-1].width
        canvases.append(Canvas(height, _last_width(height, used), tuple(tiles)))
    return canvases


def _last_width(height: int, used: int) -> int:
    """Return the width of the last canvas: the usual one, or a half or a quarter of it."""
    full = canvas_width(height)
    return next(each for each in (full // 4, full // 2, full) if each >= used)


def _split(tile: Tile, x: int, width: int) -> tuple[Tile | None, Tile | None]:
    """Return the part of a tile that fits to the right of column `x`, and what is left of it."""
    if x + tile.width <= width:
        return replace(tile, x=x), None
    fit = (width - x - WINDOW) // STRIDE + 1
    if fit < _MIN_COLUMNS:
        return None, tile
    return (
        replace(tile, cols=fit, x=x),
        replace(tile, col=tile.col + fit, cols=tile.cols - fit, x=0),
    )


@dataclass(frozen=True)
class CanvasMap:
    """The sources of the pixels of canvases of one shape, and the outputs that belong to them."""

    source: np.ndarray
    """(N, H, W) int32 row of the group's pixels (see `map_canvases`); 0 = outside every photo."""
    position: np.ndarray
    """(N, H/2 - 5, W/2 - 5) int64 packed position; -1 where the window straddles two levels."""


def map_canvases(canvases: Sequence[Canvas], strips: Sequence[Tile]) -> CanvasMap:
    """Map canvases of one shape.

    Args:
        strips: the strips of the group. Its pixels are one table, strip after strip, row by row,
            from row 1 on.
    """
    starts, end = {}, 1
    for strip in strips:
        starts[strip.level, strip.row] = end
        end += strip.height * strip.width
    height, width = canvases[0].height, canvases[0].width
    source = np.zeros((len(canvases), height, width), dtype=np.int32)
    position = np.full(
        (len(canvases), output_length(height), output_length(width)), -1, dtype=np.int64
    )
    for number, canvas in enumerate(canvases):
        for tile in canvas.tiles:
            start, level = tile.x // STRIDE, tile.level
            row = tile.row + np.arange(tile.rows)[:, None]
            col = tile.col + np.arange(tile.cols)
            outputs = position[number, : tile.rows, start : start + tile.cols]
            outputs[:] = pack_position(level.photo, level.index, row, col)
            first = starts[level, tile.row] + np.arange(tile.height) * level.width
            pixels = source[number, : tile.height, tile.x : tile.x + tile.width]
            pixels[:] = first[:, None] + (tile.x0 + np.arange(tile.width))
    return CanvasMap(source, position)

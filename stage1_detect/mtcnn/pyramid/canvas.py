"""Where each piece of each pyramid level lies when P-Net looks at all of them at once.

P-Net is convolutional, so levels of any photos and sizes can share one image, a canvas, as long as
no output cell that straddles two of them is believed. Canvases come in few, fixed shapes: the nets
never meet a new one (a new shape costs a CPU engine milliseconds and a GPU its tuning), small
levels go through together, and a level too large for a canvas is cut into overlapping pieces, so
that memory does not grow with the photo. Plans geometry alone: knows no pixels, nets or devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from cropfirst.core.prefetch import in_batches

CELL, STRIDE = 12, 2
"""P-Net's receptive field and stride, in pixels of a level."""
CANVAS_PIXELS = 32_768
"""Pixels of one canvas: what P-Net makes of it still fits a core's second-level cache."""
MAX_HEIGHT = 256
"""Tallest canvas; taller levels are cut."""
_MIN_CELLS = 8
"""A level is only cut at a canvas's right edge where at least so many columns of cells fit."""


@dataclass(frozen=True)
class Level:
    """One photo at one scale."""

    photo: int
    index: int
    """0 = finest."""
    scale: float
    height: int
    width: int

    @property
    def cell(self) -> float:
        """Side of the faces that it shows best, in photo pixels."""
        return CELL / self.scale


@dataclass(frozen=True)
class Piece:
    """A rectangle of cells of one level, and the column of its canvas at which it starts."""

    level: Level
    row: int
    col: int
    rows: int
    cols: int
    x: int = 0

    @property
    def height(self) -> int:
        """Pixels that its cells see."""
        return min(STRIDE * (self.row + self.rows - 1) + CELL, self.level.height) - self.y0

    @property
    def width(self) -> int:
        """Pixels that its cells see."""
        return min(STRIDE * (self.col + self.cols - 1) + CELL, self.level.width) - self.x0

    @property
    def y0(self) -> int:
        """First pixel row in the level."""
        return STRIDE * self.row

    @property
    def x0(self) -> int:
        """First pixel column in the level."""
        return STRIDE * self.col


@dataclass(frozen=True)
class Canvas:
    """One input of P-Net."""

    height: int
    width: int
    pieces: tuple[Piece, ...]


def cells(length: int) -> int:
    """P-Net's outputs along a side of `length` pixels; its pool rounds up (ceil_mode)."""
    return -(-length // STRIDE) - 5


def canvas_heights() -> tuple[int, ...]:
    """The few heights that canvases come in, in pixels, rising."""
    return tuple(range(16, MAX_HEIGHT + 1, 8))


def canvas_width(height: int) -> int:
    """The width of a canvas of that height, in pixels."""
    return CANVAS_PIXELS // height // 32 * 32


def _last_width(height: int, used: int) -> int:
    """The width of a plan's last canvas, which may be a half or a quarter of the others'."""
    whole = canvas_width(height)
    return next(each for each in (whole // 4, whole // 2, whole) if each >= used)


def plan_canvases(strips: Sequence[Piece]) -> list[Canvas]:
    """Lay strips out on canvases, tallest first, one row of pieces a canvas."""
    todo = sorted(strips, key=lambda piece: -piece.height)
    canvases: list[Canvas] = []
    height = width = x = 0
    pieces: list[Piece] = []
    for piece in todo:
        rest: Piece | None = piece
        while rest is not None:
            if not pieces:
                height = next(each for each in canvas_heights() if each >= rest.height)
                width, x = canvas_width(height), 0
            placed, rest = _place(rest, x, width)
            if placed is not None:
                pieces.append(placed)
                x += placed.width + placed.width % 2
            if rest is not None:
                canvases.append(Canvas(height, width, tuple(pieces)))
                pieces = []
    if pieces:
        used = pieces[-1].x + pieces[-1].width
        canvases.append(Canvas(height, _last_width(height, used), tuple(pieces)))
    return canvases


def strips_of(level: Level) -> list[Piece]:
    """A level, at least 11 pixels high and wide, as pieces no taller than a canvas."""
    rows, cols = cells(level.height), cells(level.width)
    most = (MAX_HEIGHT - CELL) // STRIDE + 1
    return [Piece(level, row, 0, min(most, rows - row), cols) for row in range(0, rows, most)]


def in_groups(levels: Sequence[Level], max_pixels: int) -> Iterator[list[Piece]]:
    """Strips of all levels, in order, in groups that are drawn at once (one strip may be more)."""
    return in_batches(
        (strip for level in levels for strip in strips_of(level)),
        size_of=lambda strip: strip.height * strip.width,
        max_size=max_pixels,
    )


def _place(piece: Piece, x: int, width: int) -> tuple[Piece | None, Piece | None]:
    """What of a piece goes to the right of column `x`, and what is left for the next canvas."""
    if x + piece.width <= width:
        return Piece(piece.level, piece.row, piece.col, piece.rows, piece.cols, x), None
    fit = (width - x - CELL) // STRIDE + 1
    if fit < _MIN_CELLS:
        return None, piece
    placed = Piece(piece.level, piece.row, piece.col, piece.rows, fit, x)
    left = Piece(piece.level, piece.row, piece.col + fit, piece.rows, piece.cols - fit)
    return placed, left


@dataclass(frozen=True)
class CanvasMap:
    """Where the pixels of canvases of one shape come from, and where their cells go."""

    source: np.ndarray
    """(N, H, W) int32: row of the group's pixels (see `map_canvases`); 0 = no photo."""
    place: np.ndarray
    """(N, H/2 - 5, W/2 - 5) int64: see `pack_place`; -1 where a cell saw more than one level."""


PLACE_BITS = 24
"""Of a cell's row, and of its column."""
MOST_PHOTOS = 1 << (63 - 2 * PLACE_BITS - 8)
"""Whose cells can be told apart by their place."""


def pack_place(photo: int, level: int, row: Any, col: Any) -> Any:
    """One number for a cell: photo, level index, row and column, in this order of weight."""
    return (((photo << 8) + level) << (2 * PLACE_BITS)) + (row << PLACE_BITS) + col


def map_canvases(canvases: Sequence[Canvas], strips: Sequence[Piece]) -> CanvasMap:
    """Map canvases of one shape.

    Args:
        strips: the group's; its pixels lie in one table, strip after strip, row by row, from row 1
            on.
    """
    starts, end = {}, 1
    for strip in strips:
        starts[strip.level, strip.row] = end
        end += strip.height * strip.width
    height, width = canvases[0].height, canvases[0].width
    source = np.zeros((len(canvases), height, width), dtype=np.int32)
    place = np.full((len(canvases), cells(height), cells(width)), -1, dtype=np.int64)
    for number, canvas in enumerate(canvases):
        for piece in canvas.pieces:
            start, level = piece.x // STRIDE, piece.level
            row = piece.row + np.arange(piece.rows)[:, None]
            col = piece.col + np.arange(piece.cols)
            part = place[number, : piece.rows, start : start + piece.cols]
            part[:] = pack_place(level.photo, level.index, row, col)
            first = starts[level, piece.row] + np.arange(piece.height) * level.width
            pixels = source[number, : piece.height, piece.x : piece.x + piece.width]
            pixels[:] = first[:, None] + (piece.x0 + np.arange(piece.width))
    return CanvasMap(source, place)


@lru_cache(maxsize=4096)
def bins(length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of each of `count` bins over `length` pixels (they may share pixels).

    The bins of `interpolate(mode="area")`. Two (count,) int64 arrays; do not write to them.
    """
    index = np.arange(count, dtype=np.int64)
    return index * length // count, -(-(index + 1) * length // count)

"""The levels of the image pyramid, their tiles, and the outputs that P-Net gives for them.

P-Net is convolutional: it gives one output for each window of `WINDOW` pixels, `STRIDE` pixels
apart. Everything here is geometry; no pixel is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cropfirst.core.faces.pyramid import STRIDE, WINDOW, output_length, pyramid_scales
from cropfirst.core.prefetch import in_batches

MAX_TILE_HEIGHT = 256
"""Height in pixels above which a level is split into strips, so that memory does not grow with the
photo."""
POSITION_BITS = 24
"""Bits of an output's row, and of its column, in a packed position."""
MAX_PHOTOS = 1 << (63 - 2 * POSITION_BITS - 8)
"""Number of photos whose packed positions differ."""


@dataclass(frozen=True)
class PyramidLevel:
    """One photo at one scale."""

    photo: int
    """Index of the photo in its batch."""
    index: int
    """Index of the level; 0 is the finest."""
    scale: float
    """Size of the level as a fraction of the photo's."""
    height: int
    """Height in pixels."""
    width: int
    """Width in pixels."""

    @property
    def face_size(self) -> float:
        """Side of the faces that fill P-Net's window at this level, in photo pixels."""
        return WINDOW / self.scale


@dataclass(frozen=True)
class Tile:
    """A rectangle of P-Net outputs of one level, and the pixels that they depend on.

    A tile as wide as its level is called a strip.
    """

    level: PyramidLevel
    row: int
    """First row of outputs."""
    col: int
    """First column of outputs."""
    rows: int
    """Number of rows of outputs."""
    cols: int
    """Number of columns of outputs."""
    x: int = 0
    """Pixel column of the canvas at which the tile starts."""

    @property
    def height(self) -> int:
        """Height in pixels."""
        return min(STRIDE * (self.row + self.rows - 1) + WINDOW, self.level.height) - self.y0

    @property
    def width(self) -> int:
        """Width in pixels."""
        return min(STRIDE * (self.col + self.cols - 1) + WINDOW, self.level.width) - self.x0

    @property
    def y0(self) -> int:
        """First pixel row in the level."""
        return STRIDE * self.row

    @property
    def x0(self) -> int:
        """First pixel column in the level."""
        return STRIDE * self.col


def pyramid_levels(
    photo: int, shape: tuple[int, int], *, min_face_size: int, factor: float
) -> list[PyramidLevel]:
    """Return the levels of a photo of `shape` (height, width), finest first."""
    scales = pyramid_scales(*shape, min_face_size=min_face_size, factor=factor)
    return [
        PyramidLevel(photo, index, scale, int(shape[0] * scale + 1), int(shape[1] * scale + 1))
        for index, scale in enumerate(scales)
    ]


def split_into_strips(level: PyramidLevel) -> list[Tile]:
    """Split a level of at least 11 x 11 pixels into strips of at most `MAX_TILE_HEIGHT` pixels."""
    rows, cols = output_length(level.height), output_length(level.width)
    most = (MAX_TILE_HEIGHT - WINDOW) // STRIDE + 1
    return [Tile(level, row, 0, min(most, rows - row), cols) for row in range(0, rows, most)]


def group_strips(levels: Sequence[PyramidLevel], max_pixels: int) -> Iterator[list[Tile]]:
    """Yield the strips of all levels, in order, in groups of at most `max_pixels` pixels.

    A single strip may be larger.
    """
    return in_batches(
        (strip for level in levels for strip in split_into_strips(level)),
        size_of=lambda strip: strip.height * strip.width,
        max_size=max_pixels,
    )


def pack_position(photo: int, level: int, row: Any, col: Any) -> Any:
    """Return one number for an output: photo, level index, row and column, in this order of
    weight."""
    return (((photo << 8) + level) << (2 * POSITION_BITS)) + (row << POSITION_BITS) + col

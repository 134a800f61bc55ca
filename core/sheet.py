"""One image file with a grid of titled pictures: contact sheets, galleries of mistakes, composites.

Knows pixels and captions; knows nothing of what they show.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from cropfirst.core.files import write_atomic
from cropfirst.core.fonts import find_font

TILE_SIDE = 160
"""Default side of a tile in pixels."""
GAP, HEADER, CAPTION = 8, 36, 30
"""Pixels between tiles, above the first row, and below each tile."""
_PIXELS_PER_LETTER = 5.7
_FIRST_FOREIGN = 0x250
"""Code point from which letters are not in Pillow's own font."""


@dataclass(frozen=True)
class SheetTile:
    """One picture of a sheet with its caption."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB; fitted into a square without changing its shape."""
    title: str = ""
    """First line of the caption."""
    note: str = ""
    """Second line, in grey; only its end is shown if it is long."""
    colour: tuple[int, int, int] | None = None
    """RGB colour of the title and of a frame; None means a black title and no frame."""


def write_sheet(
    tiles: Sequence[SheetTile | None],
    path: Path,
    title: str,
    *,
    columns: int = 8,
    side: int = TILE_SIDE,
) -> None:
    """Write a PNG of tiles, row by row.

    Args:
        tiles: None leaves a place empty.
        path: file to write, replaced in one step; its folder is created.
        title: headline above the first row.
        columns: number of tiles per row.
        side: side of a tile in pixels.
    """
    rows = max(1, -(-len(tiles) // columns))
    width, height = columns * (side + GAP) + GAP, HEADER + rows * (side + CAPTION + GAP)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    _write(draw, (GAP, GAP), title, size=16, fill="black")
    for index, tile in enumerate(tiles):
        if tile is not None:
            row, column = divmod(index, columns)
            x, y = GAP + column * (side + GAP), HEADER + row * (side + CAPTION + GAP)
            _draw_tile(sheet, draw, tile, x, y, side)
    buffer = io.BytesIO()
    # Level 1 makes the file a seventh larger in a third of the time.
    sheet.save(buffer, format="PNG", compress_level=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def load_font(size: int, text: str = "") -> Any:
    """Return a font, `size` pixels high, that has the letters of `text`: Pillow's own if it can."""
    if not any(map(_is_foreign, text)):
        return ImageFont.load_default(size)
    path = find_font(text)
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(str(path), size)


def _is_foreign(letter: str) -> bool:
    """Return whether Pillow's own font does not have a letter."""
    return ord(letter) >= _FIRST_FOREIGN and letter != "…"


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, *, size: int, fill: Any
) -> None:
    """Write a line of text; letters that no font has become `?`."""
    font = load_font(size, text)
    # The search for a font imports matplotlib: only for text that needs another font.
    if any(map(_is_foreign, text)) and find_font(text) is None:
        text = "".join("?" if _is_foreign(letter) else letter for letter in text)
    draw.text(place, text, fill=fill, font=font)


def _draw_tile(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: SheetTile, x: int, y: int, side: int
) -> None:
    picture = Image.fromarray(tile.image)
    if picture.size != (side, side):
        picture = ImageOps.contain(picture, (side, side), Image.Resampling.BOX)
    sheet.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))
    if tile.colour is not None:
        draw.rectangle((x, y, x + side - 1, y + side - 1), outline=tile.colour, width=2)
    colour = tile.colour or (0, 0, 0)
    most = int(side / _PIXELS_PER_LETTER)
    _write(draw, (x, y + side + 1), tile.title, size=11, fill=colour)
    _write(draw, (x, y + side + 14), _end_of(tile.note, most), size=10, fill=(90, 90, 90))


def _end_of(text: str, most: int) -> str:
    return text if len(text) <= most else "…" + text[-most + 1 :]

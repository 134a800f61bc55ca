"""Crops as pictures: contact sheets of all, of what was not plainly `detected`, and single PNGs."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cropfirst.cache import CropSet
from cropfirst.core.files import write_atomic
from cropfirst.stage1_detect.config import DecodeConfig
from cropfirst.stage1_detect.photos.read import ReadError, read_photo
from cropfirst.stage1_detect.pipeline.rows import NO_SEGMENT

TILE, CAPTION, COLUMNS = 160, 30, 8
COLOURS = {
    "detected": (60, 160, 90),
    "retried": (40, 120, 200),
    "sibling": (150, 90, 200),
    "prior": (220, 140, 30),
    "unreadable": (210, 60, 60),
}


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB; shown as a square of `TILE` pixels."""
    title: str
    note: str
    """In grey below the title; its end where it is long."""
    colour: tuple[int, int, int]
    """Of the frame and the title, RGB."""

    @classmethod
    def of(cls, image: np.ndarray, key: str, status: str) -> Tile:
        return cls(image, status, key, COLOURS[status])


def crop_sheet(crops: CropSet, path: Path, *, most: int = 64) -> None:
    """Write a PNG of up to `most` crops, spread evenly over the keys.

    Args:
        crops: a filled crop set.
        path: the PNG to write.
    """
    rows = [row for row in crops.manifest.read().to_dicts() if row["crop_hash"]]
    chosen = [
        rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows)), dtype=int))
    ]
    reader = crops.reader()
    tiles = [Tile.of(reader[row["key"]], row["key"], row["status"]) for row in chosen]
    write_sheet(tiles, path, f"{crops.name}: {len(tiles)} of {len(rows)} crops")


def doubtful_sheets(
    crops: CropSet, path: Path, *, photo_path: Callable[[str], Path], page: int = 200
) -> list[Path]:
    """Write PNGs of every photo that was not plainly detected, with the box that was used.

    Args:
        path: the first page; further ones are numbered, and those of an earlier run removed.
        photo_path: the file behind a key; the whole photo is shown, since the crop alone does not
            tell whether a guessed box sits on the face.
        page: photos a page; the worst statuses come first.

    Returns:
        The pages written; one that says so where all were detected.
    """
    order = {"unreadable": 0, "prior": 1, "sibling": 2, "retried": 3}
    rows = [row for row in crops.manifest.read().to_dicts() if row["status"] in order]
    rows.sort(key=lambda row: (order[row["status"]], row["key"]))
    for old in path.parent.glob(f"{path.stem}-*{path.suffix}"):
        old.unlink()
    pages = []
    for first in range(0, max(len(rows), 1), page):
        shown = rows[first : first + page]
        tiles = [
            Tile.of(_with_box(row, photo_path(row["key"])), row["key"], row["status"])
            for row in shown
        ]
        number = first // page + 1
        pages.append(path if first == 0 else path.with_stem(f"{path.stem}-{number}"))
        place = f"{first + 1} to {first + len(shown)} of {len(rows)}" if rows else "none"
        write_sheet(tiles, pages[-1], f"{crops.name}: not plainly detected, {place}")
    return pages


def unsegmented_sheet(
    crops: CropSet, path: Path, *, photo_path: Callable[[str], Path], most: int = 200
) -> bool:
    """Write a PNG of up to `most` photos whose face could not be segmented, with their boxes.

    Returns:
        Whether there are any; where not, the sheet of an earlier run is removed.
    """
    rows = [row for row in crops.manifest.read().to_dicts() if row["error_type"] == NO_SEGMENT]
    if not rows:
        path.unlink(missing_ok=True)
        return False
    shown = rows[:most]
    tiles = [
        Tile.of(_with_box(row, photo_path(row["key"])), row["key"], row["status"]) for row in shown
    ]
    write_sheet(tiles, path, f"{crops.name}: cut as an ellipse, {len(shown)} of {len(rows)}")
    return True


def export_crops(crops: CropSet, folder: Path) -> int:
    """Write every crop as FOLDER/KEY.png (KEY's own folders are kept); returns how many."""
    rows = [row for row in crops.manifest.read().to_dicts() if row["crop_hash"]]
    reader = crops.reader()
    for row in rows:
        path = folder / f"{row['key']}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(reader[row["key"]]).save(path)
    return len(rows)


def _with_box(row: Mapping[str, Any], path: Path) -> np.ndarray:
    """The photo at tile size with its box drawn in, or a grey tile with the reason."""
    if row["status"] == "unreadable":  # not tried again with other limits
        return _reason(row)
    try:
        photo = Image.fromarray(read_photo(path, DecodeConfig()).image)
    except ReadError:
        return _reason(row)
    scale = TILE / max(photo.size)
    small = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
    if row["box"]:
        box = [value * scale for value in row["box"]]
        ImageDraw.Draw(small).rectangle(box, outline=COLOURS[row["status"]], width=3)
    tile = Image.new("RGB", (TILE, TILE), (40, 40, 40))
    tile.paste(small, ((TILE - small.width) // 2, (TILE - small.height) // 2))
    return np.array(tile)


def _reason(row: Mapping[str, Any]) -> np.ndarray:
    tile = Image.new("RGB", (TILE, TILE), (70, 70, 70))
    draw = ImageDraw.Draw(tile)
    text = f"{row['error_type']}\n{row['error'] or ''}"
    lines = [line[i : i + 26] for line in text.splitlines() for i in range(0, len(line), 26)]
    draw.multiline_text((8, 8), "\n".join(lines[:9]), fill="white", font=_font(10))
    return np.array(tile)


def write_sheet(tiles: Sequence[Tile], path: Path, title: str) -> None:
    """Write a PNG of tiles, eight a line."""
    lines = max(1, -(-len(tiles) // COLUMNS))
    sheet = Image.new("RGB", (COLUMNS * (TILE + 8) + 8, 36 + lines * (TILE + CAPTION + 8)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((8, 8), title, fill="black", font=_font(16))
    for index, tile in enumerate(tiles):
        x = 8 + index % COLUMNS * (TILE + 8)
        y = 36 + index // COLUMNS * (TILE + CAPTION + 8)
        picture = Image.fromarray(tile.image)
        if picture.size != (TILE, TILE):
            picture = picture.resize((TILE, TILE), Image.Resampling.BOX)
        sheet.paste(picture, (x, y))
        draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), outline=tile.colour, width=2)
        draw.text((x, y + TILE + 1), tile.title, fill=tile.colour, font=_font(11))
        draw.text((x, y + TILE + 14), _short(tile.note), fill=(90, 90, 90), font=_font(10))
    buffer = io.BytesIO()
    # A seventh larger, in a third of the time.
    sheet.save(buffer, format="PNG", compress_level=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def _short(key: str, most: int = 28) -> str:
    return key if len(key) <= most else "…" + key[-most + 1 :]


def _font(size: int) -> Any:
    return ImageFont.load_default(size)

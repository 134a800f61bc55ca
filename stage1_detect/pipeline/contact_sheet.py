"""Write crops as pictures: contact sheets of crops and of uncertain photos, and single PNGs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cropfirst.cache import CropSet
from cropfirst.core.files import mark_output
from cropfirst.core.sheet import TILE_SIDE, SheetTile, load_font, write_sheet
from cropfirst.core.spread import spread
from cropfirst.stage1_detect.config import DecodeConfig
from cropfirst.stage1_detect.photos.read import ReadError, decode_limits, read_photo
from cropfirst.stage1_detect.pipeline.rows import NO_SEGMENT

COLOURS = {
    "detected": (60, 160, 90),
    "retried": (40, 120, 200),
    "sibling": (150, 90, 200),
    "prior": (220, 140, 30),
    "unreadable": (210, 60, 60),
}


def crop_sheet(
    crops: CropSet, path: Path, *, keys: Collection[str] | None = None, most: int = 64
) -> None:
    """Write a PNG of up to `most` crops, spread evenly over the keys.

    Args:
        crops: a filled crop set.
        path: the PNG to write.
        keys: photos of which crops are shown; None means all.
    """
    rows = [row for row in crops.manifest.read(keys).to_dicts() if row["crop_hash"]]
    reader = crops.reader()
    tiles = [_tile(reader[row["key"]], row["key"], row["status"]) for row in spread(rows, most)]
    write_sheet(tiles, path, f"{crops.name}: {len(tiles)} of {len(rows)} crops")


def doubtful_sheets(
    crops: CropSet, path: Path, *, photo_path: Callable[[str], Path],
    keys: Collection[str] | None = None, page: int = 200,
) -> list[Path]:  # fmt: skip
    """Write PNGs of all photos that are not `detected`, with the boxes that were used.

    Args:
        path: file of the first page; others are numbered, and those of an earlier run removed.
        photo_path: returns the file of a key; the photo is shown, since a crop alone does not
            show whether its box is on the face.
        keys: photos that are shown; None means all.
        page: number of photos per page; the least certain statuses come first.

    Returns:
        Paths of the pages; a single empty page if all photos are `detected`.
    """
    limits = decode_limits(crops.config)
    order = {"unreadable": 0, "prior": 1, "sibling": 2, "retried": 3}
    rows = [row for row in crops.manifest.read(keys).to_dicts() if row["status"] in order]
    rows.sort(key=lambda row: (order[row["status"]], row["key"]))
    for old in path.parent.glob(f"{path.stem}-*{path.suffix}"):
        old.unlink()
    pages = []
    for first in range(0, max(len(rows), 1), page):
        shown = rows[first : first + page]
        tiles = [
            _tile(_with_box(row, photo_path(row["key"]), limits), row["key"], row["status"])
            for row in shown
        ]
        number = first // page + 1
        pages.append(path if first == 0 else path.with_stem(f"{path.stem}-{number}"))
        place = f"{first + 1} to {first + len(shown)} of {len(rows)}" if rows else "none"
        write_sheet(tiles, pages[-1], f"{crops.name}: not plainly detected, {place}")
    return pages


def unsegmented_sheet(
    crops: CropSet, path: Path, *, photo_path: Callable[[str], Path],
    keys: Collection[str] | None = None, most: int = 200,
) -> bool:  # fmt: skip
    """Write a PNG of up to `most` photos whose face could not be segmented, with their boxes.

    Args:
        photo_path: returns the file of a key.
        keys: photos that are shown; None means all.

    Returns:
        Whether there are any; if not, the sheet of an earlier run is removed.
    """
    rows = [row for row in crops.manifest.read(keys).to_dicts() if row["error_type"] == NO_SEGMENT]
    if not rows:
        path.unlink(missing_ok=True)
        return False
    shown = rows[:most]
    limits = decode_limits(crops.config)
    tiles = [
        _tile(_with_box(row, photo_path(row["key"]), limits), row["key"], row["status"])
        for row in shown
    ]
    write_sheet(tiles, path, f"{crops.name}: cut as an ellipse, {len(shown)} of {len(rows)}")
    return True


def export_crops(crops: CropSet, folder: Path, *, keys: Collection[str] | None = None) -> int:
    """Write the crops of some photos, by default all, as FOLDER/KEY.png; return their number."""
    rows = [row for row in crops.manifest.read(keys).to_dicts() if row["crop_hash"]]
    reader = crops.reader()
    mark_output(folder)
    for row in rows:
        path = folder / f"{row['key']}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(reader[row["key"]]).save(path)
    return len(rows)


def _tile(image: np.ndarray, key: str, status: str) -> SheetTile:
    return SheetTile(image, status, key, COLOURS[status])


def _with_box(row: Mapping[str, Any], path: Path, limits: DecodeConfig) -> np.ndarray:
    """Return the photo at tile size with its box, or a grey tile with the error."""
    if row["status"] == "unreadable":  # not tried again with other limits
        return _reason(row)
    try:
        photo = Image.fromarray(read_photo(path, limits).image)
    except ReadError:
        return _reason(row)
    scale = TILE_SIDE / max(photo.size)
    small = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
    if row["box"]:
        box = [value * scale for value in row["box"]]
        ImageDraw.Draw(small).rectangle(box, outline=COLOURS[row["status"]], width=3)
    tile = Image.new("RGB", (TILE_SIDE, TILE_SIDE), (40, 40, 40))
    tile.paste(small, ((TILE_SIDE - small.width) // 2, (TILE_SIDE - small.height) // 2))
    return np.array(tile)


def _reason(row: Mapping[str, Any]) -> np.ndarray:
    tile = Image.new("RGB", (TILE_SIDE, TILE_SIDE), (70, 70, 70))
    draw = ImageDraw.Draw(tile)
    text = f"{row['error_type']}\n{row['error'] or ''}"
    lines = [line[i : i + 26] for line in text.splitlines() for i in range(0, len(line), 26)]
    draw.multiline_text((8, 8), "\n".join(lines[:9]), fill="white", font=load_font(10))
    return np.array(tile)

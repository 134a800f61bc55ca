"""A sheet shows each picture whole, in its place, with its caption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cropfirst.core.sheet import CAPTION, GAP, HEADER, SheetTile, write_sheet

RED, BLUE = (200, 30, 30), (30, 30, 200)


def _plain(height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_pictures_of_any_shape_keep_it_and_stay_in_their_places(tmp_path: Path) -> None:
    tiles = [SheetTile(_plain(40, 20, RED)), None, SheetTile(_plain(300, 300, BLUE), "t" * 99)]
    write_sheet(tiles, tmp_path / "new" / "sheet.png", "title", columns=2, side=100)
    sheet = np.array(Image.open(tmp_path / "new" / "sheet.png"))
    assert sheet.shape == (HEADER + 2 * (100 + CAPTION + GAP), 2 * (100 + GAP) + GAP, 3)
    first = sheet[HEADER : HEADER + 100, GAP : GAP + 100]
    assert (first[:, 25:75] == RED).all() and (first[:, :25] == 255).all()
    assert (sheet[HEADER : HEADER + 100, 2 * GAP + 100 :] == 255).all()
    below = HEADER + 100 + CAPTION + GAP
    assert (sheet[below : below + 100, GAP : GAP + 100] == BLUE).all()
    assert (sheet[below + 100 : below + 100 + CAPTION, GAP : GAP + 100] < 128).any()


def test_a_frame_and_a_long_note_stay_within_the_tile(tmp_path: Path) -> None:
    tile = SheetTile(_plain(80, 80, RED), "ok", "folder/" * 30 + "photo.jpg", BLUE)
    write_sheet([tile], tmp_path / "one.png", "", columns=1, side=80)
    sheet = np.array(Image.open(tmp_path / "one.png"))
    assert (sheet[HEADER, GAP : GAP + 80] == BLUE).all()
    assert (sheet[:, GAP + 80 + 2 :] == 255).all()

"""Foregrounds are composed with other backgrounds, and tiled over where they were."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cropfirst.core.compositing import compose, foreground_box, tile_over

HEAD, FLOOR, WALL = (220, 160, 120), (20, 120, 30), (30, 40, 200)
FACE = (40, 30, 60, 56)


def _photo() -> tuple[np.ndarray, np.ndarray]:
    """A wall over a floor, and a head; and where the head is."""
    photo = np.empty((96, 100, 3), np.uint8)
    photo[:48], photo[48:] = WALL, FLOOR
    head = np.zeros((96, 100), np.uint8)
    head[26:60, 36:64] = 255
    photo[head > 0] = HEAD
    return photo, head


def _noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.kron(small, np.ones((8, 8, 1), np.uint8))[:height, :width]


def test_a_head_is_composed_onto_a_background_of_any_size_with_a_soft_edge() -> None:
    photo, head = _photo()
    head[26] = 128
    other = np.full((48, 160, 3), (250, 0, 250), np.uint8)
    mixed = compose(photo, head, other)
    assert mixed.shape == photo.shape
    assert (mixed[head == 255] == HEAD).all() and (mixed[head == 0] == (250, 0, 250)).all()
    between = (np.array(HEAD) + np.array((250, 0, 250))) / 2
    assert np.abs(mixed[26, 50] - between).max() <= 1


@pytest.mark.parametrize("size", [(96, 100), (40, 30), (200, 333), (12, 100)])
@pytest.mark.parametrize("region", [(0, 0, 100, 96), (20, 10, 81, 77), (64, 60, 100, 96)])
def test_a_region_is_composed_as_it_is_in_the_whole(
    size: tuple[int, int], region: tuple[int, int, int, int]
) -> None:
    photo, head = _photo()
    background = _noise(*size)
    x0, y0, x1, y1 = region
    part = compose(photo, head, background, region)
    whole = compose(photo, head, background)[y0:y1, x0:x1]
    assert part.shape == whole.shape
    assert np.abs(part.astype(int) - whole).max() <= 1


def test_what_is_composed_is_a_copy() -> None:
    photo, head = _photo()
    background = _noise(96, 100)
    before = background.copy()
    compose(photo, head, background)
    assert (background == before).all() and (photo == _photo()[0]).all()


def test_both_sides_go_on_behind_a_tiled_box_without_a_seam() -> None:
    photo = np.zeros((60, 100, 3), np.uint8)
    photo[:, :50], photo[:, 50:] = 40, 200
    filled, is_tiled = tile_over(photo, (30, 10, 70, 40))
    assert is_tiled and (filled[:10] == photo[:10]).all() and (filled[40:] == photo[40:]).all()
    row = filled[20, :, 0].astype(int)
    assert (row[:31] == 40).all() and (row[70:] == 200).all()
    assert np.abs(np.diff(row[28:72])).max() <= 6 and (np.diff(row[30:70]) >= 0).all()


@pytest.mark.parametrize(
    ("box", "is_tiled"),
    [((0, 20, 70, 96), True), ((30, 20, 100, 96), True), ((0, 20, 100, 96), True),
     ((0, 0, 100, 96), False), ((2, 2, 98, 94), False), ((40, 40, 40, 40), True)],
)  # fmt: skip
def test_a_box_anywhere_is_filled_and_says_whether_there_was_room(
    box: tuple[int, int, int, int], is_tiled: bool
) -> None:
    photo = _noise(96, 100)
    filled, found = tile_over(photo, box)
    assert filled.shape == photo.shape and found == is_tiled
    outside = np.ones((96, 100), bool)
    outside[box[1] : box[3], box[0] : box[2]] = False
    assert (filled[outside] == photo[outside]).all()


def test_the_box_of_a_foreground_holds_the_mask_and_what_is_given() -> None:
    _, head = _photo()
    x0, y0, x1, y1 = foreground_box(head, FACE)
    assert x0 < 36 and y0 < 26 and x1 > 64 and y1 > 60
    assert foreground_box(np.zeros_like(head), (10.0, 10.0, 30.0, 20.0)) == (8, 8, 31, 21)


def test_a_small_background_is_enlarged_as_a_whole_and_its_middle_is_shown() -> None:
    photo = np.zeros((96, 100, 3), np.uint8)
    background = _noise(48, 80)
    shown = compose(photo, np.zeros((96, 100), np.uint8), background)
    large = cv2.resize(background, (160, 96), interpolation=cv2.INTER_LINEAR)
    assert np.abs(shown.astype(int) - large[:, 30:130]).max() <= 1

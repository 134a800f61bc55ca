"""Heads that are cut out: their masks, their backgrounds, and which of them are not used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from cropfirst.core.faces.segment import head_mask
from cropfirst.stage1_detect.crops.cut_out import (
    BACKGROUND_SIDE,
    FILLS_PHOTO,
    CutOut,
    make_cut_out,
)

WALL, SKIN, HAIR = (180, 190, 200), (215, 160, 130), (30, 25, 25)
BOX = np.array([120, 150, 220, 280], np.float32)
POINTS = np.array([[150, 195], [190, 195], [170, 220], [152, 245], [188, 245]], np.float32)


Colour = tuple[int, int, int]


def person(*, mask: Colour | None = None, wall: Colour = WALL, hair: bool = True) -> np.ndarray:
    """A head with hair before a wall, (400, 340, 3) uint8 RGB."""
    photo = np.full((400, 340, 3), wall, np.uint8)
    cv2.rectangle(photo, (60, 310), (280, 400), (60, 60, 120), -1)
    if hair:
        cv2.ellipse(photo, (170, 190), (68, 90), 0, 0, 360, HAIR, -1)
    cv2.ellipse(photo, (170, 215), (50, 70), 0, 0, 360, SKIN, -1)
    if mask is not None:
        cv2.ellipse(photo, (170, 250), (46, 36), 0, 0, 360, mask, -1)
    rng = np.random.default_rng(0)
    return np.clip(photo + rng.normal(0, 3, photo.shape), 0, 255).astype(np.uint8)


def test_a_cut_out_has_the_head_and_the_room_without_it() -> None:
    photo = person()
    made = make_cut_out(photo, BOX, POINTS)
    mask, background = made.mask(), made.background()
    assert made.fault == "" and made.lends_room
    assert mask.shape == photo.shape[:2] and background.shape == photo.shape
    assert mask[215, 170] == 255 and mask[150, 40] == 0
    assert np.abs(background[120:280, 100:240].astype(int) - WALL).max() < 40
    assert np.abs(made.room[0].astype(int) - WALL).max() < 10


def test_dark_hair_before_a_light_wall_belongs_to_the_head() -> None:
    photo = person()
    crown = (slice(105, 130), slice(150, 190))
    before = head_mask(photo, BOX, POINTS).alpha[crown].mean()
    after = make_cut_out(photo, BOX, POINTS).mask()[crown].mean()
    assert before < 100, "GrabCut alone finds this hair: the photo shows nothing"
    assert after > 240
    bald = make_cut_out(person(hair=False), BOX, POINTS).mask()
    assert bald[crown].mean() < 20, "the wall above a bald head is no hair"


def test_the_edge_of_a_head_has_no_colour_of_the_old_room() -> None:
    made = make_cut_out(person(wall=(0, 255, 0)), BOX, POINTS)
    photo = person(wall=(0, 255, 0)).astype(int)
    kept = photo[made.mask() > 60]
    green = kept[:, 1] - np.maximum(kept[:, 0], kept[:, 2])
    assert (green > 60).mean() < 0.002


def test_equal_photos_give_equal_bytes_which_are_read_back() -> None:
    made = make_cut_out(person(), BOX, POINTS)
    data = made.to_bytes()
    assert make_cut_out(person(), BOX, POINTS).to_bytes() == data
    again = CutOut.from_bytes(memoryview(data))
    assert again == made and (again.mask() == made.mask()).all()
    about = CutOut.from_bytes(data, pictures=False)
    assert about.fault == "" and (about.room == made.room).all() and not about.mask_png
    for bad in (b"", b"cut0" + data[4:], data[:10]):
        with pytest.raises(ValueError, match="no cut-out of this version"):
            CutOut.from_bytes(bad)


def test_a_large_photo_has_a_small_background_without_its_head() -> None:
    large = cv2.resize(person(), None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    made = make_cut_out(large, BOX * 5, POINTS * 5)
    assert made.mask().shape == large.shape[:2] and made.mask()[215 * 5, 170 * 5] == 255
    background = made.background()
    assert max(background.shape) == BACKGROUND_SIDE
    scale = background.shape[0] / 400
    head = background[int(120 * scale) : int(280 * scale), int(100 * scale) : int(240 * scale)]
    assert np.abs(head.astype(int) - WALL).max() < 40


@pytest.mark.parametrize("mask", [WALL, (240, 240, 240), (120, 170, 220)])
def test_the_lower_face_is_part_of_the_head_or_the_cut_out_has_a_fault(
    mask: Colour,
) -> None:
    made = make_cut_out(person(mask=mask), BOX, POINTS)
    lower = made.mask()[225:275, 150:190]
    assert (lower > 127).mean() > 0.95
    assert made.fault == "" or "lower face" in made.fault


def test_a_mask_that_grabcut_eats_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def eaten(*args: Any, **options: Any) -> Any:
        found = head_mask(*args, **options)
        found.alpha[235:] = 0
        return found

    monkeypatch.setattr("cropfirst.stage1_detect.crops.cut_out.head_mask", eaten)
    made = make_cut_out(person(), BOX, POINTS)
    assert "of the lower face, not 95%" in made.fault
    assert made.mask()[262, 170] == 255, "the ellipse on the face box is kept instead"


def test_a_head_that_fills_the_photo_has_a_fault_and_lends_no_room() -> None:
    photo = person(hair=False)[155:275, 128:212]
    corner = np.array([128, 155], np.float32)
    made = make_cut_out(photo, BOX - np.tile(corner, 2), POINTS - corner)
    assert made.fault == FILLS_PHOTO and not made.lends_room


def test_a_box_beside_the_photo_has_a_fault_and_no_mask() -> None:
    made = make_cut_out(person(), np.array([900, 900, 990, 990], np.float32), None)
    assert made.fault and not made.mask().any() and made.mask().shape == (400, 340)
    assert (made.background().shape) == (400, 340, 3)


def test_a_drawn_head_is_cut_out(portrait: Callable[..., Any]) -> None:
    drawn = portrait(3)
    made = make_cut_out(drawn.image, np.array(drawn.face_box, np.float32), None)
    assert made.fault == ""
    x0, y0, x1, y1 = (round(value) for value in drawn.face_box)
    middle = made.mask()[(y0 + y1) // 2, x0 + (x1 - x0) // 4 : x1 - (x1 - x0) // 4]
    assert (middle == 255).all() and made.mask()[:, 0].max() == 0

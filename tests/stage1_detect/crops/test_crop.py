"""Crops: the right pixels, nothing of the room where it should be blank."""

from __future__ import annotations

import numpy as np
import pytest

from cropfirst.core.faces.crop import make_crop
from cropfirst.stage1_detect.config import CropConfig

FACE, ROOM = 200, 40
BOX = np.array([120, 100, 200, 220], dtype=np.float32)


def _photo(height: int = 300, width: int = 320) -> np.ndarray:
    """A bright face on a dark room."""
    photo = np.full((height, width, 3), ROOM, dtype=np.uint8)
    x0, y0, x1, y1 = (int(value) for value in BOX)
    photo[y0:y1, x0:x1] = FACE
    return photo


def test_box_is_a_square_around_the_face_with_its_margin() -> None:
    config = CropConfig(background="box", margin=0.5, image_size=90, fill=0)
    crop, window = make_crop(_photo(), BOX, None, config)
    assert crop.shape == (90, 90, 3) and crop.dtype == np.uint8
    assert window.xyxy() == (70, 70, 250, 250)
    # 80 x 120 of the window's 180 pixels are face; the rest is the room.
    assert (crop[..., 0] == FACE).sum() == 40 * 60
    assert (crop[0] == ROOM).all()


def test_ellipse_leaves_nothing_of_the_room() -> None:
    config = CropConfig(background="ellipse", margin=0.3, image_size=128, fill=127)
    crop, _ = make_crop(_photo(), BOX, None, config)
    # Only where the ellipse touches the box may its smooth edge mix in a trace of what is outside.
    assert (crop < 127).mean() < 0.01
    face = (crop[..., 0] == FACE).sum()
    scale = 128 / (120 * 1.3)
    assert face == pytest.approx(np.pi / 4 * 80 * 120 * scale**2, rel=0.03)
    assert (crop[0] == 127).all() and (crop[:, 0] == 127).all()


def test_ellipse_grows_and_shrinks_as_asked() -> None:
    counts = []
    for size in (0.5, 0.8, 1.0):
        config = CropConfig(ellipse_width=size, ellipse_height=size, image_size=128)
        crop, _ = make_crop(_photo(), BOX, None, config)
        counts.append((crop[..., 0] == FACE).sum())
    assert counts[0] == pytest.approx(counts[2] / 4, rel=0.05)
    assert counts[1] == pytest.approx(counts[2] * 0.64, rel=0.05)


def test_photo_keeps_everything_and_its_shape() -> None:
    crop, window = make_crop(_photo(100, 200), BOX, None, CropConfig(background="photo", fill=9))
    assert window.side == 200
    assert (crop[:50] == 9).all() and (crop[-50:] == 9).all()
    assert (crop[60:160] != 9).all()


def test_center_is_the_largest_centred_square() -> None:
    photo = np.zeros((100, 300, 3), dtype=np.uint8)
    photo[:, 100:200] = 255
    crop, _ = make_crop(photo, BOX, None, CropConfig(background="center", image_size=50))
    assert (crop == 255).all()


@pytest.mark.parametrize("background", ["box", "ellipse", "mean_box"])
@pytest.mark.parametrize(
    "box", [(-50, -80, 40, 30), (280, 270, 400, 380), (-500, -500, -400, -400), (5, 5, 5, 5)]
)
def test_boxes_past_the_edge_still_give_a_crop(background: str, box: tuple[int, ...]) -> None:
    config = CropConfig.model_validate({"background": background, "image_size": 64})
    crop, window = make_crop(_photo(), np.array(box, dtype=np.float32), None, config)
    assert crop.shape == (64, 64, 3)
    assert window.side >= 1


def test_align_levels_the_eyes() -> None:
    """Two dots where the eyes are, on a slope; in the crop they are level."""
    photo = np.full((400, 400, 3), 128, dtype=np.uint8)
    landmarks = np.array([[150, 180], [250, 220], [200, 240], [160, 280], [230, 300]], np.float32)
    for x, y in landmarks[:2].astype(int):
        photo[y - 4 : y + 5, x - 4 : x + 5] = 0
    config = CropConfig(background="box", align=True, image_size=200, margin=0.5)
    crop, window = make_crop(photo, np.array([120, 130, 280, 330], np.float32), landmarks, config)
    assert window.angle == pytest.approx(21.8, abs=0.1)
    rows, columns = np.nonzero(crop[..., 0] < 60)
    left, right = rows[columns < 100].mean(), rows[columns >= 100].mean()
    assert abs(left - right) < 1.0


def test_enlarging_and_shrinking_keep_the_mean() -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)
    for size in (20, 60, 180):
        crop, _ = make_crop(photo, BOX, None, CropConfig(background="photo", image_size=size))
        assert crop.mean() == pytest.approx(photo.mean(), abs=1.5)


POINTS = np.array([[140, 150], [180, 150], [160, 175], [145, 200], [175, 200]], np.float32)


@pytest.mark.parametrize("background", ["ellipse", "box"])
@pytest.mark.parametrize("align", [False, True])
def test_guessed_mouth_and_nose_points_change_no_pixel(background: str, align: bool) -> None:
    """Those points are guesses under a mask; the crop hangs on the box, and to align on eyes."""
    photo = np.random.default_rng(0).integers(0, 256, (300, 320, 3), dtype=np.uint8)
    points = POINTS + np.array([[0, 0], [0, 12], [0, 0], [0, 0], [0, 0]], np.float32)
    config = CropConfig.model_validate({"background": background, "align": align})
    crop, window = make_crop(photo, BOX, points, config)
    guessed = points.copy()
    guessed[2:] += np.random.default_rng(1).normal(0, 15, (3, 2)).astype(np.float32)
    again, same = make_crop(photo, BOX, guessed, config)
    assert window == same
    np.testing.assert_array_equal(crop, again)
    eyes = points.copy()
    eyes[1] += [0, 10]
    turned, _ = make_crop(photo, BOX, eyes, config)
    assert np.array_equal(crop, turned) == (not align), "only aligned crops hang on the eyes"

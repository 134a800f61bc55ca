"""A swapped crop: the head as it is, another room, cut as the crop of the crop set was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cropfirst.core.compositing import compose
from cropfirst.core.faces.crop import crop_window, face_window, make_crop
from cropfirst.stage1_detect.config import CropConfig
from cropfirst.stage1_detect.crops.cut_out import make_cut_out
from cropfirst.stage1_detect.swap.compose import swapped_crop

BACKGROUNDS = ("ellipse", "segment", "box", "photo", "center", "mean_box")


@pytest.fixture(scope="module")
def drawn(portrait: Callable[..., Any]) -> Any:
    return portrait(5, room=2)


def _row(drawn: Any, config: CropConfig) -> dict[str, Any]:
    box = np.array(drawn.face_box, np.float32)
    x0, y0, x1, y1 = box.tolist()
    middle = (y0 + y1) / 2
    points = np.array(
        [[x0 + 30, middle - 20], [x1 - 25, middle - 12], [(x0 + x1) / 2, middle],
         [x0 + 40, y1 - 30], [x1 - 35, y1 - 25]], np.float32,
    )  # fmt: skip
    _, window = make_crop(drawn.image, box, points, config)
    return {
        "box": box.tolist(), "landmarks": points.ravel().tolist(), "angle": window.angle,
        "window": list(window.xyxy()),
    }  # fmt: skip


@pytest.mark.parametrize("align", [False, True], ids=["upright", "aligned"])
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_part_is_composed_and_cut_as_the_whole_photo_would_be(
    drawn: Any, background: str, align: bool
) -> None:
    config = CropConfig.model_validate(
        {"background": background, "image_size": 96, "align": align, "margin": 0.5}
    )
    row = _row(drawn, config)
    box, points = np.float32(row["box"]), np.float32(row["landmarks"]).reshape(5, 2)
    mask = make_cut_out(drawn.image, box, points).mask()
    room = np.random.default_rng(0).integers(0, 256, (70, 60, 3), dtype=np.uint8)
    crop, window = swapped_crop(drawn.image, mask, room, row, config)
    whole = compose(drawn.image, mask, room)
    _, cut = make_crop(drawn.image, box, points, config)
    wanted, _ = crop_window(whole, cut, box, points, config)
    assert crop.shape == (96, 96, 3) and list(window.xyxy()) == row["window"]
    off = np.abs(crop.astype(int) - wanted)
    # GrabCut may move its edge by a pixel where the region's corner is rounded.
    assert (off.max(-1) > 2).mean() < (0.02 if background == "segment" else 0.001)


def test_the_head_is_kept_and_the_room_is_not(drawn: Any) -> None:
    config = CropConfig(background="box", image_size=128, margin=0.6)
    row = _row(drawn, config)
    box = np.float32(row["box"])
    mask = make_cut_out(drawn.image, box, None).mask()
    red = np.full((20, 20, 3), (255, 0, 0), np.uint8)
    crop, _ = swapped_crop(drawn.image, mask, red, row, config)
    original, _ = crop_window(drawn.image, face_window(box, None, config), box, None, config)
    where, _ = crop_window(
        np.repeat(mask[..., None], 3, -1), face_window(box, None, config), box, None, config
    )
    head, room = where[..., 0] == 255, where[..., 0] == 0
    assert head.mean() > 0.2 and room.mean() > 0.1
    assert np.abs(crop[head].astype(int) - original[head]).max() <= 2
    inside = room & (original != config.fill).any(-1)
    assert np.abs(crop[inside].astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize("window", [[900.0, 900.0, 960.0, 960.0], [-90.0, -90.0, -20.0, -20.0]])
def test_a_window_beside_the_photo_gives_a_blank_crop(drawn: Any, window: list[float]) -> None:
    config = CropConfig(background="box", image_size=32)
    row = {**_row(drawn, config), "window": window}
    mask = np.zeros(drawn.image.shape[:2], np.uint8)
    crop, _ = swapped_crop(drawn.image, mask, drawn.image, row, config)
    assert (crop == config.fill).all()

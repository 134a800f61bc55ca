"""P-Net over many levels at once gives every output that it gives on each level alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from cropfirst.core.faces.pyramid import output_length
from cropfirst.stage1_detect.mtcnn.engines.choose import make_engine
from cropfirst.stage1_detect.mtcnn.engines.numba.area import RawPhotos
from cropfirst.stage1_detect.mtcnn.nets.modules import load_nets
from cropfirst.stage1_detect.mtcnn.pyramid.canvas import (
    CANVAS_PIXELS,
    canvas_heights,
    canvas_width,
    plan_canvases,
)
from cropfirst.stage1_detect.mtcnn.pyramid.levels import (
    MAX_TILE_HEIGHT,
    PyramidLevel,
    group_strips,
    split_into_strips,
)

# Even and odd sides, a strip of one output, a level cut into bands, one cut into columns.
LEVELS = [(11, 11), (12, 13), (13, 12), (40, 31), (31, 40), (77, 58), (300, 45), (30, 2500)]


def _level(photo: int, height: int, width: int) -> PyramidLevel:
    return PyramidLevel(photo, 3, 0.5, height, width)


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_outputs_of_many_levels_equal_those_of_levels_alone(engine: Any) -> None:
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (h + 5, w + 9, 3), dtype=np.uint8) for h, w in LEVELS]
    images = RawPhotos.from_photos(photos)
    levels = [_level(index, *size) for index, size in enumerate(LEVELS)]
    pnet = load_nets("reference")[0]
    wanted = []
    for photo, (height, width) in zip(photos, LEVELS, strict=True):
        pixels = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
        level = interpolate(pixels, size=(height, width), mode="area")
        with torch.no_grad():
            wanted.append(pnet((level - 127.5) / 128))
    runner = make_engine(engine, weights="reference", device="cpu")
    seen = [torch.zeros(output_length(h), output_length(w), dtype=torch.int64) for h, w in LEVELS]
    for strips in group_strips(levels, 20_000):
        outputs, positions = runner.run_pnet(images, strips, -math.inf)
        for output, position in zip(outputs, positions.tolist(), strict=True):
            photo, index = position >> 56, (position >> 48) & 255
            row, col = (position >> 24) & 0xFFFFFF, position & 0xFFFFFF
            assert index == 3
            logits, offsets = wanted[photo]
            seen[photo][row, col] += 1
            score = float(logits.softmax(1)[0, 1, row, col])
            assert torch.sigmoid(output[0]) == pytest.approx(score, abs=1e-5)
            torch.testing.assert_close(output[1:], offsets[0, :, row, col], atol=1e-4, rtol=1e-4)
    assert all((each == 1).all() for each in seen), "each window must be seen exactly once"


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_only_outputs_above_the_logit_come_back(engine: Any) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    images, strips = RawPhotos.from_photos([photo]), split_into_strips(_level(0, 100, 150))
    runner = make_engine(engine, weights="reference", device="cpu")
    outputs, positions = runner.run_pnet(images, strips, -math.inf)
    min_logit = float(outputs[:, 0].median())
    some, where = runner.run_pnet(images, strips, min_logit)
    above = outputs[:, 0] > min_logit
    assert sorted(where.tolist()) == sorted(positions[above].tolist())
    torch.testing.assert_close(
        some[where.argsort()], outputs[above][positions[above].argsort()], atol=0, rtol=0
    )


def test_canvases_come_in_few_shapes_of_bounded_size() -> None:
    rng = np.random.default_rng(1)
    levels = [_level(i, *map(int, rng.integers(11, 3000, 2))) for i in range(40)]
    canvases = plan_canvases([strip for level in levels for strip in split_into_strips(level)])
    shapes = {(canvas.height, canvas.width) for canvas in canvases}
    whole = {(height, canvas_width(height)) for height in canvas_heights()}
    last = (canvases[-1].height, canvases[-1].width)
    assert shapes - {last} <= whole
    assert canvas_width(last[0]) // last[1] in {1, 2, 4}, "or a half or a quarter, at the end"
    assert max(height * width for height, width in shapes) <= CANVAS_PIXELS
    for canvas in canvases:
        ends = [tile.x + tile.width for tile in canvas.tiles]
        starts = [tile.x for tile in canvas.tiles]
        assert ends[-1] <= canvas.width and max(p.height for p in canvas.tiles) <= canvas.height
        assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


def test_equal_photos_fill_their_canvases() -> None:
    """The part that is computed and thrown away is small."""
    sizes = [(154, 116), (110, 82), (78, 59), (55, 42), (39, 30), (28, 21), (20, 15)]
    strips = [
        s for photo in range(16) for h, w in sizes for s in split_into_strips(_level(photo, h, w))
    ]
    canvases = plan_canvases(strips)
    used = 16 * sum(h * w for h, w in sizes)
    assert used / sum(c.height * c.width for c in canvases) > 0.8


def test_groups_hold_every_strip_once_and_stay_within_their_pixels() -> None:
    levels = [_level(0, 1000, 400), _level(1, 90, 90), _level(2, 256, 2000)]
    groups = list(group_strips(levels, 150_000))
    flat = [strip for group in groups for strip in group]
    assert flat == [strip for level in levels for strip in split_into_strips(level)]
    assert all(strip.height <= MAX_TILE_HEIGHT for strip in flat)
    for group in groups:
        assert len(group) == 1 or sum(s.height * s.width for s in group) <= 150_000

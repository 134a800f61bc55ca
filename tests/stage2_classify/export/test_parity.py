"""The comparison of a bundle with its run, where the crop of one box is rounded in two ways."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cropfirst.core.faces.crop import face_window
from cropfirst.door import Bundle
from cropfirst.door.faces import Face
from cropfirst.door.manifest import CropEntry
from cropfirst.stage2_classify.commands.bundle.parity import MIN_EQUAL_PIXELS, _rounds_otherwise

CROP = CropEntry("ellipse", 64, 0.1, 1.0, 1.0, False, 127)
BOX = np.array([60.540127, 81.31743, 150.10434, 201.42429], np.float32)
"""Box whose ellipse is drawn a fraction of a pixel elsewhere when it moves by 0.00006 pixels."""


@pytest.mark.parametrize(("moved", "same"), [(6e-5, True), (0.0, False), (0.5, False)])
def test_a_box_at_a_step_of_rounding_is_told_from_another_box(moved: float, same: bool) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (400, 300, 3), np.uint8)
    manifest: Any = SimpleNamespace(crop=CROP)
    detector: Any = None
    bundle = Bundle(manifest, detector, [])
    boxes = [BOX, BOX + np.float32(moved)]
    mine, face = (
        Face(tuple(map(float, box)), np.zeros((5, 2), np.float32), 0.99, "detected")
        for box in boxes
    )
    assert _rounds_otherwise(mine, face, bundle, photo) is same
    if same:
        assert len({face_window(box, None, CROP) for box in boxes}) == 1
        crops = [bundle.crop(photo, each).astype(int) for each in (mine, face)]
        assert (np.abs(crops[0] - crops[1]) <= 1).mean() < MIN_EQUAL_PIXELS, (
            "the case that is meant"
        )

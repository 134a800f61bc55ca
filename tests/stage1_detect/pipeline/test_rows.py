"""The key of a detection or a crop holds all that decides it, so that nothing outdated is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cropfirst.core.faces.crop import make_crop
from cropfirst.core.fingerprint import fingerprint
from cropfirst.stage1_detect.config import Background, CropConfig, DetectConfig
from cropfirst.stage1_detect.pipeline.resolve import MainFace
from cropfirst.stage1_detect.pipeline.rows import crop_recipe

BOX = np.array([120, 100, 200, 220], np.float32)
POINTS = np.array([[140, 150], [180, 162], [160, 175], [145, 200], [175, 200]], np.float32)
EYE_MOVED = POINTS + np.array([[0, 0], [0, 10], [0, 0], [0, 0], [0, 0]], np.float32)
MOUTH_MOVED = POINTS + np.array([[0, 0], [0, 0], [0, 0], [0, 8], [0, 8]], np.float32)


@pytest.mark.parametrize("landmarks", [EYE_MOVED, MOUTH_MOVED, None], ids=["eye", "mouth", "none"])
@pytest.mark.parametrize("align", [False, True], ids=["upright", "aligned"])
@pytest.mark.parametrize("background", ["ellipse", "box", "segment", "photo", "mean_box"])
def test_another_crop_has_another_recipe(
    background: Background, align: bool, landmarks: np.ndarray | None
) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (300, 320, 3), dtype=np.uint8)
    config = CropConfig(background=background, align=align, image_size=64)
    crops, recipes = [], []
    for points in (POINTS, landmarks):
        crops.append(make_crop(photo, BOX, points, config)[0])
        face = MainFace("detected", BOX, 0.99, points)
        recipes.append(crop_recipe({"content_hash": "c"}, face, BOX, config))
    if not np.array_equal(*crops):
        assert recipes[0] != recipes[1]
    eyes_differ = landmarks is not MOUTH_MOVED
    if background == "segment" or (background in {"ellipse", "box"} and align and eyes_differ):
        assert recipes[0] != recipes[1], "the points decide what is cut out, or how it is turned"
    elif background in {"ellipse", "box"}:
        assert recipes[0] == recipes[1], "nothing is cut again that comes out the same"


@pytest.mark.parametrize(
    ("settings", "decides"),
    [
        ({"detector": {"min_face_size": 41}}, True),
        ({"detector": {"thresholds": (0.6, 0.7, 0.8)}}, True),
        ({"detector": {"factor": 0.7}}, True),
        ({"detector": {"search": "largest"}}, True),
        ({"retry": []}, True),
        ({"decode": {"max_megapixels": 100}}, True),
        ({"decode": {"max_file_mb": 100}}, True),
        ({"decode": {"max_scans": 50}}, True),
        ({"crop": {"margin": 0.2}}, False),
        ({"engine": "torch", "workers": 3, "batch_megapixels": 1, "commit_photos": 7}, False),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_detection_is_named_by_all_that_decides_it(
    settings: dict[str, Any], decides: bool
) -> None:
    changed = DetectConfig.model_validate(settings)
    keys = [config.detection_key("weights") for config in (DetectConfig(), changed)]
    assert (fingerprint(keys[0]) != fingerprint(keys[1])) == decides
    assert fingerprint(changed.detection_key("others")) != fingerprint(keys[1])

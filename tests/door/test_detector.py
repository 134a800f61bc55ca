"""The door's detector finds what stage 1 finds, to a hundredth of a pixel."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from cropfirst.door.area import IntegralImage
from cropfirst.door.files import load_detector
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.mtcnn.onnx import detector_files
from cropfirst.stage1_detect.mtcnn.parity import compare_faces
from cropfirst.stage1_detect.mtcnn.pyramid.integral import IntegralImages
from cropfirst.stage1_detect.mtcnn.retry import RetryingDetector
from cropfirst.stage2_classify.commands.bundle.write import detector_entry
from cropfirst.stage2_classify.drawn.portrait import SHOTS, Shot, draw_portrait, random_person


@cache
def photos() -> list[np.ndarray]:
    """Portraits with and without masks, three faces in one photo, and a photo without a face."""
    drawn = []
    for number, kind in enumerate(SHOTS):
        rng = np.random.default_rng([3, number])
        person = random_person(rng, name="x", gender="male", age=30 + number)
        drawn.append(draw_portrait(person, Shot(kind, number % 6), rng, (300, 400)).image)
    crowd = np.concatenate(drawn[:3], axis=1)
    close_up = np.ascontiguousarray(drawn[0][121:])
    return [*drawn, crowd, crowd[5:384, 17:710], close_up, np.full((80, 200, 3), 90, np.uint8)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "detector",
    [
        {"weights": "reference"},
        {"weights": "reference", "min_face_size": 60, "search": "largest"},
        {"weights": "joined"},
    ],
    ids=["all", "largest", "joined"],
)
def test_faces_are_those_of_stage_1(detector: dict[str, Any]) -> None:
    config = DetectConfig.model_validate({"detector": detector})
    mine = load_detector(detector_files(config.detector.weights), detector_entry(config), threads=1)
    found = [mine.detect(photo) for photo in photos()]
    wanted = RetryingDetector(config, threads=1).detect(photos())
    parity = compare_faces([each.faces for each in found], [each.faces for each in wanted])
    assert parity.faces >= 9 and parity.matched == 1 and parity.extra == 0, parity
    assert parity.box_px < 0.01 and parity.landmark_px < 0.01 and parity.prob < 1e-4, parity
    for one, other in zip(found, wanted, strict=True):
        assert one.status == (other.status if len(one.faces) else "detected")


@pytest.mark.slow
def test_retry_steps_find_the_faces_that_stage_1_finds_by_them() -> None:
    # The first search finds nothing at thresholds of 1, so that each step in turn is what finds.
    steps = [
        {"name": "flipped", "flip": True, "thresholds": (0.6, 0.7, 0.7)},
        {"name": "contrast", "contrast": True, "thresholds": (0.6, 0.7, 0.7)},
        {"name": "enlarged", "scale": 1.5, "thresholds": (0.6, 0.7, 0.7)},
    ]
    for step in steps:
        config = DetectConfig.model_validate(
            {
                "detector": {"weights": "reference", "thresholds": (1.0, 1.0, 1.0)},
                "retry": [step],
            }
        )
        mine = load_detector(detector_files("reference"), detector_entry(config), threads=1)
        found = [mine.detect(photo) for photo in photos()[:3]]
        wanted = RetryingDetector(config, threads=1).detect(photos()[:3])
        parity = compare_faces([each.faces for each in found], [each.faces for each in wanted])
        assert parity.faces >= 3 and parity.matched == 1 and parity.box_px < 0.01, (step, parity)
        assert {each.status for each in found} == {each.status for each in wanted} == {"retried"}


def test_area_means_are_those_of_stage_1() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (61, 83, 3), np.uint8)
    mine = IntegralImage(photo)
    theirs = IntegralImages.from_photos([photo], torch.device("cpu"))
    windows = np.array([[0, 0, 83, 61], [3, 5, 4, 6], [10, 2, 70, 30], [80, 58, 83, 61]])
    crops = mine.crops(windows, 24)
    wanted = theirs.crop_resize(torch.zeros(4, dtype=torch.int64), torch.from_numpy(windows), 24)
    np.testing.assert_allclose(crops, wanted.permute(0, 3, 1, 2).numpy(), atol=1e-6)
    pixels = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
    level = torch.nn.functional.interpolate(pixels, size=(17, 29), mode="area")
    np.testing.assert_allclose(mine.resize(17, 29), ((level - 127.5) / 128).numpy(), atol=1e-6)

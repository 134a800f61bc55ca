"""Every engine finds facenet-pytorch's faces on the photos in fixtures/.

docs/make_parity_fixture.py drew the photos and ran facenet-pytorch on them; nothing else is needed
here, neither facenet-pytorch nor other photos.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn import detector as detector_module
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.mtcnn.engines.numba.available import numba_problem
from cropfirst.stage1_detect.mtcnn.parity import compare_faces
from cropfirst.stage1_detect.mtcnn.pyramid.integral import IntegralImages

FIXTURES = Path(__file__).parent / "fixtures"
TABLE: dict[str, Any] = json.loads((FIXTURES / "faces.json").read_text())
WANTED = [
    Detections(
        np.array(faces["boxes"], np.float32).reshape(-1, 4),
        np.array(faces["probs"], np.float32),
        np.array(faces["landmarks"], np.float32).reshape(-1, 5, 2),
    )
    for faces in TABLE["photos"].values()
]


def _photos() -> list[np.ndarray]:
    files = [FIXTURES / name for name in TABLE["photos"]]
    return [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in files]


def test_the_fixture_has_several_faces_and_none() -> None:
    counts = [len(faces) for faces in WANTED]
    assert TABLE["made_by"] == "facenet-pytorch 2.5.3"
    assert len({photo.shape for photo in _photos()}) == len(counts) >= 6
    assert max(counts) >= 5 and min(counts) == 0 and sum(counts) >= 10


@pytest.mark.parametrize("engine", ["numba", "torch", "torch on integral images"])
def test_every_engine_finds_the_references_faces(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "numba" and numba_problem() is not None:
        pytest.skip(f"the Numba engine cannot run here: {numba_problem()}")
    if engine == "torch on integral images":
        monkeypatch.setattr(detector_module, "load_photos", IntegralImages.from_photos)
    name: Any = engine.partition(" ")[0]
    config = DetectorConfig(weights="reference", min_face_size=TABLE["min_face_size"])
    parity = compare_faces(MTCNN(config, engine=name, threads=1).detect(_photos()), WANTED)
    assert parity.matched == 1 and parity.extra == 0, parity
    assert parity.box_px < 0.01 and parity.prob < 1e-4 and parity.landmark_px < 0.01, parity


@pytest.mark.requires_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: its engine is not tested")
def test_the_gpu_finds_the_references_faces() -> None:
    config = DetectorConfig(weights="reference", min_face_size=TABLE["min_face_size"])
    parity = compare_faces(MTCNN(config, device="cuda").detect(_photos()), WANTED)
    assert parity.matched == 1 and parity.extra == 0, parity
    assert parity.box_px < 0.05 and parity.prob < 1e-3 and parity.landmark_px < 0.05, parity

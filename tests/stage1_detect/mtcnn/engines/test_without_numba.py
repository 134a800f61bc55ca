"""PyTorch detects on the CPU where Numba cannot run: with the same boxes, and saying so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.mtcnn.parity import compare_faces

BLOCK = """
import sys
class Block:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("numba", "llvmlite"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
"""
DETECT = """
import json, sys, warnings
import cv2
from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn.detector import MTCNN
photo = cv2.imread(sys.argv[1])[..., ::-1]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    detector = MTCNN(DetectorConfig(min_face_size=20), engine="auto")
try:
    MTCNN(engine="numba")
except DetectError as error:
    refused = str(error)
notes = [str(each.message) for each in caught]
result = {"refused": refused, "engine": detector.engine.name, "notes": notes}
photos = [photo, photo[:, ::-1], photo[30:, 20:]]
result["faces"] = [
    [faces.boxes.tolist(), faces.probs.tolist(), faces.landmarks.tolist()]
    for faces in detector.detect(photos)
]
print(json.dumps(result))
"""
COMMAND = """
from cropfirst.cli import main
main(["detect", *sys.argv[2:], "--device", "cpu"])
"""


def _run(code: str, *args: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env=os.environ | env, capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip


@pytest.fixture
def photo_file(face_photo: np.ndarray, tmp_path: Path) -> Path:
    file = tmp_path / "photos" / "face.png"
    file.parent.mkdir()
    cv2.imwrite(str(file), face_photo[..., ::-1])
    return file


def test_auto_falls_back_to_torch_with_the_same_faces_and_says_once_that_it_is_slow(
    face_photo: np.ndarray, photo_file: Path
) -> None:
    data, work = photo_file.parent, photo_file.parents[1] / "work"
    done = _run(BLOCK + DETECT + COMMAND, photo_file, data, "--work", work)
    assert done.returncode == 0, done.stderr
    first, told = done.stdout.split("\n", 1)
    told += done.stderr
    assert told.count("PyTorch on the CPU") == 1 and "Warning" not in told, told
    result = json.loads(first)
    assert result["engine"] == "torch"
    (note,) = result["notes"]
    assert "numba is blocked" in note and "PyTorch on the CPU" in note
    assert result["refused"].startswith("--engine numba cannot run here (ImportError: numba is")
    assert "pip install" in result["refused"]
    faces = [Detections(*(np.array(part, np.float32) for part in f)) for f in result["faces"]]
    photos = [face_photo, face_photo[:, ::-1], face_photo[30:, 20:]]
    wanted = MTCNN(DetectorConfig(min_face_size=20), engine="numba").detect(photos)
    parity = compare_faces(faces, wanted)
    assert parity.faces >= 3 and parity.matched == 1 and parity.extra == 0, parity
    assert parity.box_px < 0.01 and parity.prob < 1e-4 and parity.landmark_px < 0.01, parity


def test_where_nothing_may_be_compiled_numba_cannot_run() -> None:
    code = (
        "from cropfirst.stage1_detect.mtcnn.engines import choose\n"
        "print(choose.resolve_engine('auto', 'cpu'), choose.slow_engine_note('auto', 'cpu'))"
    )
    done = _run(code, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("torch Numba cannot run here (ImportError: NUMBA_DISABLE_JIT is")

"""A small bundle that tells the mask states of a few drawn people apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from cropfirst.core.faces.crop import make_crop
from cropfirst.core.onnx_export import to_onnx
from cropfirst.door import Bundle
from cropfirst.door.check import golden_answers
from cropfirst.door.files import write_files
from cropfirst.door.manifest import (
    GOLDEN,
    MANIFEST,
    ClassifierEntry,
    CropEntry,
    DetectorEntry,
    Limits,
    Manifest,
    RetryStep,
    TaskEntry,
)
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn.detector import MTCNN
from cropfirst.stage1_detect.mtcnn.onnx import detector_files

CLASSES = ("wear", "incorrect", "normal")
SIDE, CELL = 64, 4
"""Side of a crop, and of the squares whose means the classifier sees, in pixels."""
CROP = CropEntry("ellipse", SIDE, 0.1, 1.0, 1.0, False, 127)
DETECTOR = DetectorEntry(
    weights="reference",
    min_face_size=40,
    factor=0.709,
    thresholds=(0.6, 0.7, 0.7),
    search="all",
    select="largest_over_threshold",
    rnet_overlap=0.7,
    localiser=False,
    retry=(RetryStep("flipped", (0.5, 0.6, 0.5), flip=True, contrast=False, scale=1.0),),
)


class _Means(nn.Sequential):
    """Log-probabilities by logistic regression on the means of squares of a crop."""

    def __init__(self, crops: np.ndarray, states: Sequence[int]) -> None:
        pool = nn.Sequential(nn.AvgPool2d(CELL), nn.Flatten())
        features = pool(_normalised(crops)).numpy()
        fitted = LogisticRegression(C=0.3, max_iter=1000).fit(features, states)
        assert fitted.score(features, states) > 0.95
        linear = nn.Linear(features.shape[1], len(CLASSES))
        linear.weight.data = torch.tensor(fitted.coef_, dtype=torch.float32)
        linear.bias.data = torch.tensor(fitted.intercept_, dtype=torch.float32)
        super().__init__(pool, linear, nn.LogSoftmax(1))


def write_bundle(folder: Path, photos: Sequence[np.ndarray], states: Sequence[int]) -> Path:
    """Write a bundle that has learned the faces of some photos by heart.

    Args:
        photos: (H, W, 3) uint8 RGB with one face at least.
        states: index in `CLASSES` of each.
    """
    folder.mkdir(parents=True)
    found = MTCNN(DetectorConfig(), threads=1).detect(photos)
    crops = [
        make_crop(photo, faces.boxes[0], faces.landmarks[0], CROP)[0]
        for photo, faces in zip(photos, found, strict=True)
    ]
    means = to_onnx(
        _Means(np.stack(crops), states).eval(), (3, SIDE, SIDE),
        input_name="crops", output_names=["mask"], free={},
    )  # fmt: skip
    half = (0.5, 0.5, 0.5)
    manifest = Manifest(
        files={},
        detector=DETECTOR,
        crop=CROP,
        classifiers=(ClassifierEntry("classifier-0.onnx", SIDE, half, half, {"mask": 1.0}),),
        tasks={"mask": TaskEntry(CLASSES)},
        limits=Limits(smallest_face=60, sharpness=0.0, turn=1.0),
    )
    golden = {f"golden/{number}.png": photo for number, photo in enumerate(photos[:2])}
    files = {**detector_files("reference"), "classifier-0.onnx": means, GOLDEN: golden_answers({})}
    for name, photo in golden.items():
        files[name] = cv2.imencode(".png", photo[..., ::-1])[1].tobytes()
    manifest = write_files(folder, manifest, files)
    bundle = Bundle.open(folder)
    answers = {name: bundle.predict(photo) for name, photo in golden.items()}
    write_files(folder, manifest, {GOLDEN: golden_answers(answers)})
    return folder


def change_manifest(folder: Path, **changes: object) -> None:
    """Change the entries of manifest.json that are named by path, such as `crop__align`."""
    path = folder / MANIFEST
    data = json.loads(path.read_text("utf-8"))
    for name, value in changes.items():
        *parts, last = name.split("__")
        inner = data
        for part in parts:
            inner = inner[part]
        inner[last] = value
    path.write_text(json.dumps(data), "utf-8")


def _normalised(crops: np.ndarray) -> Tensor:
    return torch.from_numpy(crops.transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1

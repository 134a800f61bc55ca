"""Detection rows and crop rows: how results of stage 1 are put into the cache's columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cropfirst.core.fingerprint import fingerprint
from cropfirst.stage1_detect.config import CropConfig
from cropfirst.stage1_detect.crops.crop import Window
from cropfirst.stage1_detect.mtcnn.retry import RetryResult
from cropfirst.stage1_detect.photos.read import FileStat, Photo, PhotoRef, ReadError
from cropfirst.stage1_detect.pipeline.resolve import Face

NO_SEGMENT = "NoSegment"
"""In `error_type`, of a crop that is an ellipse since its face could not be segmented."""


def detection_row(key: str, stat: FileStat, photo: Photo, found: RetryResult) -> dict[str, Any]:
    """The row of a photo that could be read."""
    return {
        "key": key,
        "size": stat.size,
        "mtime_ns": stat.mtime_ns,
        "content_hash": photo.content_hash,
        "width": photo.image.shape[1],
        "height": photo.image.shape[0],
        "found": found.status,
        "policy": found.policy,
        "n_faces": len(found.faces),
        "boxes": found.faces.boxes.ravel().tolist(),
        "probs": found.faces.probs.tolist(),
        "landmarks": found.faces.landmarks.ravel().tolist(),
        "error_type": None,
        "error": None,
    }


def unreadable_row(key: str, stat: FileStat | None, error: ReadError) -> dict[str, Any]:
    """The row of a photo that could not; size and mtime are -1 where there is no file."""
    return {
        "key": key,
        "size": stat.size if stat else -1,
        "mtime_ns": stat.mtime_ns if stat else -1,
        "content_hash": "",
        "width": 0,
        "height": 0,
        "found": "unreadable",
        "policy": "",
        "n_faces": 0,
        "boxes": [],
        "probs": [],
        "landmarks": [],
        "error_type": error.kind,
        "error": str(error),
    }


def crop_recipe(row: Mapping[str, Any], face: Face, box: np.ndarray, config: CropConfig) -> str:
    """Hash of all that decides one crop's pixels, beside the crop set's own config."""
    inputs: dict[str, Any] = {"content": row["content_hash"]}
    if config.uses_box:
        inputs["box"] = [float(value) for value in box]
    if config.uses_landmarks and face.landmarks is not None:
        inputs["landmarks"] = [float(value) for value in face.landmarks.ravel()]
    elif config.align and face.landmarks is not None:
        inputs["eyes"] = [float(value) for value in face.landmarks[:2].ravel()]
    return fingerprint(inputs)


def crop_row(
    photo: PhotoRef,
    row: Mapping[str, Any],
    face: Face,
    *,
    recipe: str = "",
    window: Window | None = None,
    crop_hash: str | None = None,
) -> dict[str, Any]:
    """The one row that stage 2 sees of a photo; without a window it has no crop."""
    fault = "" if window is None else window.fault
    return {
        "key": photo.key,
        "split": photo.split,
        "group": photo.group,
        "status": face.status,
        "recipe": recipe,
        "content_hash": row["content_hash"],
        "width": row["width"],
        "height": row["height"],
        "box": None if face.box is None else face.box.tolist(),
        "prob": face.prob,
        "landmarks": None if face.landmarks is None else face.landmarks.ravel().tolist(),
        "n_faces": row["n_faces"],
        "window": None if window is None else list(window.xyxy()),
        "angle": 0.0 if window is None else window.angle,
        "crop_hash": crop_hash,
        "error_type": NO_SEGMENT if fault else row["error_type"],
        "error": fault or row["error"],
    }

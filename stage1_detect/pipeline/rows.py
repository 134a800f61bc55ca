"""Build detection rows and crop rows, the columns of the cache's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cropfirst.core.faces.crop import Window
from cropfirst.core.fingerprint import fingerprint
from cropfirst.stage1_detect.config import CropConfig
from cropfirst.stage1_detect.mtcnn.retry import RetryResult
from cropfirst.stage1_detect.photos.read import FileStat, Photo, PhotoRef, ReadError
from cropfirst.stage1_detect.pipeline.resolve import MainFace

NO_SEGMENT = "NoSegment"
"""`error_type` of a crop that is an ellipse because its face could not be segmented."""


def detection_row(key: str, stat: FileStat, photo: Photo, found: RetryResult) -> dict[str, Any]:
    """Return the detection row of a photo that could be read."""
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
    """Return the detection row of an unreadable photo; size and time are -1 without a file."""
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


def crop_recipe(row: Mapping[str, Any], face: MainFace, box: np.ndarray, config: CropConfig) -> str:
    """Return the hash of all that decides the pixels of one crop, besides the crop set's config."""
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
    face: MainFace,
    *,
    recipe: str = "",
    window: Window | None = None,
    crop_hash: str | None = None,
) -> dict[str, Any]:
    """Return the crop row of a photo, which is all that stage 2 sees of it.

    Args:
        window: part of the photo that the crop was cut from; None if there is no crop.
    """
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

"""The teacher's faces in every photo, detected once and kept in a table per teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from rich.console import Console

from cropfirst.cache.tables import read_table, write_table
from cropfirst.core.errors import DetectError
from cropfirst.core.prefetch import in_slices, prefetch
from cropfirst.stage1_detect.harden.paste.augment import BORDER, add_border
from cropfirst.stage1_detect.harden.training.samples import HardenSample
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.photos.read import ReadError, read_photo, stat_photo
from cropfirst.stage1_detect.pipeline.progress import Progress
from cropfirst.stage1_detect.pipeline.resolve import faces_of_row

KIND, VERSION = "teacher", 1
_SAVE_EVERY = 1000
"""Number of photos between two saves."""
_SCHEMA: dict[str, Any] = {
    "key": pl.String,
    "size": pl.Int64,
    "mtime_ns": pl.Int64,
    "error": pl.String,
    "boxes": pl.List(pl.Float32),
    "probs": pl.List(pl.Float32),
    "landmarks": pl.List(pl.Float32),
    "height": pl.Int64,
    "width": pl.Int64,
    "look": pl.String,
}


@dataclass(frozen=True)
class TeacherOutput:
    """The teacher's faces in one photo, with the photo's size and hash."""

    faces: Detections
    height: int
    width: int
    image_hash: int
    """64-bit perceptual hash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash
    Functions", 2010; imagehash)."""


def run_teacher(
    samples: Sequence[HardenSample],
    teacher: MTCNN,
    path: Path,
    *,
    workers: int,
    console: Console | None,
) -> tuple[dict[str, TeacherOutput], list[tuple[str, str]]]:
    """Detect faces in every photo that is not in the table or has changed since.

    Args:
        path: the table; it must be of this teacher alone.

    Returns:
        Outputs by key, and (key, message) of the photos that cannot be read.
    """
    rows = _read(path)
    todo = [sample for sample in samples if not _is_current(rows.get(sample.key), sample)]
    with Progress(console, "teacher", total=len(todo)) as progress:
        for part in in_slices(todo, _SAVE_EVERY):
            for sample, row in prefetch(
                part, lambda each: _make_row(each, teacher), workers=workers, size_of=lambda _: 0
            ):
                rows[sample.key] = row
                progress.advance(1, **({"unreadable": 1} if row["error"] else {}))
            frame = pl.DataFrame(list(rows.values()), schema=_SCHEMA)
            write_table(path, frame, kind=KIND, version=VERSION)
    wanted = [rows[sample.key] for sample in samples]
    outputs = {
        row["key"]: TeacherOutput(
            faces_of_row(row), row["height"], row["width"], int(row["look"], 16)
        )
        for row in wanted
        if not row["error"]
    }
    return outputs, [(row["key"], row["error"]) for row in wanted if row["error"]]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    advice = f"delete {path.parent} and run harden again"
    frame = read_table(path, kind=KIND, version=VERSION, fix=advice)
    if dict(frame.schema) != _SCHEMA:
        raise DetectError(f"{path} has other columns than this version's: {advice}")
    return {row["key"]: row for row in frame.to_dicts()}


def _is_current(row: Mapping[str, Any] | None, sample: HardenSample) -> bool:
    if row is None or row["error"]:
        return False
    try:
        now = stat_photo(sample.path)
    except ReadError:
        return False
    return (row["size"], row["mtime_ns"]) == (now.size, now.mtime_ns)


def _make_row(sample: HardenSample, teacher: MTCNN) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(_SCHEMA)
    row["key"] = sample.key
    try:
        stat = stat_photo(sample.path)
        image = read_photo(sample.path).image
    except ReadError as error:
        return {**row, "error": f"{error.kind}: {error}"}
    faces = detect_with_border(image, teacher)
    return {
        "key": sample.key,
        "size": stat.size,
        "mtime_ns": stat.mtime_ns,
        "error": "",
        "boxes": np.ravel(faces.boxes).tolist(),
        "probs": np.ravel(faces.probs).tolist(),
        "landmarks": np.ravel(faces.landmarks).tolist(),
        "height": image.shape[0],
        "width": image.shape[1],
        "look": _hash(image),
    }


def detect_with_border(image: np.ndarray, teacher: MTCNN) -> Detections:
    """Detect faces in a photo with a grey border.

    If a face reaches past the photo's edge, MTCNN stretches the part that is left and misplaces the
    landmarks.

    Args:
        image: (H, W, 3) uint8 RGB.
        teacher: the detector.

    Returns:
        Faces in the pixels of the photo without its border.
    """
    border = round(BORDER * max(image.shape[:2]))
    faces = teacher.detect_batch([add_border(image, border)])[0]
    shift = np.float32(border)
    return Detections(faces.boxes - shift, faces.probs, faces.landmarks - shift)


def _hash(image: np.ndarray) -> str:
    """Return the perceptual hash in 16 hexadecimal digits."""
    import imagehash
    from PIL import Image

    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    return str(imagehash.phash(Image.fromarray(small)))

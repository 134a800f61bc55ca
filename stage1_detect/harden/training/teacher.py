"""What the teacher finds in every photo, asked once and kept in a table of each teacher."""

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
from cropfirst.stage1_detect.harden.paste.scene import Scene, framed
from cropfirst.stage1_detect.harden.training.samples import Subject
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.photos.read import ReadError, read_photo, stat_photo
from cropfirst.stage1_detect.pipeline.progress import Progress
from cropfirst.stage1_detect.pipeline.resolve import faces_of_row

KIND, VERSION = "teacher", 1
_SAVED_EVERY = 1000
"""Photos: a kill loses no more."""
_FRAME = 0.25
"""Width of the frame, as a share of the photo's longer side."""
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
class Answer:
    """The teacher's word on one photo, and what was seen with it."""

    faces: Detections
    height: int
    width: int
    look: int
    """64-bit perceptual hash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash
    Functions", 2010; imagehash)."""


def ask_teacher(
    subjects: Sequence[Subject],
    teacher: MTCNN,
    path: Path,
    *,
    workers: int,
    console: Console | None,
) -> tuple[dict[str, Answer], list[tuple[str, str]]]:
    """Ask about every photo that has not been asked about, or has changed since.

    Args:
        path: of the table; it is of this teacher alone.

    Returns:
        Answers by key, and (key, message) of the photos that cannot be read.
    """
    rows = _read(path)
    todo = [subject for subject in subjects if not _stands(rows.get(subject.key), subject)]
    with Progress(console, "teacher", total=len(todo)) as progress:
        for part in in_slices(todo, _SAVED_EVERY):
            for subject, row in prefetch(
                part, lambda each: _ask(each, teacher), workers=workers, size_of=lambda _: 0
            ):
                rows[subject.key] = row
                progress.advance(1, **({"unreadable": 1} if row["error"] else {}))
            frame = pl.DataFrame(list(rows.values()), schema=_SCHEMA)
            write_table(path, frame, kind=KIND, version=VERSION)
    here = [rows[subject.key] for subject in subjects]
    answers = {
        row["key"]: Answer(faces_of_row(row), row["height"], row["width"], int(row["look"], 16))
        for row in here
        if not row["error"]
    }
    return answers, [(row["key"], row["error"]) for row in here if row["error"]]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    mend = f"delete {path.parent} and run harden again"
    frame = read_table(path, kind=KIND, version=VERSION, mend=mend)
    if dict(frame.schema) != _SCHEMA:
        raise DetectError(f"{path} has other columns than this version's: {mend}")
    return {row["key"]: row for row in frame.to_dicts()}


def _stands(row: Mapping[str, Any] | None, subject: Subject) -> bool:
    if row is None or row["error"]:
        return False
    try:
        now = stat_photo(subject.path)
    except ReadError:
        return False
    return (row["size"], row["mtime_ns"]) == (now.size, now.mtime_ns)


def _faces(image: np.ndarray, teacher: MTCNN) -> Detections:
    """In a frame: of a face that reaches past the photo's edge MTCNN sees what is left, stretched,
    and misplaces its landmarks."""
    bare = Scene(image, np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32))
    wide = framed(bare, _FRAME).photo
    faces = teacher.detect_batch([wide])[0]
    edge = np.float32((wide.shape[0] - image.shape[0]) // 2)
    return Detections(faces.boxes - edge, faces.probs, faces.landmarks - edge)


def _ask(subject: Subject, teacher: MTCNN) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(_SCHEMA)
    row["key"] = subject.key
    try:
        stat = stat_photo(subject.path)
        image = read_photo(subject.path).image
    except ReadError as error:
        return {**row, "error": f"{error.kind}: {error}"}
    faces = _faces(image, teacher)
    return {
        "key": subject.key,
        "size": stat.size,
        "mtime_ns": stat.mtime_ns,
        "error": "",
        "boxes": np.ravel(faces.boxes).tolist(),
        "probs": np.ravel(faces.probs).tolist(),
        "landmarks": np.ravel(faces.landmarks).tolist(),
        "height": image.shape[0],
        "width": image.shape[1],
        "look": _look(image),
    }


def _look(image: np.ndarray) -> str:
    """The hash in 16 hexadecimal digits."""
    import imagehash
    from PIL import Image

    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    return str(imagehash.phash(Image.fromarray(small)))

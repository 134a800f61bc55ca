"""Known faces from a CSV file with one row per face.

Knows no photo: `clip` checks that a box lies in its photo, once the photo's size is known.
"""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.harden.training.known_faces import MASK_STATES, KnownFaces

CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x0", "y0", "x1", "y1"))
"""Accepted names of the corners; the first if a file has both."""
STATE_OF = {
    **{state: state for state in MASK_STATES},
    "with_mask": "wear",
    "mask": "wear",
    "mask_weared_incorrect": "incorrect",
    "incorrect_mask": "incorrect",
    "without_mask": "normal",
    "no_mask": "normal",
    "": "",
}
"""Mask state of each accepted `label`, in lower case (the spellings of
configs/labels/contest.yaml)."""
_WANTED = (
    "a CSV file with the columns file, xmin, ymin, xmax, ymax (or file, x0, y0, x1, y1), in pixels "
    "of the upright photo, and perhaps label (wear, incorrect or normal)"
)


def read_boxes(path: Path) -> dict[str, KnownFaces]:
    """Read the faces of each photo, in the order in which the file first names the photos.

    Other columns and blank lines are ignored. A face without a label has the state "". A box that
    is left of or above every photo is refused here; for the other edges see `clip`.

    Args:
        path: the file; its column `file` is relative to the data set's root.

    Returns:
        Faces by the photo's POSIX path relative to the root.

    Raises:
        DetectError: the file cannot be read, or a line is wrong; the message names it.
    """
    frame, first_line = _read(path)
    corners = next((names for names in CORNERS if {"file", *names} <= set(frame.columns)), None)
    if corners is None:
        raise DetectError(
            f"{path} has the columns {', '.join(map(repr, frame.columns))}; wanted {_WANTED}: "
            "rename them"
        )
    lines = _lines(frame, first_line)
    label = pl.col("label") if "label" in frame.columns else pl.lit("")
    rows = frame.select(
        pl.col("file").fill_null("").alias("file"),
        label.fill_null("").alias("label"),
        *(pl.col(name).str.strip_chars().fill_null("").alias(name) for name in corners),
        line=lines,
    )
    blank = pl.all_horizontal(pl.all().exclude("line") == "")
    rows = rows.filter(~blank)
    if not len(rows):
        raise DetectError(f"{path} holds no row below its header; wanted one row a face: {_WANTED}")
    boxes = _boxes(path, rows, corners)
    states = _states(path, rows)
    by_photo: dict[str, list[int]] = {}
    for index, key in enumerate(_keys(path, rows)):
        by_photo.setdefault(key, []).append(index)
    return {
        key: KnownFaces(boxes[index], tuple(states[i] for i in index))
        for key, index in by_photo.items()
    }


def clip(faces: KnownFaces, height: int, width: int, *, name: str) -> KnownFaces:
    """Cut boxes off at the photo's edges.

    Args:
        height: height of the upright photo in pixels.
        width: its width in pixels.
        name: name of the photo for the message.

    Raises:
        DetectError: a box is completely outside the photo.
    """
    boxes = np.clip(faces.boxes, 0, np.array([width, height, width, height], np.float32))
    empty = np.flatnonzero((boxes[:, 2:] <= boxes[:, :2]).any(axis=1))
    if len(empty):
        box = ", ".join(f"{value:g}" for value in faces.boxes[empty[0]])
        raise DetectError(
            f"the box {box} of {name} lies outside that photo of {width} x {height} pixels: wanted "
            "x and y in pixels of the upright photo; correct or remove its row"
        )
    return KnownFaces(boxes, faces.states)


def _read(path: Path) -> tuple[pl.DataFrame, int]:
    """Return all columns as text, and the line of the first row."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DetectError(
            f"the boxes in {path} cannot be read ({error.strerror}); wanted {_WANTED}"
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DetectError(
            f"{path} line {line} is not UTF-8 text; wanted {_WANTED}: save it as UTF-8"
        ) from error
    body = text.lstrip("\r\n")
    try:
        frame = pl.read_csv(io.BytesIO(body.encode()), infer_schema=False)
    # A panic of polars is not an Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DetectError(f"{path} is not a table ({reason}); wanted {_WANTED}") from error
    header = "".join(frame.columns).count("\n")
    return frame, text[: len(text) - len(body)].count("\n") + 2 + header


def _lines(frame: pl.DataFrame, first: int) -> pl.Series:
    """Return the line on which each row starts; a quoted field may hold line breaks."""
    breaks = frame.select(
        pl.sum_horizontal(pl.all().str.count_matches("\n").fill_null(0)).cast(pl.Int64)
    ).to_series()
    return breaks.cum_sum().shift(1, fill_value=0) + pl.Series(range(first, first + len(frame)))


def _boxes(path: Path, rows: pl.DataFrame, corners: tuple[str, ...]) -> np.ndarray:
    """Return (N, 4) float32 xyxy."""
    numbers = rows.select(pl.col(corners).cast(pl.Float32, strict=False))
    wrong = ~numbers.select(pl.all_horizontal(pl.all().is_finite().fill_null(False))).to_series()
    if wrong.any():
        row = rows.filter(wrong).row(0, named=True)
        told = ", ".join(f"{name} {row[name]!r}" for name in corners)
        raise DetectError(
            f"{path} line {row['line']}: wanted four numbers (pixels), got {told}: correct or "
            "remove that line"
        )
    boxes = numbers.to_numpy().astype(np.float32).reshape(-1, 4)
    for bad, what in (
        ((boxes[:, 2:] <= boxes[:, :2]).any(axis=1), "is empty or turned"),
        ((boxes[:, 2:] <= 0).any(axis=1), "lies outside any photo"),
    ):
        if bad.any():
            index = int(np.flatnonzero(bad)[0])
            row = rows.row(index, named=True)
            told = ", ".join(f"{name} {row[name]}" for name in corners)
            raise DetectError(
                f"{path} line {row['line']}: the box {what}: {told}; wanted {corners[0]} < "
                f"{corners[2]} and {corners[1]} < {corners[3]}, corners in pixels from the "
                "photo's upper left: correct or remove that line"
            )
    return boxes


def _states(path: Path, rows: pl.DataFrame) -> list[str]:
    words = rows["label"].str.strip_chars().str.to_lowercase().to_list()
    for index, word in enumerate(words):
        if word not in STATE_OF:
            row = rows.row(index, named=True)
            raise DetectError(
                f"{path} line {row['line']}: unknown label {row['label']!r}; wanted one of "
                f"{', '.join(word for word in STATE_OF if word)}, or nothing if it is unknown"
            )
    return [STATE_OF[word] for word in words]


def _keys(path: Path, rows: pl.DataFrame) -> list[str]:
    """Return normal POSIX paths below the root; Windows' separators are accepted too."""
    keys = []
    for name, line in rows.select("file", "line").iter_rows():
        key = PurePosixPath(name.strip().replace("\\", "/"))
        if not key.parts or key.is_absolute() or ".." in key.parts or "\0" in name:
            raise DetectError(
                f"{path} line {line}: wanted under file a path relative to the data set's folder, "
                f"got {name!r}: correct that line"
            )
        keys.append(str(key))
    return keys

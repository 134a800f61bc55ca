"""Counts the known faces of photos that a detector found, for benchmarks/detect.py."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cropfirst.core.faces.boxes import iou
from cropfirst.core.faces.select import select_face
from cropfirst.stage1_detect.mtcnn.detector import Detections

MIN_RECALL_HEIGHT = 40
"""Height in pixels from which on a face counts for recall."""
SAME_FACE = 0.4
"""Overlap from which on a detection is on a known face."""


def read_boxes(files: Sequence[Path]) -> list[np.ndarray] | None:
    """Return the boxes of each photo that are tall enough, from a table in a folder above it.

    The table is boxes.csv (file, xmin, ymin, xmax, ymax) or labels.csv with the pupils of one face
    (path, eye_l_x, eye_l_y, eye_r_x, eye_r_y).

    Returns:
        None if a photo has no such table above it.
    """
    tables: dict[Path, dict[Path, list[list[float]]] | None] = {}
    boxes = []
    for file in files:
        root = next((each for each in file.parents if _table(each) is not None), None)
        if root is None:
            return None
        if root not in tables:
            tables[root] = _read(root)
        known = tables[root]
        if known is None:
            return None
        found = np.array(known[file], dtype=np.float32).reshape(-1, 4)
        boxes.append(found[found[:, 3] - found[:, 1] >= MIN_RECALL_HEIGHT])
    return boxes


def _table(folder: Path) -> Path | None:
    names = ("boxes.csv", "labels.csv")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read(root: Path) -> dict[Path, list[list[float]]] | None:
    table = _table(root)
    assert table is not None
    found: dict[Path, list[list[float]]] = defaultdict(list)
    with open(table, newline="") as lines:
        rows = csv.DictReader(lines)
        names = set(rows.fieldnames or ())
        corners = next(
            (each for each in (("xmin", "ymin", "xmax", "ymax"), ("x0", "y0", "x1", "y1"))
             if {"file", *each} <= names),
            None,
        )  # fmt: skip
        pupils = ("eye_l_x", "eye_l_y", "eye_r_x", "eye_r_y")
        if corners is None and not {"path", *pupils} <= names:
            return None
        for row in rows:
            if corners is not None:
                found[root / row["file"]].append([float(row[name]) for name in corners])
            elif all(row[name] for name in pupils):
                found[root / row["path"]].append(_box_of(*(float(row[name]) for name in pupils)))
    return found


def _box_of(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    """Return the box of a face by its pupils, as wide and high as MTCNN's are in the mean."""
    distance = float(np.hypot(x1 - x0, y1 - y0))
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return [x - 1.15 * distance, y - 1.15 * distance, x + 1.15 * distance, y + 1.85 * distance]


def recall(found: Sequence[Detections], boxes: Sequence[np.ndarray]) -> float:
    """Return the share of boxes that a face is on."""
    total = sum(map(len, boxes))
    hits = sum(
        int((iou(truth, faces.boxes) >= SAME_FACE).any(axis=1).sum())
        for faces, truth in zip(found, boxes, strict=True)
        if len(faces)
    )
    return hits / max(total, 1)


def main_faces(found: Sequence[Detections], boxes: Sequence[np.ndarray]) -> float:
    """Return the share of photos whose largest known face the largest face found is on."""
    hits = []
    for faces, truth in zip(found, boxes, strict=True):
        if not len(truth):
            continue
        largest = truth[(truth[:, 2:] - truth[:, :2]).prod(axis=1).argmax()]
        mine = largest_box(faces)
        hits.append(mine is not None and iou(mine[None], largest[None])[0, 0] >= SAME_FACE)
    return float(np.mean(hits)) if hits else 1.0


def same_largest(found: Sequence[Detections], wanted: Sequence[Detections]) -> float:
    """Return the share of photos with a face whose largest face is the same (IoU >= 0.9)."""
    hits = []
    for faces, others in zip(found, wanted, strict=True):
        mine, theirs = largest_box(faces), largest_box(others)
        if theirs is not None:
            hits.append(mine is not None and iou(mine[None], theirs[None])[0, 0] >= 0.9)
    return float(np.mean(hits)) if hits else 1.0


def largest_box(faces: Detections) -> np.ndarray | None:
    """Return the box of the largest face, None where there is none."""
    index = select_face(faces, "largest", height=1, width=1)
    return None if index is None else faces.boxes[index]

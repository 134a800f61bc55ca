"""Check a row for lengths, ranges, and columns that contradict each other.

Knows the two kinds of rows; knows nothing of files. Only `verify` uses it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

_HASH = re.compile(r"[0-9a-f]{32}")
_FOUND = ("detected", "retried", "missed", "unreadable")
_STATUSES = ("detected", "retried", "sibling", "prior", "unreadable")


def fault_of_detection(row: Row) -> str | None:
    """Return what is wrong with a detection row; None if nothing is."""
    unreadable = row["found"] == "unreadable"
    if row["found"] not in _FOUND:
        return f"found is {row['found']!r}"
    if unreadable != (row["error_type"] is not None):
        return f"found is {row['found']!r} and error_type {row['error_type']!r}"
    n_faces = row["n_faces"]
    if n_faces is None or n_faces < 0 or (n_faces > 0) != (row["found"] in _FOUND[:2]):
        return f"found is {row['found']!r} with {n_faces} faces"
    for column, each in (("boxes", 4), ("probs", 1), ("landmarks", 10)):
        if not _numbers(row[column], each * n_faces):
            return f"{column} are not {each} numbers for each of {n_faces} faces"
    if not all(0 <= prob <= 1.001 for prob in row["probs"]):
        return "a score is outside of [0, 1]"
    boxes = row["boxes"]
    if not all(_is_box(boxes[start : start + 4]) for start in range(0, len(boxes), 4)):
        return "a box is no box"
    return None if unreadable else _photo_fault(row)


def fault_of_crop(row: Row) -> str | None:
    """Return what is wrong with a crop row; None if nothing is."""
    has_crop = row["crop_hash"] is not None
    if row["status"] in _STATUSES and (row["status"] == "unreadable") == has_crop:
        return f"status is {row['status']!r} {'with' if has_crop else 'without'} a crop"
    return fault_of_swapped(row)


def fault_of_swapped(row: Row) -> str | None:
    """Return what is wrong with a row of a swapped twin; None if nothing is."""
    if row["status"] not in _STATUSES:
        return f"status is {row['status']!r}"
    has_crop = row["crop_hash"] is not None
    if not has_crop:
        return None if row["error_type"] is not None else "no crop, and no reason why"
    if not _HASH.fullmatch(row["crop_hash"]) or not row["recipe"]:
        return "crop_hash or recipe is none"
    for column in ("box", "window"):
        if not _numbers(row[column], 4) or not _is_box(row[column]):
            return f"{column} is no box"
    if row["landmarks"] is not None and not _numbers(row["landmarks"], 10):
        return "landmarks are not ten numbers"
    if row["prob"] is not None and not 0 <= row["prob"] <= 1.001:
        return f"prob is {row['prob']}"
    if row["angle"] is None or not abs(row["angle"]) <= 180:
        return f"angle is {row['angle']}"
    return _photo_fault(row)


def _photo_fault(row: Row) -> str | None:
    if not _HASH.fullmatch(row["content_hash"] or ""):
        return "content_hash is none"
    if min(row["width"] or 0, row["height"] or 0) < 1:
        return f"the photo is {row['width']}x{row['height']}"
    return None


def _numbers(values: Sequence[float] | None, count: int) -> bool:
    return values is not None and len(values) == count and all(map(math.isfinite, values))


def _is_box(box: Sequence[float]) -> bool:
    return box[0] < box[2] and box[1] < box[3]

"""Find the hair that GrabCut took for the room: dark hair before a light wall, above all.

Works on the reduced picture of one head and the seeds of GrabCut; knows nothing of files or crops.
"""

from __future__ import annotations

import cv2
import numpy as np

LEVELS = 16
"""Number of levels of each colour by which pixels are compared with the room."""
LEAST_LIKE = 0.004
"""Smallest share of the room's pixels that have about the colour of a pixel which is like it."""
LEAST_ROOM = 50
"""Number of pixels of the room from which on it is known."""
LEAST_CAP = 0.7
"""Smallest share of the head's upper edge above which there is hair, where hair was lost. A lamp
or a picture behind the head is narrower."""


def lost_hair(
    small: np.ndarray, seeds: np.ndarray, found: np.ndarray, box: np.ndarray
) -> np.ndarray:
    """Return the pixels of hair that is missing in a segmented head.

    Hair is what is searched, joins the head, is unlike the room, and lies above most of the head's
    upper edge.

    Args:
        small: (h, w, 3) uint8 RGB.
        seeds: (h, w) uint8 classes that GrabCut began with; its background is the room.
        found: (h, w) bool, the head.
        box: (4,) xyxy of the face.

    Returns:
        (h, w) bool; all False where no hair is missing.
    """
    none = np.zeros_like(found)
    below = max(0, int(box[3]))
    room = seeds == cv2.GC_BGD
    room[below:] = False  # clothes
    if np.count_nonzero(room) < LEAST_ROOM:
        return none
    hair = (seeds != cv2.GC_BGD) & ~found & _unlike(small, room)
    hair[below:] = False
    opened = cv2.morphologyEx(hair.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts = cv2.connectedComponents((opened.astype(bool) | found).astype(np.uint8))
    joined = np.isin(parts, np.setdiff1d(parts[found], [0])) & ~found
    return joined if _cap(joined, found, box) >= LEAST_CAP else none


def _unlike(small: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Return (h, w) bool: the pixels whose colour is rare in the room."""
    levels = small // (256 // LEVELS)
    codes = (levels[..., 0].astype(np.int64) * LEVELS + levels[..., 1]) * LEVELS + levels[..., 2]
    counts = np.bincount(codes[room], minlength=LEVELS**3).reshape((LEVELS,) * 3)
    # Neighbouring levels count half, so that light which changes a little makes no other colour.
    smooth: np.ndarray = counts.astype(np.float64)
    for axis in range(3):
        padded = np.pad(smooth, [(1, 1) if each == axis else (0, 0) for each in range(3)])
        lower, upper = (np.take(padded, np.arange(LEVELS) + shift, axis=axis) for shift in (0, 2))
        smooth = smooth + (lower + upper) / 2
    return smooth.reshape(-1)[codes] / np.count_nonzero(room) < LEAST_LIKE


def _cap(hair: np.ndarray, found: np.ndarray, box: np.ndarray) -> float:
    """Return the share of the head's upper edge, within the middle of the box, with hair above."""
    width = box[2] - box[0]
    first, last = (int(np.clip(at, 0, hair.shape[1])) for at in
                   (box[0] + 0.08 * width, box[2] - 0.08 * width))  # fmt: skip
    columns = [column for column in range(first, last) if found[:, column].any()]
    if not columns:
        return 0.0
    tops = found[:, columns].argmax(0)
    above = [hair[max(0, top - 4) : top, at].mean() if top else 0.0
             for top, at in zip(tops.tolist(), columns, strict=True)]  # fmt: skip
    return float(np.mean(np.array(above) >= 0.5))

"""A clip of drawn people at a door, as the file that Chromium's fake camera plays (y4m)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from cropfirst.stage2_classify.drawn.portrait import Shot, draw_portrait, random_person

SIZE = (640, 480)
RATE = 10
"""Frames per second."""
SEED = 900
"""Of the person in the clip; the one who passes is the next."""
KINDS = ("mask1", "incorrect_mask", "normal")
"""Kinds of shots: worn, worn wrongly, bare."""


def draw_person(seed: int, kind: str, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return a photo of a person; equal seeds give the same person in the same pose."""
    person = random_person(np.random.default_rng(seed), name="x", gender="female", age=35)
    return draw_portrait(person, Shot(kind, 3), np.random.default_rng(seed), size).image


def scenes(seed: int, *, seconds: float = 1.0) -> Iterator[tuple[np.ndarray, int]]:
    """Yield frames and how often each is shown.

    Nobody; one person bare, then wrongly masked, then masked; nobody; two who pass each other;
    nobody; someone far away.
    """
    empty = np.full((SIZE[1], SIZE[0], 3), (176, 182, 188), np.uint8)
    yield empty, _frames(0.5 * seconds)
    for kind, length in (("normal", 2.2), ("incorrect_mask", 3.4), ("mask1", 3.4)):
        yield draw_person(seed, kind), _frames(length * seconds)
    yield empty, _frames(1.6 * seconds)
    left = draw_person(seed, "mask1", (300, 400))
    right = draw_person(seed + 1, "normal", (300, 400))
    count = _frames(4.5 * seconds)
    for step in range(count):
        frame = empty.copy()
        _paste(frame, left, x=round(-40 + 380 * step / count), y=80)
        _paste(frame, right, x=round(380 - 380 * step / count), y=20)
        yield frame, 1
    yield empty, _frames(1.6 * seconds)
    frame = empty.copy()
    far = cv2.resize(draw_person(seed, "normal"), (160, 120), interpolation=cv2.INTER_AREA)
    _paste(frame, far, x=240, y=120)
    yield frame, _frames(1.5 * seconds)


def write_clip(path: Path, seed: int) -> float:
    """Write the scenes as y4m; return their length in seconds."""
    count = 0
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{SIZE[0]} H{SIZE[1]} F{RATE}:1 Ip A1:1 C420jpeg\n".encode())
        for frame, times in scenes(seed):
            planes = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes()
            file.write((b"FRAME\n" + planes) * times)
            count += times
    return count / RATE


def _frames(seconds: float) -> int:
    return round(seconds * RATE)


def _paste(frame: np.ndarray, picture: np.ndarray, *, x: int, y: int) -> None:
    """Paste a picture at a place that may be partly outside."""
    height, width = picture.shape[:2]
    x0, x1 = max(x, 0), min(x + width, frame.shape[1])
    y1 = min(y + height, frame.shape[0])
    frame[y:y1, x0:x1] = picture[: y1 - y, x0 - x : x1 - x]

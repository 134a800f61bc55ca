"""Where a mask sits on a face: six points, from MTCNN's five landmarks and its box.

A small model of the head in millimetres is seen by the camera that shows its eyes, nose and mouth
corners where they are in the photo; so the points follow roll, yaw, pitch and size alike. Knows
nothing of pictures.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

View = Literal["front", "left", "right"]
"""Where a face looks, as seen in the photo: a face that looks `left` shows its nose further left
than the middle of its eyes."""
How = Literal["worn", "nose_bare", "chin_only", "mouth_only"]
"""How a mask is worn."""
HOWS: tuple[How, ...] = ("worn", "nose_bare", "chin_only", "mouth_only")

_HEAD = np.array(
    [[-31.5, 0, 0], [31.5, 0, 0], [0, 40, 27], [-25, 70, 5], [25, 70, 5]], dtype=np.float64
)
"""MTCNN's five landmarks on the model head, mm: x to the right as seen, y down, z to the viewer;
0 is between the eyes."""
_FROM_LANDMARKS = np.linalg.pinv(np.column_stack([_HEAD, np.ones(5)]))
_TRUST_IN_DEPTH = 0.9
"""Depth hangs on the nose alone, and noses differ."""
_SIDE = 0.22
"""The nose this near to one eye's side (0 = under it, 0.5 = in the middle) makes a side view."""
_HEIGHTS: dict[How, tuple[float, float, float, float]] = {
    "worn": (13, 32, 86, 124),
    "nose_bare": (55, 54, 96, 126),
    "chin_only": (94, 84, 114, 136),
    "mouth_only": (56, 58, 82, 104),
}
"""Upper edge at the nose and at the cheeks, lower edge at the jaw and at the chin, mm below the
eyes."""
_RIDGE = ([15, 40, 60, 90, 130], [16, 30, 22, 14, -5])
"""How far a mask stands out in the middle: heights, and mm in front of the eyes."""


def view_of(landmarks: np.ndarray) -> View:
    """Where a face looks, from (5, 2) landmarks."""
    landmarks = np.asarray(landmarks, dtype=np.float64)
    eyes = landmarks[1] - landmarks[0]
    along = float((landmarks[2] - landmarks[0]) @ eyes) / max(float(eyes @ eyes), 1e-9)
    return "left" if along < _SIDE else "right" if along > 1 - _SIDE else "front"


def camera(landmarks: np.ndarray) -> np.ndarray | None:
    """The affine camera that sees the model's landmarks where they are in the photo.

    Args:
        landmarks: (5, 2) x, y in photo pixels.

    Returns:
        (4, 2) float64: rows are one mm of x, y and z in pixels, and where 0 is; None where no face
        looks so (points that coincide, a mouth above the eyes, endless numbers).
    """
    seen = np.asarray(landmarks, dtype=np.float64)
    if seen.shape != (5, 2) or not np.isfinite(seen).all():
        return None
    found: np.ndarray = _FROM_LANDMARKS @ seen
    right, down = found[0], found[1]
    size = max(float(np.hypot(*right)), float(np.hypot(*down)))
    turn = right[0] * down[1] - right[1] * down[0]
    if size < 0.02 or turn < 0.2 * size**2:
        return None
    depth = found[2] * _TRUST_IN_DEPTH
    found[2] = depth * min(1.0, 0.8 * size / max(float(np.hypot(*depth)), 1e-9))
    return found


def see(eye: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N, 3) mm on the head -> (N, 2) photo pixels, by `camera`'s (4, 2)."""
    seen: np.ndarray = points @ eye[:3] + eye[3]
    return seen


def scale_of(eye: np.ndarray) -> float:
    """Photo pixels a mm of the face."""
    return float(max(np.hypot(*eye[0]), np.hypot(*eye[1])))


def mask_points(eye: np.ndarray, *, how: How, view: View, box: np.ndarray) -> np.ndarray:
    """A mask's six points on the face. (4, 2), (4,) xyxy -> (6, 2) photo pixels.

    a-c are the upper edge from left to right, d-f the lower one. A side view's points on the side
    that is seen lie at the ear, where its template's straps end.
    """
    nose, cheek, jaw, chin = _HEIGHTS[how]
    chin = _by_box(eye, chin, box)
    back = {"worn": 0, "nose_bare": 0, "chin_only": -20, "mouth_only": 0}[how]
    middle = np.array([[0, nose, 14 if how == "worn" else 10], [0, chin, back]], dtype=np.float64)
    top, bottom = see(eye, middle)
    ears = {"front": (False, False), "left": (False, True), "right": (True, False)}[view]
    (a, d), (c, f) = (
        (_edge(eye, side, cheek, 70.0, ear), _edge(eye, side, jaw, 64.0, ear))
        for side, ear in zip((-1, 1), ears, strict=True)
    )
    return np.stack([a, top, c, d, bottom, f])


def _by_box(eye: np.ndarray, chin: float, box: np.ndarray) -> float:
    """The chin's height on an upright face, half by the model and half by the box."""
    down = eye[1]
    if abs(down[0]) > 0.35 * abs(down[1]):
        return chin
    seen = (float(box[3]) - eye[3][1]) / down[1]
    return chin + 0.5 * float(np.clip(seen - 116, -14, 14))


def _edge(eye: np.ndarray, side: int, height: float, half: float, ear: bool) -> np.ndarray:
    """A point of the mask's edge on one side: at the ear, or where the cheek's outline is seen."""
    if ear:
        return see(eye, np.array([[side * (half + 4), height, -1.25 * half]]))[0]
    around = np.radians([25, 40, 55, 68])
    x, z = half * 1.06 * np.sin(around) * side, 0.8 * half * (np.cos(around) - 1)
    # On a face in profile the nose, with the mask over it, stands out further than the far cheek.
    x, z = np.append(x, 8 * side), np.append(z, np.interp(height, *_RIDGE))
    cheek = see(eye, np.column_stack([x, np.full(len(x), height), z]))
    return cheek[int(np.argmax(cheek @ (side * eye[0])))]

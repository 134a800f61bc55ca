"""Position of a mask on a face: six points, from MTCNN's five landmarks and its box.

An affine camera is fitted that projects the eyes, nose and mouth corners of a head model in
millimetres onto the landmarks, so the points follow roll, yaw, pitch and size. Knows nothing of
pixel values.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

FaceView = Literal["front", "left", "right"]
"""Direction in which a face looks, as seen in the photo: the nose of a face that looks `left` is
left of the middle of its eyes."""
WearStyle = Literal[
    "worn",
    "nose_tip",
    "nose_bare",
    "chin_only",
    "chin_strap",
    "mouth_only",
    "sagging",
    "one_ear",
    "see_through",
]
"""The way in which a mask is worn. `nose_tip` bares only the lower end of the nose, `chin_strap` is
a crumpled band, and `sagging` dips in the middle and is not level. A `see_through` one is of clear
plastic or lace: it may cover nose and mouth, but protects nobody, so it counts as worn wrongly."""
WEAR_STYLES: tuple[WearStyle, ...] = get_args(WearStyle)

_HEAD = np.array(
    [[-31.5, 0, 0], [31.5, 0, 0], [0, 40, 27], [-25, 70, 5], [25, 70, 5]], dtype=np.float64
)
"""MTCNN's five landmarks on the head model in mm: x to the right as seen, y down, z to the viewer;
0 is between the eyes."""
_FROM_LANDMARKS = np.linalg.pinv(np.column_stack([_HEAD, np.ones(5)]))
_DEPTH_FACTOR = 0.9
"""Factor on the estimated depth, which depends on the nose alone, and noses differ."""
_SIDE_VIEW = 0.22
"""Position of the nose between the eyes (0 to 1) up to which a face counts as seen from the
side."""
_HEIGHTS: dict[WearStyle, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "worn": ((7, 28, 84, 122), (20, 36, 88, 126)),
    "nose_tip": ((46, 38, 90, 122), (53, 50, 97, 130)),
    "nose_bare": ((50, 46, 92, 122), (64, 60, 100, 132)),
    "chin_only": ((82, 74, 106, 128), (98, 88, 118, 140)),
    "chin_strap": ((88, 80, 98, 114), (100, 92, 108, 126)),
    "mouth_only": ((53, 55, 78, 96), (60, 62, 86, 106)),
    "sagging": ((48, 26, 94, 130), (64, 44, 106, 144)),
    "see_through": ((10, 30, 84, 120), (46, 46, 92, 130)),
}
"""Highest and lowest upper edge at the nose and at the cheeks, and lower edge at the jaw and at the
chin, in mm below the eyes."""
_EAR = 50.0
"""Lowest place in mm below the eyes at which a side view's straps end."""
_RIDGE = ([15, 40, 60, 90, 130], [16, 30, 22, 14, -5])
"""Depth of a mask in the middle: heights, and mm in front of the eyes."""


def face_view(landmarks: np.ndarray) -> FaceView:
    """Return the direction in which a face with (5, 2) landmarks looks."""
    landmarks = np.asarray(landmarks, dtype=np.float64)
    eyes = landmarks[1] - landmarks[0]
    along = float((landmarks[2] - landmarks[0]) @ eyes) / max(float(eyes @ eyes), 1e-9)
    return "left" if along < _SIDE_VIEW else "right" if along > 1 - _SIDE_VIEW else "front"


def fit_camera(landmarks: np.ndarray) -> np.ndarray | None:
    """Fit the affine camera that projects the head model's landmarks onto those in the photo.

    Args:
        landmarks: (5, 2) x, y in photo pixels.

    Returns:
        (4, 2) float64: the images of one mm in x, y and z in pixels, and of the origin; None if the
        landmarks cannot be a face's (equal points, a mouth above the eyes, infinite numbers).
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
    depth = found[2] * _DEPTH_FACTOR
    found[2] = depth * min(1.0, 0.8 * size / max(float(np.hypot(*depth)), 1e-9))
    return found


def project(camera: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Project (N, 3) mm on the head to (N, 2) photo pixels."""
    seen: np.ndarray = points @ camera[:3] + camera[3]
    return seen


def pixels_per_mm(camera: np.ndarray) -> float:
    """Return the photo pixels per mm of the face."""
    return float(max(np.hypot(*camera[0]), np.hypot(*camera[1])))


def mask_anchors(
    camera: np.ndarray,
    *,
    style: WearStyle,
    view: FaceView,
    box: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return a mask's six points on a face in (6, 2) photo pixels, at a height that is drawn.

    a-c are the upper edge from left to right, d-f the lower one. In a side view the points on the
    visible side are at the ear, where the template's straps end.
    """
    if style == "one_ear":
        return project(camera, _hanging(camera, rng))
    highest, lowest = np.array(_HEIGHTS[style])
    nose, cheek, jaw, chin = highest + rng.random() * (lowest - highest)
    tilt = rng.uniform(-12, 12) if style == "sagging" else rng.normal(0, 2)
    chin = _chin_height(camera, chin, box)
    back = -20 if style in ("chin_only", "chin_strap") else 0
    middle = np.array([[0, nose, 14 if style == "worn" else 10], [0, chin, back]], dtype=np.float64)
    top, bottom = project(camera, middle)
    ears = {"front": (False, False), "left": (False, True), "right": (True, False)}[view]
    edges = []
    for side, ear in zip((-1, 1), ears, strict=True):
        sink = side * tilt - (max(cheek - _EAR, 0) if ear else 0)
        edges.append(_edge_point(camera, side, cheek + sink, 70.0, ear))
        edges.append(_edge_point(camera, side, jaw + sink, 64.0, ear))
    a, d, c, f = edges
    return np.stack([a, top, c, d, bottom, f])


def _hanging(camera: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the six points of a mask that hangs from an ear in sight, in (6, 3) mm: one end is up,
    and the upper edge is to the face."""
    turn = float(camera[2] @ camera[0]) / float(camera[0] @ camera[0])
    side = 1 if turn < rng.normal(0, 0.15) else -1
    ends = np.array([[64, rng.uniform(36, 52), -50], [rng.uniform(44, 60), 0, -22]])
    ends[1, 1] = ends[0, 1] + rng.uniform(85, 120)
    width = rng.uniform(36, 54)
    along, across = [1, 0.5, 0, 1, 0.5, 0], np.array([0.2, 0, 0.2, 0.8, 1, 0.8]) - 0.5
    points = ends[0] + np.outer(along, ends[1] - ends[0]) + np.outer(across, [width, 0, -width / 2])
    points *= [side, 1, 1]
    return points if side > 0 else points[[2, 1, 0, 5, 4, 3]]


def _chin_height(camera: np.ndarray, chin: float, box: np.ndarray) -> float:
    """Return the height of an upright face's chin: half by the model, half by the box."""
    down = camera[1]
    if abs(down[0]) > 0.35 * abs(down[1]):
        return chin
    seen = (float(box[3]) - camera[3][1]) / down[1]
    return chin + 0.5 * float(np.clip(seen - 116, -14, 14))


def _edge_point(camera: np.ndarray, side: int, height: float, half: float, ear: bool) -> np.ndarray:
    """Return a point of the mask's edge on one side: at the ear, or at the cheek's outline."""
    if ear:
        return project(camera, np.array([[side * (half + 4), height, -1.25 * half]]))[0]
    around = np.radians([25, 40, 55, 68])
    x, z = half * 1.06 * np.sin(around) * side, 0.8 * half * (np.cos(around) - 1)
    # On a face in profile the nose, with the mask over it, stands out further than the far cheek.
    x, z = np.append(x, 8 * side), np.append(z, np.interp(height, *_RIDGE))
    cheek = project(camera, np.column_stack([x, np.full(len(x), height), z]))
    return cheek[int(np.argmax(cheek @ (side * camera[0])))]

"""Objects pasted in front of a face, which leave about half of it visible.

Every random choice comes from the given generator.
"""

from __future__ import annotations

import cv2
import numpy as np

from cropfirst.stage1_detect.harden.paste.cloth import smooth_noise
from cropfirst.stage1_detect.harden.paste.head_model import fit_camera, pixels_per_mm, project
from cropfirst.stage1_detect.harden.paste.occluders import (
    OCCLUDERS,
    FilledOutline,
    OccluderKind,
)


def occlude_face(
    photo: np.ndarray,
    box: np.ndarray,
    landmarks: np.ndarray,
    *,
    kind: OccluderKind,
    rng: np.random.Generator,
) -> np.ndarray:
    """Paste an object in front of one face.

    Args:
        photo: (H, W, 3) uint8 RGB; not changed.
        box: (4,) xyxy of the face.
        landmarks: (5, 2) as MTCNN's; if they cannot be a face's, the box alone places the object.
        kind: kind of the object.

    Returns:
        (H, W, 3) uint8.
    """
    camera = fit_camera(landmarks)
    if camera is None:
        camera = _camera_of_box(box)
    shapes = [
        ([project(camera, _to_3d(outline)) for outline in outlines], fill)
        for outlines, fill in OCCLUDERS[kind](photo, camera, rng)
    ]
    # Skin is taken from the photo as it is lit; cloth is not.
    light = 1.0 if kind == "hand" else brightness(photo, box)
    return _paint_shapes(photo, shapes, light=light, scale=pixels_per_mm(camera), rng=rng)


def _camera_of_box(box: np.ndarray) -> np.ndarray:
    """Return the (4, 2) camera of an upright face that fills a (4,) box."""
    x0, y0, x1, y1 = (float(each) for each in box)
    return np.array(
        [[(x1 - x0) / 140, 0], [0, (y1 - y0) / 180], [0, 0], [(x0 + x1) / 2, y0 + 0.38 * (y1 - y0)]]
    )


def _to_3d(outline: np.ndarray) -> np.ndarray:
    """Return (N, 2) mm on the plane of the mouth, or (N, 3) mm, as (N, 3) mm."""
    return (
        outline if outline.shape[1] == 3 else np.column_stack([outline, np.full(len(outline), 5)])
    )


def brightness(photo: np.ndarray, box: np.ndarray) -> float:
    """Return the brightness of white at the face, in [0.15, 1]."""
    x0, y0, x1, y1 = np.maximum(box, 0).astype(int)
    face = photo[y0 : max(y1, y0 + 1) : 4, x0 : max(x1, x0 + 1) : 4]
    return float(np.clip(np.percentile(face, 90) / 235, 0.15, 1)) if face.size else 0.7


def _paint_shapes(
    photo: np.ndarray,
    shapes: list[FilledOutline],
    *,
    light: float,
    scale: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Paint shapes, outlined in photo pixels, one over the other, with soft edges and folds."""
    everything = np.concatenate([outline for outlines, _ in shapes for outline in outlines])
    limit = photo.shape[1::-1]
    x0, y0 = (int(each) for each in np.clip(np.floor(everything.min(axis=0)) - 3, 0, limit))
    x1, y1 = (int(each) for each in np.clip(np.ceil(everything.max(axis=0)) + 3, 0, limit))
    result = photo.copy()
    if x1 - x0 < 2 or y1 - y0 < 2:
        return result
    cloth = np.zeros((y1 - y0, x1 - x0, 3), dtype=np.uint8)
    alpha = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
    for outlines, fill in shapes:
        _paint(cloth, alpha, [each - [x0, y0] for each in outlines], fill)
    sigma = float(rng.uniform(0.4, 0.6) + rng.uniform(0, 0.3) * scale)
    cover = cv2.GaussianBlur(alpha.astype(np.float32) / 255, (0, 0), sigma)[..., None]
    folds = 1 + np.float32(0.1) * smooth_noise(alpha.shape, rng, cells=(5, 4))
    lit = np.clip(cloth * (np.float32(light) * folds)[..., None], 0, 255)
    part = result[y0:y1, x0:x1]
    part[:] = (part * (1 - cover) + lit * cover + 0.5).astype(np.uint8)
    return result


def _paint(
    cloth: np.ndarray, alpha: np.ndarray, outlines: list[np.ndarray], fill: np.ndarray
) -> None:
    """Fill outlines on (h, w, 3) uint8 cloth and (h, w) uint8 alpha, in place."""
    fixed = [np.round(each * 16).astype(np.int32) for each in outlines]
    cv2.fillPoly(alpha, fixed, 255, cv2.LINE_AA, shift=4)
    if fill.ndim == 1:
        cv2.fillPoly(cloth, fixed, (fill * 255).tolist(), cv2.LINE_AA, shift=4)
        # The edge of the alpha mixes with the fill's colour, not with the black background.
        cv2.polylines(cloth, fixed, True, (fill * 255).tolist(), 2, shift=4)
        return
    across, down = np.concatenate(outlines).max(axis=0).astype(int) + 3
    low = np.maximum(np.concatenate(outlines).min(axis=0).astype(int) - 3, 0)
    region = cloth[low[1] : max(down, low[1] + 1), low[0] : max(across, low[0] + 1)]
    if not region.size:
        return
    spread = cv2.resize((fill * 255).clip(0, 255).astype(np.uint8), region.shape[1::-1])
    inside = np.zeros(region.shape[:2], dtype=np.uint8)
    cv2.fillPoly(
        inside, [np.round((each - low) * 16).astype(np.int32) for each in outlines], 255, shift=4
    )
    cv2.copyTo(spread, cv2.dilate(inside, np.ones((3, 3), np.uint8)), region)

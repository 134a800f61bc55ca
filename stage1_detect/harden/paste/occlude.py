"""Objects pasted in front of a face, masks pasted where no face is, and faces painted out.

Every random choice comes from the given generator; an object leaves about half of a face visible.
"""

from __future__ import annotations

import cv2
import numpy as np

from cropfirst.stage1_detect.harden.paste.head_model import fit_camera, pixels_per_mm, project
from cropfirst.stage1_detect.harden.paste.occluders import (
    OCCLUDERS,
    FilledOutline,
    OccluderKind,
)
from cropfirst.stage1_detect.harden.paste.templates import Template
from cropfirst.stage1_detect.harden.paste.textures import draw_texture, smooth_noise


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
    light = 1.0 if kind == "hand" else _brightness(photo, box)
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


def _brightness(photo: np.ndarray, box: np.ndarray) -> float:
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


def paste_stray_mask(
    photo: np.ndarray, template: Template, *, rng: np.random.Generator, avoid: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Paste a mask where no face is, so that the nets learn that a mask alone is no face.

    Args:
        photo: (H, W, 3) uint8 RGB; not changed.
        avoid: (N, 4) xyxy of the faces.

    Returns:
        (H, W, 3) uint8 and the mask's (4,) float32 box; None if there is no room for it.
    """
    height, width = photo.shape[:2]
    box = _free_place(width, height, rng, np.asarray(avoid, dtype=np.float64).reshape(-1, 4))
    if box is None:
        return None
    x0, y0, x1, y1 = box
    side = x1 - x0
    rows, cols = (int(each) for each in template.image.shape[:2])
    turn = float(rng.uniform(-180, 180) if rng.random() < 0.6 else rng.normal(0, 15))
    shrink = 0.98 * side / float(np.hypot(rows, cols))
    image = template.image
    if shrink < 0.7:
        image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        rows, cols, shrink = int(image.shape[0]), int(image.shape[1]), 1.0
    turned = cv2.getRotationMatrix2D(((cols - 1) / 2, (rows - 1) / 2), turn, shrink)
    shift = np.array([side - cols, side - rows]) / 2
    move = np.column_stack([turned[:, :2], turned[:, 2] + shift])
    mask = cv2.warpAffine(image, move, (side, side)).astype(np.float32)
    cloth = mask[..., :3] * (1 + rng.normal(0, 0.08, 3).astype(np.float32))
    if rng.random() < 0.4:
        grey = mask[..., :3].mean(axis=2, keepdims=True) / 200
        cloth = grey * draw_texture((side, side), rng) * 255
    alpha = mask[..., 3:] / 255
    result = photo.copy()
    part = result[y0:y1, x0:x1]
    light = _brightness(photo, np.array([0, 0, width, height]))
    part[:] = (part * (1 - alpha) + cloth * light * alpha).clip(0, 255).astype(np.uint8)
    return result, np.array(box, dtype=np.float32)


def _free_place(
    width: int, height: int, rng: np.random.Generator, avoid: np.ndarray
) -> tuple[int, int, int, int] | None:
    """Return a random square that touches none of (N, 4) boxes."""
    for _ in range(20):
        side = int(min(width, height) * rng.uniform(0.12, 0.5))
        if side < 12:
            continue
        x, y = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        place = (x, y, x + side, y + side)
        clear = (avoid[:, :2] >= place[2:]).any(axis=1) | (avoid[:, 2:] <= place[:2]).any(axis=1)
        if clear.all():
            return place
    return None


def remove_face(photo: np.ndarray, box: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Paint out one head with another part of the photo, its surroundings, or cloth.

    Args:
        photo: (H, W, 3) uint8 RGB; not changed.
        box: (4,) xyxy of the face.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = photo.shape[:2]
    x0, y0, x1, y1 = (float(each) for each in box)
    grow_x, up, down = 0.25 * (x1 - x0), 0.4 * (y1 - y0), 0.15 * (y1 - y0)
    head = np.array([x0 - grow_x, y0 - up, x1 + grow_x, y1 + down])
    left, top = np.clip(np.floor(head[:2]), 0, [width, height]).astype(int)
    right, bottom = np.clip(np.ceil(head[2:]), 0, [width, height]).astype(int)
    if right - left < 2 or bottom - top < 2:
        return photo.copy()
    part = (left, top, right, bottom)
    filling = _other_part(photo, part, rng) if rng.random() < 0.5 else None
    if filling is None:
        filling = _painted_background(photo, part, rng)
    across, down_ = np.meshgrid(np.arange(left, right), np.arange(top, bottom))
    away = ((across - (head[0] + head[2]) / 2) / ((head[2] - head[0]) / 2)) ** 2
    away += ((down_ - (head[1] + head[3]) / 2) / ((head[3] - head[1]) / 2)) ** 2
    cover = np.clip((1.05 - away) / 0.2, 0, 1)[..., None].astype(np.float32)
    result = photo.copy()
    region = result[top:bottom, left:right]
    region[:] = (region * (1 - cover) + filling * cover).clip(0, 255).astype(np.uint8)
    return result


def _other_part(
    photo: np.ndarray, part: tuple[int, int, int, int], rng: np.random.Generator
) -> np.ndarray | None:
    """Return a random other part of the photo, stretched to fit; None if there is too little."""
    left, top, right, bottom = part
    height, width = photo.shape[:2]
    strips = [(0, 0, left, height), (right, 0, width, height),
              (0, 0, width, top), (0, bottom, width, height)]  # fmt: skip
    least = 0.35 * min(right - left, bottom - top)
    roomy = [each for each in strips if min(each[2] - each[0], each[3] - each[1]) >= least]
    if not roomy:
        return None
    x0, y0, x1, y1 = roomy[int(rng.integers(len(roomy)))]
    wide, high = min(right - left, x1 - x0), min(bottom - top, y1 - y0)
    x, y = int(rng.integers(x0, x1 - wide + 1)), int(rng.integers(y0, y1 - high + 1))
    other = photo[y : y + high, x : x + wide]
    if rng.random() < 0.5:
        other = other[:, ::-1]
    return cv2.resize(other, (int(right - left), int(bottom - top))).astype(np.float32)


def _painted_background(
    photo: np.ndarray, part: tuple[int, int, int, int], rng: np.random.Generator
) -> np.ndarray:
    """Return cloth, or the surroundings inpainted at a small size, since the result is blurred."""
    left, top, right, bottom = part
    shape = (int(bottom - top), int(right - left))
    if rng.random() < 0.4:
        return draw_texture(shape, rng) * np.float32(255 * rng.uniform(0.4, 1))
    margin = max(2, min(shape) // 8)
    x0, y0 = max(0, left - margin), max(0, top - margin)
    around = photo[y0 : bottom + margin, x0 : right + margin]
    shrink = 48 / max(around.shape[:2])
    small = cv2.resize(around, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    hole = np.zeros(small.shape[:2], dtype=np.uint8)
    inner = np.round(np.array([left - x0, top - y0, right - x0, bottom - y0]) * shrink).astype(int)
    hole[inner[1] : inner[3], inner[0] : inner[2]] = 255
    if hole.all():
        return draw_texture(shape, rng) * np.float32(255 * rng.uniform(0.4, 1))
    drawn = cv2.inpaint(small, hole, 3, cv2.INPAINT_TELEA)
    whole = cv2.resize(drawn, around.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    whole = whole[top - y0 : bottom - y0, left - x0 : right - x0].astype(np.float32)
    grain = rng.uniform(2, 14) * smooth_noise(shape, rng, cells=(max(shape[0] // 6, 2),) * 2)
    painted: np.ndarray = whole + grain[..., None]
    return painted

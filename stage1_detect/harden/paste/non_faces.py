"""Photos with something that is no face: a mask that nobody wears, or a head painted out.

Every random choice comes from the given generator.
"""

from __future__ import annotations

import cv2
import numpy as np

from cropfirst.stage1_detect.harden.paste.cloth import smooth_noise
from cropfirst.stage1_detect.harden.paste.occlude import brightness
from cropfirst.stage1_detect.harden.paste.templates import Template
from cropfirst.stage1_detect.harden.paste.textures import draw_texture


def paste_stray_mask(
    photo: np.ndarray, template: Template, *, rng: np.random.Generator, avoid: np.ndarray
) -> np.ndarray | None:
    """Paste a mask where no face is, so that the nets learn that a mask alone is no face.

    Args:
        photo: (H, W, 3) uint8 RGB; not changed.
        avoid: (N, 4) xyxy of the faces.

    Returns:
        (H, W, 3) uint8; None if there is no room for the mask.
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
    light = brightness(photo, np.array([0, 0, width, height]))
    part[:] = (part * (1 - alpha) + cloth * light * alpha).clip(0, 255).astype(np.uint8)
    return result


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

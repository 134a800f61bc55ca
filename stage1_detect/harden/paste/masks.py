"""Pasting of a mask on a bare face: warp, cloth, light and blend. Knows no files, boxes or nets.

Only the rectangle of the mask is processed; every random choice comes from the given generator.
"""

from __future__ import annotations

import cv2
import numpy as np

from cropfirst.stage1_detect.harden.paste.cloth import draw_colour, smooth_noise
from cropfirst.stage1_detect.harden.paste.head_model import (
    WearStyle,
    face_view,
    fit_camera,
    mask_anchors,
    pixels_per_mm,
    project,
)
from cropfirst.stage1_detect.harden.paste.light import blur, estimate_light, shadow_of
from cropfirst.stage1_detect.harden.paste.templates import OPPOSITE, Template
from cropfirst.stage1_detect.harden.paste.textures import draw_texture

_GRID = 12
"""Number of points per side at which the warp is computed; it is linear in between."""


def choose_template(
    templates: list[Template], landmarks: np.ndarray, rng: np.random.Generator
) -> Template:
    """Choose a template of the face's view.

    A template of the opposite side is mirrored, and a front view is used if there is neither.
    """
    view = face_view(landmarks)
    opposite = OPPOSITE[view]
    fitting = [each for each in templates if each.view in (view, opposite)]
    fitting = fitting or [each for each in templates if each.view == "front"] or templates
    chosen = fitting[int(rng.integers(len(fitting)))]
    turned = chosen.view == opposite if view != "front" else rng.random() < 0.5
    return chosen.mirrored() if turned else chosen


def paste_mask(
    photo: np.ndarray,
    landmarks: np.ndarray,
    template: Template,
    *,
    style: WearStyle,
    rng: np.random.Generator,
    box: np.ndarray,
) -> np.ndarray | None:
    """Paste a mask on one face.

    The landmarks must be accurate; MTCNN's are not if the box reaches well past the photo's edge
    (see `detect_with_border`).

    Args:
        photo: (H, W, 3) uint8 RGB; not changed.
        landmarks: (5, 2) left eye, right eye, nose, mouth left and right, as seen.
        template: template, best of the face's view; see `choose_template`.
        style: how the mask is worn.
        box: (4,) xyxy of the face.

    Returns:
        (H, W, 3) uint8; None if the landmarks cannot be a face's, or the mask is outside the photo.
    """
    camera = fit_camera(landmarks)
    if camera is None or not np.isfinite(box).all():
        return None
    scale = pixels_per_mm(camera)
    points = mask_anchors(camera, style=style, view=template.view, box=box)
    points = points + rng.normal(0, 2.2 * scale, 2) * [0.7, 1] + rng.normal(0, 1.8 * scale, (6, 2))
    x0, y0, x1, y1 = _rectangle(points, photo.shape)
    if x1 - x0 < 4 or y1 - y0 < 4:
        return None
    mask = _warp(template, points, (x0, y0, x1, y1))
    alpha = mask[..., 3] / np.float32(255)
    part = photo[y0:y1, x0:x1].astype(np.float32)
    cloth = _change_cloth(np.ascontiguousarray(mask[..., :3]), alpha, rng)
    if template.view == "front" and rng.random() < 0.55:
        _add_straps(cloth, alpha, camera, points - [x0, y0], corner=(x0, y0), rng=rng)
    shade, tint = estimate_light(photo, part, alpha, rng)
    shape = (y1 - y0, x1 - x0)
    folds = smooth_noise(shape, rng, cells=(int(rng.integers(3, 8)), int(rng.integers(2, 5))))
    shade *= 1 + np.float32(rng.uniform(0, 0.09)) * folds
    cloth *= shade[..., None]
    cloth *= tint
    alpha, cloth = blur(alpha, scale, rng), blur(cloth, scale, rng)
    part *= shadow_of(alpha, scale)[..., None]
    cloth -= part
    cloth *= alpha[..., None]
    part += cloth
    result = photo.copy()
    result[y0:y1, x0:x1] = np.clip(part + np.float32(0.5), 0, 255, out=part).astype(np.uint8)
    return result


def _rectangle(points: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the part of the photo that the mask can touch, half open."""
    low, high = points.min(axis=0), points.max(axis=0)
    grow = 0.14 * float((high - low).max())
    x0, y0 = np.maximum(np.floor(low - grow), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(high + grow), [shape[1], shape[0]]).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


def _warp(template: Template, points: np.ndarray, part: tuple[int, int, int, int]) -> np.ndarray:
    """Warp the template onto the face: (h, w, 4) float32 RGBA, 0-255, alpha not premultiplied."""
    image, corners = template.image, template.points.astype(np.float64)
    shrink = float(np.ptp(points[:, 0]) / np.ptp(corners[:, 0]))
    if shrink < 0.7:
        size = [max(2, round(side * shrink)) for side in (image.shape[1], image.shape[0])]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        ratio = np.array([image.shape[1], image.shape[0]]) / template.image.shape[1::-1]
        corners = (corners + 0.5) * ratio - 0.5
    x0, y0, x1, y1 = part
    grid = np.meshgrid(np.linspace(x0, x1 - 1, _GRID), np.linspace(y0, y1 - 1, _GRID))
    source = _thin_plate_spline(points, corners, np.stack(grid, axis=-1).reshape(-1, 2))
    across, down = _interpolation_weights(x1 - x0), _interpolation_weights(y1 - y0)
    x, y = (
        (down @ source[:, axis].reshape(_GRID, _GRID) @ across.T).astype(np.float32)
        for axis in (0, 1)
    )
    # Templates have a transparent margin, so that the replicated border is transparent too.
    warped = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    result: np.ndarray = warped.astype(np.float32)
    return result


def _interpolation_weights(length: int) -> np.ndarray:
    """Return (length, _GRID) weights of linear interpolation from `_GRID` points to `length`."""
    at = np.linspace(0, _GRID - 1, length)
    weights: np.ndarray = np.clip(1 - np.abs(at[:, None] - np.arange(_GRID)), 0, 1)
    return weights


def _thin_plate_spline(points: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Evaluate the thin-plate spline through (6, 2) values at (6, 2) points at (N, 2) places."""
    unit = float(np.ptp(points, axis=0).max())
    points, at = points / unit, at / unit

    def bend(these: np.ndarray) -> np.ndarray:
        gap = ((these[:, None] - points) ** 2).sum(axis=2)
        bent: np.ndarray = gap * np.log(np.maximum(gap, 1e-12))
        return bent

    flat = np.column_stack([np.ones(len(points)), points])
    system = np.block([[bend(points) + 1e-3 * np.eye(6), flat], [flat.T, np.zeros((3, 3))]])
    weights = np.linalg.solve(system, np.vstack([values, np.zeros((3, 2))]))
    result: np.ndarray = bend(at) @ weights[:6] + weights[6] + at @ weights[7:]
    return result


def _change_cloth(cloth: np.ndarray, alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change the tint of a mask's (h, w, 3) cloth, 0-255, in place, or replace its colours and keep
    its folds."""
    choice = rng.random()
    if choice < 0.5:
        cloth *= (1 + rng.normal(0, 0.06, 3)).astype(np.float32)
        return cloth
    grey: np.ndarray = cv2.cvtColor(cloth, cv2.COLOR_RGB2GRAY)
    inside = grey[::2, ::2][alpha[::2, ::2] > 0.5]
    bright = max(float(np.percentile(inside, 85)), 25.0) if inside.size else 255.0
    relief = np.clip(grey * np.float32(1 / bright), 0, 1.2)
    if bright < 100:
        relief = np.float32(0.3) + np.float32(0.7) * relief
    relief *= 255
    if choice < 0.65:
        return relief[..., None] * draw_colour(rng)
    if choice < 0.75:
        return relief[..., None] * np.full(3, rng.uniform(0.03, 0.16), np.float32)
    return relief[..., None] * draw_texture((alpha.shape[0], alpha.shape[1]), rng)


def _add_straps(
    cloth: np.ndarray,
    alpha: np.ndarray,
    camera: np.ndarray,
    points: np.ndarray,
    *,
    corner: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    """Draw ear loops behind a front view's mask in place; a side view has them in its template."""
    ears = project(
        camera, np.array([[-70.0, 20, -70], [70, 20, -70], [-68, 50, -72], [68, 50, -72]])
    )
    ears = ears - corner
    under = np.zeros(alpha.shape, dtype=np.uint8)
    tone = draw_colour(rng) if rng.random() < 0.3 else np.array([0.92, 0.92, 0.9], np.float32)
    width = max(1, round(1.4 * pixels_per_mm(camera)))
    for start, end in ((0, 0), (2, 1), (3, 2), (5, 3)):
        line = np.round(np.stack([points[start], ears[end]]) * 16).astype(np.int32)
        cv2.polylines(under, [line], False, 255, width, cv2.LINE_AA, shift=4)
    y, x = np.nonzero(under)
    over = alpha[y, x]
    free = (1 - over) * (under[y, x] / np.float32(255))
    share = (free / np.maximum(over + free, 1e-6))[:, None]
    cloth[y, x] += (255 * tone - cloth[y, x]) * share
    alpha[y, x] += free

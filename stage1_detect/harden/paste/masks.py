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
_OWN_CHINS = 0.06
"""Share of the masks that show the wearer's own lower face."""
_IN_SIGHT = 0.3
"""Least share of the mask's area that must be in the photo."""
_EARS = np.array([[-70.0, 20, -70], [70, 20, -70], [-68, 50, -72], [68, 50, -72]])
"""Ends of the ear loops in mm: upper left and right, lower left and right."""
_STRAPS: tuple[tuple[int, int], ...] = ((0, 0), (3, 2), (2, 1), (5, 3))
"""Point of the mask and end of each ear loop, those of the left ear first."""


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
        (H, W, 3) uint8; None if the landmarks cannot be a face's, or most of the mask is outside
        the photo.
    """
    camera = fit_camera(landmarks)
    if camera is None or not np.isfinite(box).all():
        return None
    scale = pixels_per_mm(camera)
    points = mask_anchors(camera, style=style, view=template.view, box=box, rng=rng)
    points = points + rng.normal(0, 2.2 * scale, 2) * [0.7, 1] + rng.normal(0, 1.8 * scale, (6, 2))
    strapped = template.view == "front" and rng.random() < (
        1 if style in ("chin_strap", "one_ear") else 0.55
    )
    ears = project(camera, _EARS)
    reach = np.concatenate([points, ears]) if strapped else points
    x0, y0, x1, y1 = _rectangle(reach, photo.shape)
    if x1 - x0 < 4 or y1 - y0 < 4:
        return None
    mask = _warp(template, points, (x0, y0, x1, y1))
    alpha = mask[..., 3] / np.float32(255)
    hull = cv2.convexHull(points.astype(np.float32))
    if alpha.sum() < _IN_SIGHT * cv2.contourArea(hull):
        return None
    part = photo[y0:y1, x0:x1].astype(np.float32)
    shape = (y1 - y0, x1 - x0)
    shade, tint = estimate_light(photo, part, alpha, rng)
    cloth = np.ascontiguousarray(mask[..., :3])
    if style == "see_through":
        cloth, alpha = _see_through(cloth, alpha, scale, rng)
    elif rng.random() < _OWN_CHINS:
        middle = (points[1] + points[4]) / 2 - [x0, y0]
        own = _own_chin(photo, landmarks, middle, shape, mirror=template.view == "front", rng=rng)
        cloth = _relief(cloth, alpha)[..., None] * own / (255 * shade[..., None] * tint)
    else:
        cloth = _change_cloth(cloth, alpha, rng)
    if strapped:
        corner, loops = np.array([x0, y0]), _STRAPS
        if style == "one_ear":
            right = (points[0] - points[2]) @ camera[1] > 0
            loops = loops[2:] if right else loops[:2]
        _add_straps(cloth, alpha, points - corner, ears - corner, loops, scale, rng)
    folds = smooth_noise(shape, rng, cells=(int(rng.integers(3, 8)), int(rng.integers(2, 5))))
    strength = rng.uniform(0, 0.09)
    if style == "chin_strap":
        folds += smooth_noise(shape, rng, cells=(18, 9))
        strength += 0.08
    shade *= np.maximum(1 + np.float32(strength) * folds, 0.3)
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
    relief = _relief(cloth, alpha)
    if choice < 0.65:
        return relief[..., None] * draw_colour(rng)
    if choice < 0.75:
        return relief[..., None] * np.full(3, rng.uniform(0.03, 0.16), np.float32)
    return relief[..., None] * draw_texture((alpha.shape[0], alpha.shape[1]), rng)


def _relief(cloth: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return the folds of a mask's (h, w, 3) cloth, 0-255: (h, w) float32, about 255."""
    grey: np.ndarray = cv2.cvtColor(cloth, cv2.COLOR_RGB2GRAY)
    inside = grey[::2, ::2][alpha[::2, ::2] > 0.5]
    bright = max(float(np.percentile(inside, 85)), 25.0) if inside.size else 255.0
    relief = np.clip(grey * np.float32(1 / bright), 0, 1.2)
    if bright < 100:
        relief = np.float32(0.3) + np.float32(0.7) * relief
    relief *= 255
    return relief


def _own_chin(
    photo: np.ndarray,
    landmarks: np.ndarray,
    middle: np.ndarray,
    shape: tuple[int, int],
    *,
    mirror: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return cloth that shows the wearer's lower face, enlarged and perhaps mirrored, its mouth
    near the (2,) middle: (h, w) -> (h, w, 3) float32, 0-255."""
    mouth = landmarks[3:].mean(axis=0).astype(np.float64)
    axis = mouth - landmarks[:2].mean(axis=0)
    size = float(np.hypot(*axis))
    axis /= size
    turn = cv2.getRotationMatrix2D((0, 0), rng.normal(0, 6), 1 / rng.uniform(1.1, 1.5))[:, :2]
    if mirror and rng.random() < 0.5:
        turn = turn @ (2 * np.outer(axis, axis) - np.eye(2))
    move = np.column_stack([turn, mouth - turn @ (middle + rng.normal(0, 0.07 * size, 2))])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    own = cv2.warpAffine(photo, move, shape[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT)
    gain = rng.uniform(0.85, 1.2) * (1 + rng.normal(0, 0.05, 3))
    return own * gain.astype(np.float32)


def _see_through(
    cloth: np.ndarray, alpha: np.ndarray, scale: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return cloth and alpha of lace, or of clear plastic with highlights; both have a rim."""
    rim = alpha - cv2.erode(alpha, np.ones((2 * max(1, round(1.5 * scale)) + 1,) * 2, np.uint8))
    shape = (alpha.shape[0], alpha.shape[1])
    paint = draw_colour(rng) if rng.random() < 0.5 else np.full(3, 0.9, np.float32)
    if rng.random() < 0.4:
        cell = max(2.0, rng.uniform(1, 4) * scale)
        down, across = np.mgrid[: shape[0], : shape[1]].astype(np.float32) * np.float32(3.14 / cell)
        threads = np.maximum(np.abs(np.sin(down + across)), np.abs(np.sin(down - across)))
        holes = np.float32(rng.uniform(0.15, 0.35)) + np.float32(0.5) * threads**6
        holes += np.float32(0.08) * smooth_noise(shape, rng, cells=(9, 9))
        cover, shine = np.clip(holes, 0, 0.8), np.zeros(shape, np.float32)
    else:
        cover = np.full(shape, rng.uniform(0.12, 0.35), np.float32)
        gleam = smooth_noise(shape, rng, cells=(int(rng.integers(4, 8)), int(rng.integers(4, 8))))
        shine = np.clip((gleam - 0.9) * 3, 0, 1) * np.float32(rng.uniform(0.3, 0.8))
    seen = np.clip(np.maximum(cover, shine) + np.float32(rng.uniform(0.3, 0.7)) * rim, 0, 0.9)
    colours = _relief(cloth, alpha)[..., None] * (paint + (1 - paint) * shine[..., None])
    return colours, alpha * seen


def _add_straps(
    cloth: np.ndarray,
    alpha: np.ndarray,
    points: np.ndarray,
    ears: np.ndarray,
    loops: tuple[tuple[int, int], ...],
    scale: float,
    rng: np.random.Generator,
) -> None:
    """Draw ear loops behind a front view's mask in place; a side view has them in its template."""
    under = np.zeros(alpha.shape, dtype=np.uint8)
    tone = draw_colour(rng) if rng.random() < 0.3 else np.array([0.92, 0.92, 0.9], np.float32)
    width = max(1, round(1.4 * scale))
    for start, end in loops:
        line = np.round(np.stack([points[start], ears[end]]) * 16).astype(np.int32)
        cv2.polylines(under, [line], False, 255, width, cv2.LINE_AA, shift=4)
    y, x = np.nonzero(under)
    over = alpha[y, x]
    free = (1 - over) * (under[y, x] / np.float32(255))
    share = (free / np.maximum(over + free, 1e-6))[:, None]
    cloth[y, x] += (255 * tone - cloth[y, x]) * share
    alpha[y, x] += free

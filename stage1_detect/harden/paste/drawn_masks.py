"""Drawn pictures of masks: outline, folds, seams, straps, valve, filters, print. Knows no faces."""

from __future__ import annotations

import cv2
import numpy as np

from cropfirst.stage1_detect.harden.paste.cloth import draw_colour, round_corners, smooth_noise
from cropfirst.stage1_detect.harden.paste.textures import draw_texture

TEMPLATE_KINDS = ("surgical", "cloth", "cup", "fold", "valve", "printed", "black", "respirator")
_SIZE = 256
_LEFT, _RIGHT, _TOP, _BOTTOM = 28.0, 228.0, 40.0, 200.0
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "surgical": [(0, 0.14), (0.25, 0.06), (0.5, 0), (0.75, 0.06), (1, 0.14), (1.0, 0.62),
                 (0.86, 0.85), (0.68, 0.97), (0.5, 1), (0.32, 0.97), (0.14, 0.85), (0.0, 0.62)],
    "cloth": [(0, 0.16), (0.2, 0.15), (0.38, 0.05), (0.5, 0), (0.62, 0.05), (0.8, 0.15), (1, 0.16),
              (0.97, 0.6), (0.84, 0.82), (0.66, 0.97), (0.5, 1), (0.34, 0.97), (0.16, 0.82),
              (0.03, 0.6)],
    "cup": [(0.02, 0.4), (0.1, 0.24), (0.28, 0.1), (0.42, 0.0), (0.5, -0.02), (0.58, 0.0),
            (0.72, 0.1), (0.9, 0.24), (0.98, 0.4), (0.97, 0.62), (0.85, 0.84), (0.66, 0.97),
            (0.5, 1), (0.34, 0.97), (0.15, 0.84), (0.03, 0.62)],
    "fold": [(0, 0.12), (0.22, 0.1), (0.5, 0), (0.78, 0.1), (1, 0.12), (1.0, 0.5), (0.8, 0.78),
             (0.5, 1), (0.2, 0.78), (0, 0.5)],
    "respirator": [(0.12, 0.44), (0.22, 0.3), (0.38, 0.06), (0.5, -0.04), (0.62, 0.06), (0.78, 0.3),
                   (0.88, 0.44), (0.86, 0.7), (0.72, 0.94), (0.5, 1.02), (0.28, 0.94),
                   (0.14, 0.7)],
}  # fmt: skip
"""Outlines as shares of the mask's width and height, clockwise from the upper left."""
_POINTS = np.array([(0, 0.14), (0.5, 0), (1, 0.14), (0.0, 0.62), (0.5, 1), (1.0, 0.62)])
_NARROW_POINTS = np.array(
    [(0.08, 0.36), (0.5, -0.04), (0.92, 0.36), (0.1, 0.72), (0.5, 1.02), (0.9, 0.72)]
)
"""Points of the respirator, whose rubber ends before the cheeks do."""


def draw_template(
    kind: str, rng: np.random.Generator, *, turned: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one of `TEMPLATE_KINDS`.

    Args:
        turned: whether the mask is on a face that looks left, with straps to the ear, rather than
            seen from the front.

    Returns:
        (256, 256, 4) uint8 RGBA, and its (6, 2) float32 points.
    """
    outline = {"printed": "cloth", "black": "cloth", "valve": "cup"}.get(kind, kind)
    shares = np.array(_OUTLINES[outline])
    alpha = np.zeros((_SIZE, _SIZE), dtype=np.uint8)
    corners = round_corners(_to_pixels(shares), cuts=1 if outline == "fold" else 3)
    cv2.fillPoly(alpha, [_to_fixed_point(corners)], 255, cv2.LINE_AA, shift=4)
    cloth = _draw_cloth(kind, rng) * _draw_relief(kind, rng)[..., None]
    cloth = np.clip(cloth, 0, 1)
    _draw_seams(cloth, kind, corners, rng)
    if kind == "respirator":
        _draw_filters(cloth, alpha, rng)
    image = np.dstack([(cloth * 255).astype(np.uint8), alpha])
    points = _to_pixels(_NARROW_POINTS if kind == "respirator" else _POINTS)
    if turned:
        image, points = _turn_to_side(image, points, rng)
    return image, points.astype(np.float32)


def _to_pixels(shares: np.ndarray) -> np.ndarray:
    corner, size = np.array([_LEFT, _TOP]), np.array([_RIGHT - _LEFT, _BOTTOM - _TOP])
    placed: np.ndarray = corner + shares * size
    return placed


def _to_fixed_point(points: np.ndarray) -> np.ndarray:
    """Convert points to OpenCV's fixed-point ones (shift=4)."""
    return np.round(points * 16).astype(np.int32)


def _draw_cloth(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draw the cloth: (256, 256, 3) float32 RGB in [0, 1]."""
    if kind == "printed":
        return draw_texture((_SIZE, _SIZE), rng)
    if kind == "black":
        base = np.array([0.08, 0.08, 0.09], np.float32)
    elif kind == "cloth":
        base = draw_colour(rng)
    elif kind == "surgical":
        blues = np.array([[0.62, 0.82, 0.93], [0.55, 0.8, 0.78], [0.92, 0.94, 0.95]], np.float32)
        base = blues[int(rng.integers(3))]
    elif kind == "respirator":
        greys = np.array([[0.16, 0.17, 0.2], [0.42, 0.45, 0.5], [0.62, 0.68, 0.72]], np.float32)
        base = greys[int(rng.integers(3))]
    else:
        base = np.array([0.93, 0.93, 0.9], np.float32)
    return base + rng.normal(0, 0.012, (_SIZE, _SIZE, 1)).astype(np.float32)


def _draw_relief(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draw light and shade on the mask: (256, 256) float32 about 1."""
    down, across = np.mgrid[:_SIZE, :_SIZE].astype(np.float32)
    across = (across - (_LEFT + _RIGHT) / 2) / ((_RIGHT - _LEFT) / 2)
    down = (down - _TOP) / (_BOTTOM - _TOP)
    shade = 1 - 0.28 * across**2 - 0.25 * np.clip(down - 0.45, 0, 1)
    shade += 0.03 * smooth_noise((_SIZE, _SIZE), rng, cells=(6, 5))
    if kind == "surgical":
        for at in (0.3, 0.5, 0.7):
            bend = at + 0.05 * (1 - across**2) * (at - 0.3) * 4
            gap = down - bend
            shade -= 0.2 * np.exp(-((gap / 0.012) ** 2)) + 0.1 * np.exp(-np.abs(gap) / 0.05) * (
                gap > 0
            )
    if kind in ("cloth", "printed", "black", "fold"):
        shade += 0.08 * np.tanh(-across * 12) * np.float32(rng.choice([-1, 1]))
        shade -= 0.18 * np.exp(-((across / 0.012) ** 2))
    if kind in ("cup", "valve", "respirator"):
        shade += 0.16 * np.exp(-(across**2 + (down - 0.5) ** 2) / 0.12)
        shade -= 0.12 * np.exp(-(((down - 0.42) / 0.01) ** 2))
    return np.clip(shade, 0.2, 1.25)


def _draw_seams(
    cloth: np.ndarray, kind: str, corners: np.ndarray, rng: np.random.Generator
) -> None:
    """Draw hem, nose wire, valve and small print on (256, 256, 3) float32 in place."""
    middle = corners.mean(axis=0)
    hem = _to_fixed_point(middle + (corners - middle) * 0.95)
    dark = (cloth[128, 100] * 0.72).tolist()
    cv2.polylines(cloth, [hem], True, dark, 1, cv2.LINE_AA, shift=4)
    if kind in ("cup", "fold", "valve"):
        wire = _to_fixed_point(_to_pixels(np.array([(0.36, 0.14), (0.5, 0.06), (0.64, 0.14)])))
        cv2.polylines(cloth, [wire], False, (0.62, 0.63, 0.64), 6, cv2.LINE_AA, shift=4)
        words = "".join(chr(int(each)) for each in rng.integers(65, 91, 5))
        cv2.putText(cloth, words, (96, 168), cv2.FONT_HERSHEY_SIMPLEX, 0.5, dark, 1, cv2.LINE_AA)
    if kind == "valve":
        side = int(rng.choice([108, 128, 148]))
        for radius, light in ((22, 0.7), (19, 0.9), (14, 0.78)):
            cv2.circle(cloth, (side, 122), radius, (light, light, light), -1, cv2.LINE_AA)


def _draw_filters(cloth: np.ndarray, alpha: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a filter on either side, reaching past the rubber, and a valve between them, in
    place."""
    radius = int(rng.integers(30, 44))
    paint = np.array([[0.88, 0.35, 0.5], [0.9, 0.9, 0.86], [0.2, 0.2, 0.22]])[int(rng.integers(3))]
    reach, down = int(rng.integers(58, 76)), int(rng.integers(126, 152))
    for x, size in ((128 - reach, radius), (128 + reach, radius), (128, 22)):
        for share, light in ((1.0, 0.6), (0.9, 1.0), (0.55, 0.85), (0.5, 0.97)):
            shaded = (paint * light if size == radius else paint * 0 + 0.45 * light).tolist()
            cv2.circle(cloth, (x, down), int(size * share), shaded, -1, cv2.LINE_AA)
        cv2.circle(alpha, (x, down), size, 255, -1, cv2.LINE_AA)


def _turn_to_side(
    image: np.ndarray, points: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Turn a front view to the side: the far half narrow, the near half wide, with straps."""
    fold = float(rng.uniform(62, 74))
    near = float(rng.uniform(188, 204))
    middle = (_LEFT + _RIGHT) / 2
    before = np.array([0.0, _LEFT, middle, _RIGHT, _SIZE - 1])
    after = np.array([0.0, _LEFT, fold, near, _SIZE - 1])
    across = np.interp(np.arange(_SIZE), after, before).astype(np.float32)
    down = np.arange(_SIZE, dtype=np.float32)
    turned = cv2.remap(
        image,
        np.broadcast_to(across, (_SIZE, _SIZE)).copy(),
        np.broadcast_to(down[:, None], (_SIZE, _SIZE)).copy(),
        cv2.INTER_LINEAR,
    )
    points = points.copy()
    points[:, 0] = np.interp(points[:, 0], before, after)
    ear = np.array([[_SIZE - 4.0, points[2, 1] - 6], [_SIZE - 4.0, points[5, 1] - 18]])
    strap = 255 * draw_colour(rng) if rng.random() < 0.3 else np.array([236, 236, 232], np.float32)
    under = np.zeros((_SIZE, _SIZE), dtype=np.uint8)
    for start, end in zip(points[[2, 5]] + [-6, 4], ear, strict=True):
        line = [_to_fixed_point(np.stack([start, end]))]
        cv2.polylines(under, line, False, 255, 3, cv2.LINE_AA, shift=4)
    over = turned[..., 3:].astype(np.float32) / 255
    free = (1 - over) * (under[..., None] / np.float32(255))
    both = np.maximum(over + free, 1e-6)
    mixed = (turned[..., :3] * over + strap * free) / both
    turned = np.dstack([mixed, 255 * (over + free)]).round().astype(np.uint8)
    points[[2, 5]] = ear
    return turned, points

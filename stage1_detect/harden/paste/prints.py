"""Random pictures printed on masks: signs, fruit and halves of faces."""

from __future__ import annotations

import cv2
import numpy as np

from cropfirst.stage1_detect.harden.paste.cloth import draw_colour, jittered_grid, plain_cloth

_ROUND = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_HEART = np.column_stack(
    [
        np.sin(_ROUND) ** 3,
        -0.8 * np.cos(_ROUND) + 0.3 * np.cos(2 * _ROUND) + 0.1 * np.cos(3 * _ROUND),
    ]
)
_TENTHS = np.arange(10) * np.pi / 5
_STAR = np.column_stack([np.sin(_TENTHS), -np.cos(_TENTHS)]) * np.tile([1, 0.42], 5)[:, None]


def draw_signs(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw crosses, stars or hearts: many small ones, or a single large one."""
    arm = rng.uniform(0.2, 0.4)
    cross = [(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm),
             (arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm)]  # fmt: skip
    sign = (_HEART, _STAR, np.array(cross))[int(rng.integers(3))]
    cloth = np.ascontiguousarray(plain_cloth(shape, rng))
    if rng.random() < 0.4:
        places, size = [_central_point(shape, rng)], rng.uniform(0.18, 0.4)
    else:
        spacing = rng.uniform(0.12, 0.3)
        places, size = (
            jittered_grid(shape, rng, spacing=spacing),
            spacing * rng.uniform(0.25, 0.45),
        )
    paints = [draw_colour(rng).tolist() for _ in range(int(rng.integers(1, 3)))]
    for place in places:
        corners = np.round((sign * size * min(shape) + place) * 16).astype(np.int32)
        paint = paints[int(rng.integers(len(paints)))]
        cv2.fillPoly(cloth, [corners], paint, cv2.LINE_AA, shift=4)
    return cloth


def draw_fruit(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw round fruit with a stalk, a highlight and a dark side."""
    cloth = np.ascontiguousarray(plain_cloth(shape, rng))
    spacing = rng.uniform(0.18, 0.4)
    radius = max(3, int(spacing * min(shape) * rng.uniform(0.3, 0.5)))
    long = rng.uniform(1.0, 1.5)
    peel, leaf = draw_colour(rng), np.array([0.2, rng.uniform(0.4, 0.7), 0.15], np.float32)
    for x, y in jittered_grid(shape, rng, spacing=spacing):
        turn = float(rng.uniform(0, 360))
        axes = radius, int(radius * long)
        cv2.ellipse(cloth, (x, y), axes, turn, 0, 360, (peel * 0.75).tolist(), -1, cv2.LINE_AA)
        near = x - radius // 8, y - radius // 8
        inner = int(axes[0] * 0.82), int(axes[1] * 0.82)
        cv2.ellipse(cloth, near, inner, turn, 0, 360, peel.tolist(), -1, cv2.LINE_AA)
        light = x - radius // 3, y - radius // 3
        cv2.circle(cloth, light, max(1, radius // 5), (0.95, 0.95, 0.95), -1, cv2.LINE_AA)
        top = x, y - axes[1]
        cv2.ellipse(cloth, top, (max(1, radius // 2), max(1, radius // 5)), 25, 0, 360,
                    leaf.tolist(), -1, cv2.LINE_AA)  # fmt: skip
    return cloth


def draw_half_face(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw the lower half of a face: a person's, an animal's or a skull's."""
    height, width = shape
    skin = _skin(rng) if rng.random() < 0.5 else draw_colour(rng)
    cloth = np.ascontiguousarray(np.broadcast_to(skin, (*shape, 3)))
    dark, pale = (skin * 0.25).tolist(), (0.95, 0.94, 0.9)
    x, y = int(width * rng.uniform(0.45, 0.55)), int(height * rng.uniform(0.55, 0.72))
    half, line = int(width * rng.uniform(0.14, 0.3)), max(1, width // 60)
    muzzle = rng.random() < 0.4
    if muzzle:
        axes = int(half * 1.3), int(height * 0.32)
        cv2.ellipse(cloth, (x, y), axes, 0, 0, 360, pale, -1, cv2.LINE_AA)
    nose = x, int(y - height * rng.uniform(0.22, 0.34))
    snout = max(2, int(half * rng.uniform(0.25, 0.5)))
    cv2.ellipse(cloth, nose, (snout, max(1, snout * 2 // 3)), 0, 0, 360, dark, -1, cv2.LINE_AA)
    if rng.random() < 0.3:
        fur = int(y - height * 0.1)
        cv2.ellipse(cloth, (x, fur), (half, max(1, height // 14)), 0, 180, 360, dark, -1)
    lips = (np.array([0.75, 0.2, 0.25]) * rng.uniform(0.5, 1.2)).clip(0, 1).tolist()
    gape = max(2, int(height * rng.uniform(0.04, 0.16)))
    # A smile is the lower half of a larger mouth.
    arc, outside, inside = (180, 2.0, 1.6) if rng.random() < 0.6 else (360, 1.0, 0.7)
    cv2.ellipse(cloth, (x, y), (half, int(outside * gape)), 0, 0, arc, lips, -1, cv2.LINE_AA)
    if rng.random() < 0.6:
        inner = int(half * 0.85), max(1, int(inside * gape))
        cv2.ellipse(cloth, (x, y), inner, 0, 0, arc, pale, -1, cv2.LINE_AA)
        for tooth in np.linspace(x - inner[0], x + inner[0], int(rng.integers(5, 10))):
            cv2.line(cloth, (int(tooth), y), (int(tooth), y + inner[1]), dark, line)
    if muzzle:
        for side in (-1, 1):
            for rise in (-0.12, 0.0, 0.12):
                end = x + side * half * 2, int(y - height * (0.12 + rise))
                cv2.line(cloth, (x + side * half // 2, y - height // 8), end, dark, line)
    return cloth


def _skin(rng: np.random.Generator) -> np.ndarray:
    """Draw a skin colour from dark to fair: (3,) float32 RGB in [0, 1]."""
    light = rng.uniform(0.25, 1)
    tone: np.ndarray = (light * np.array([1, 0.62 + 0.2 * light, 0.4 + 0.32 * light])).astype(
        np.float32
    )
    return tone


def _central_point(shape: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    return int(shape[1] * rng.uniform(0.3, 0.7)), int(shape[0] * rng.uniform(0.35, 0.7))

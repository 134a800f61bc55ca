"""Colours, noise and outlines that textures and masks are drawn with."""

from __future__ import annotations

import cv2
import numpy as np


def draw_colour(rng: np.random.Generator) -> np.ndarray:
    """Draw a colour that cloth may have: (3,) float32 RGB in [0, 1]."""
    if rng.random() < 0.3:
        grey = rng.choice([0.04, 0.12, 0.3, 0.6, 0.85, 0.97])
        return np.clip(grey + rng.normal(0, 0.02, 3), 0, 1).astype(np.float32)
    hsv = np.array([[[rng.uniform(0, 360), rng.uniform(0.15, 0.95), rng.uniform(0.2, 1.0)]]])
    rgb: np.ndarray = cv2.cvtColor(hsv.astype(np.float32), cv2.COLOR_HSV2RGB)[0, 0]
    return rgb


def smooth_noise(
    shape: tuple[int, int], rng: np.random.Generator, *, cells: tuple[int, int]
) -> np.ndarray:
    """Draw (H, W) float32 smooth noise of about unit strength, with `cells` (down, across)
    bumps."""
    small = rng.normal(0, 1, cells).astype(np.float32)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def round_corners(outline: np.ndarray, cuts: int = 3) -> np.ndarray:
    """Cut off the corners of a closed (N, D) outline `cuts` times (Chaikin 1974)."""
    for _ in range(cuts):
        after = np.roll(outline, -1, axis=0)
        cut = np.stack([0.8 * outline + 0.2 * after, 0.2 * outline + 0.8 * after], axis=1)
        outline = cut.reshape(-1, outline.shape[1])
    return outline


def plain_cloth(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw cloth of one colour: (H, W) -> (H, W, 3) float32 RGB in [0, 1], read-only."""
    return np.broadcast_to(draw_colour(rng), (*shape, 3))


def jittered_grid(
    shape: tuple[int, int], rng: np.random.Generator, *, spacing: float
) -> list[tuple[int, int]]:
    """Return the x, y points of a jittered grid."""
    step = max(3.0, spacing * max(shape))
    x, y = np.meshgrid(np.arange(0, shape[1] + step, step), np.arange(0, shape[0] + step, step))
    points = np.column_stack([x.ravel(), y.ravel()])
    points += rng.normal(0, step * rng.choice([0.02, 0.25]), points.shape)
    return [(int(x), int(y)) for x, y in points]

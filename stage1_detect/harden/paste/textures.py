"""Random patterns of cloth for masks, scarves and other objects."""

from __future__ import annotations

import cv2
import numpy as np

from cropfirst.stage1_detect.harden.paste.cloth import (
    draw_colour,
    jittered_grid,
    plain_cloth,
    smooth_noise,
)
from cropfirst.stage1_detect.harden.paste.prints import draw_fruit, draw_half_face, draw_signs


def draw_texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw a random pattern: (H, W) -> (H, W, 3) float32 RGB in [0, 1]."""
    draw = _PATTERNS[int(rng.integers(len(_PATTERNS)))]
    cloth: np.ndarray = np.clip(draw(shape, rng), 0, 1)
    return cloth


def _mix(share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mix two random colours by an (H, W) share in [0, 1]."""
    first, second = draw_colour(rng), draw_colour(rng)
    return first + share.astype(np.float32)[..., None] * (second - first)


def _ramp(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return how far each pixel is along a random direction, in picture widths: (H, W) float32."""
    turn = rng.uniform(0, np.pi)
    down, across = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / max(shape)
    along: np.ndarray = across * np.float32(np.cos(turn)) + down * np.float32(np.sin(turn))
    return along


def _stripes(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    waves = np.sin(_ramp(shape, rng) * np.float32(2 * np.pi * rng.uniform(4, 18)))
    return _mix(np.clip(waves * 4 + 0.5, 0, 1), rng)


def _checks(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    return (_stripes(shape, rng) + _stripes(shape, rng)) / 2


def _gradient(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    along = _ramp(shape, rng)
    return _mix((along - along.min()) / max(float(np.ptp(along)), 1e-6), rng)


def _noise(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    cells = int(rng.integers(3, 14))
    return _mix(np.clip(smooth_noise(shape, rng, cells=(cells, cells)) * 3, 0, 1), rng)


def _dots(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    share = np.zeros(shape, dtype=np.uint8)
    spacing = rng.uniform(0.06, 0.16)
    radius = max(1, int(spacing * max(shape) * rng.uniform(0.2, 0.45)))
    for point in jittered_grid(shape, rng, spacing=spacing):
        cv2.circle(share, point, radius, 255, -1, cv2.LINE_AA)
    return _mix(share / 255, rng)


def _flowers(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    cloth = np.ascontiguousarray(plain_cloth(shape, rng))
    spacing = rng.uniform(0.12, 0.25)
    radius = max(2, int(spacing * max(shape) * 0.16))
    petals = [draw_colour(rng).tolist() for _ in range(3)]
    heart = draw_colour(rng).tolist()
    for x, y in jittered_grid(shape, rng, spacing=spacing):
        petal = petals[int(rng.integers(3))]
        for turn in np.arange(5) * 1.2566 + rng.uniform(0, 1):
            at = int(x + radius * 1.3 * np.cos(turn)), int(y + radius * 1.3 * np.sin(turn))
            cv2.circle(cloth, at, radius, petal, -1)
        cv2.circle(cloth, (x, y), radius, heart, -1)
    return cloth


def _lettering(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    share = np.zeros(shape, dtype=np.uint8)
    size = max(shape) / 300
    for _ in range(int(rng.integers(1, 4))):
        letters = "".join(chr(int(each)) for each in rng.integers(65, 91, int(rng.integers(2, 8))))
        at = int(rng.uniform(0.05, 0.5) * shape[1]), int(rng.uniform(0.2, 0.95) * shape[0])
        scale, width = size * rng.uniform(0.8, 3), max(1, int(size * rng.uniform(1, 5)))
        cv2.putText(share, letters, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, width, cv2.LINE_AA)
    return _mix(share / 255, rng)


def _camouflage(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    cloth = np.ascontiguousarray(plain_cloth(shape, rng))
    for _ in range(int(rng.integers(2, 4))):
        cells = int(rng.integers(5, 12))
        cloth[smooth_noise(shape, rng, cells=(cells, cells)) > 0.4] = draw_colour(rng)
    return cloth


def _bands(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw broad bands as of a flag, sometimes with a badge on them."""
    count = int(rng.integers(2, 4))
    along = np.arange(shape[1]) if rng.random() < 0.5 else np.arange(shape[0])[:, None]
    band = np.broadcast_to(along * count // along.size, shape)
    cloth = np.stack([draw_colour(rng) for _ in range(count)])[band]
    if rng.random() < 0.5:
        at = int(shape[1] * rng.uniform(0.25, 0.75)), int(shape[0] * rng.uniform(0.3, 0.7))
        cv2.circle(cloth, at, max(2, shape[0] // 6), draw_colour(rng).tolist(), -1, cv2.LINE_AA)
    return cloth


_PATTERNS = (
    plain_cloth, _stripes, _checks, _gradient, _noise, _dots, _flowers, _lettering,
    _camouflage, _bands, draw_signs, draw_fruit, draw_half_face,
)  # fmt: skip

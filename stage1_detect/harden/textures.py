"""Patterns and colours of cloth, drawn at random: what masks and scarves are made of."""

from __future__ import annotations

import cv2
import numpy as np


def colour(rng: np.random.Generator) -> np.ndarray:
    """A colour that cloth may have. (3,) float32 RGB in [0, 1]."""
    if rng.random() < 0.3:
        grey = rng.choice([0.04, 0.12, 0.3, 0.6, 0.85, 0.97])
        return np.clip(grey + rng.normal(0, 0.02, 3), 0, 1).astype(np.float32)
    hsv = np.array([[[rng.uniform(0, 360), rng.uniform(0.15, 0.95), rng.uniform(0.2, 1.0)]]])
    rgb: np.ndarray = cv2.cvtColor(hsv.astype(np.float32), cv2.COLOR_HSV2RGB)[0, 0]
    return rgb


def soft_noise(
    shape: tuple[int, int], rng: np.random.Generator, *, cells: tuple[int, int]
) -> np.ndarray:
    """Smooth noise of about unit strength, with `cells` (down, across) bumps. (H, W) float32."""
    small = rng.normal(0, 1, cells).astype(np.float32)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A random pattern. (H, W) -> (H, W, 3) float32 RGB in [0, 1]."""
    draw = _PATTERNS[int(rng.integers(len(_PATTERNS)))]
    cloth: np.ndarray = np.clip(draw(shape, rng), 0, 1)
    return cloth


def rounded(outline: np.ndarray, cuts: int = 3) -> np.ndarray:
    """A closed (N, D) outline with its corners cut off, again and again (Chaikin 1974)."""
    for _ in range(cuts):
        after = np.roll(outline, -1, axis=0)
        cut = np.stack([0.8 * outline + 0.2 * after, 0.2 * outline + 0.8 * after], axis=1)
        outline = cut.reshape(-1, outline.shape[1])
    return outline


def _mix(share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two colours by an (H, W) share in [0, 1]."""
    first, second = colour(rng), colour(rng)
    return first + share.astype(np.float32)[..., None] * (second - first)


def _ramp(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """How far each pixel lies along a random direction, in picture widths. (H, W) float32."""
    turn = rng.uniform(0, np.pi)
    down, across = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / max(shape)
    along: np.ndarray = across * np.float32(np.cos(turn)) + down * np.float32(np.sin(turn))
    return along


def _plain(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    return np.broadcast_to(colour(rng), (*shape, 3))


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
    return _mix(np.clip(soft_noise(shape, rng, cells=(cells, cells)) * 3, 0, 1), rng)


def _scattered(
    shape: tuple[int, int], rng: np.random.Generator, *, spacing: float
) -> list[tuple[int, int]]:
    """Points of a shaken grid, x, y."""
    step = max(3.0, spacing * max(shape))
    x, y = np.meshgrid(np.arange(0, shape[1] + step, step), np.arange(0, shape[0] + step, step))
    points = np.column_stack([x.ravel(), y.ravel()])
    points += rng.normal(0, step * rng.choice([0.02, 0.25]), points.shape)
    return [(int(x), int(y)) for x, y in points]


def _dots(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    share = np.zeros(shape, dtype=np.uint8)
    spacing = rng.uniform(0.06, 0.16)
    radius = max(1, int(spacing * max(shape) * rng.uniform(0.2, 0.45)))
    for point in _scattered(shape, rng, spacing=spacing):
        cv2.circle(share, point, radius, 255, -1, cv2.LINE_AA)
    return _mix(share / 255, rng)


def _flowers(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    cloth = np.ascontiguousarray(_plain(shape, rng))
    spacing = rng.uniform(0.12, 0.25)
    radius = max(2, int(spacing * max(shape) * 0.16))
    petals = [colour(rng).tolist() for _ in range(3)]
    heart = colour(rng).tolist()
    for x, y in _scattered(shape, rng, spacing=spacing):
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


_PATTERNS = (_plain, _stripes, _checks, _gradient, _noise, _dots, _flowers, _lettering)

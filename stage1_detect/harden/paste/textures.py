"""Random patterns, pictures and colours of cloth for masks, scarves and other objects."""

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


def draw_texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw a random pattern: (H, W) -> (H, W, 3) float32 RGB in [0, 1]."""
    draw = _PATTERNS[int(rng.integers(len(_PATTERNS)))]
    cloth: np.ndarray = np.clip(draw(shape, rng), 0, 1)
    return cloth


def round_corners(outline: np.ndarray, cuts: int = 3) -> np.ndarray:
    """Cut off the corners of a closed (N, D) outline `cuts` times (Chaikin 1974)."""
    for _ in range(cuts):
        after = np.roll(outline, -1, axis=0)
        cut = np.stack([0.8 * outline + 0.2 * after, 0.2 * outline + 0.8 * after], axis=1)
        outline = cut.reshape(-1, outline.shape[1])
    return outline


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


def _plain(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    return np.broadcast_to(draw_colour(rng), (*shape, 3))


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


def _jittered_grid(
    shape: tuple[int, int], rng: np.random.Generator, *, spacing: float
) -> list[tuple[int, int]]:
    """Return the x, y points of a jittered grid."""
    step = max(3.0, spacing * max(shape))
    x, y = np.meshgrid(np.arange(0, shape[1] + step, step), np.arange(0, shape[0] + step, step))
    points = np.column_stack([x.ravel(), y.ravel()])
    points += rng.normal(0, step * rng.choice([0.02, 0.25]), points.shape)
    return [(int(x), int(y)) for x, y in points]


def _dots(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    share = np.zeros(shape, dtype=np.uint8)
    spacing = rng.uniform(0.06, 0.16)
    radius = max(1, int(spacing * max(shape) * rng.uniform(0.2, 0.45)))
    for point in _jittered_grid(shape, rng, spacing=spacing):
        cv2.circle(share, point, radius, 255, -1, cv2.LINE_AA)
    return _mix(share / 255, rng)


def _flowers(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    cloth = np.ascontiguousarray(_plain(shape, rng))
    spacing = rng.uniform(0.12, 0.25)
    radius = max(2, int(spacing * max(shape) * 0.16))
    petals = [draw_colour(rng).tolist() for _ in range(3)]
    heart = draw_colour(rng).tolist()
    for x, y in _jittered_grid(shape, rng, spacing=spacing):
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
    cloth = np.ascontiguousarray(_plain(shape, rng))
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


_ROUND = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_HEART = np.column_stack(
    [
        np.sin(_ROUND) ** 3,
        -0.8 * np.cos(_ROUND) + 0.3 * np.cos(2 * _ROUND) + 0.1 * np.cos(3 * _ROUND),
    ]
)
_TENTHS = np.arange(10) * np.pi / 5
_STAR = np.column_stack([np.sin(_TENTHS), -np.cos(_TENTHS)]) * np.tile([1, 0.42], 5)[:, None]


def _signs(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw crosses, stars or hearts: many small ones, or a single large one."""
    arm = rng.uniform(0.2, 0.4)
    cross = [(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm),
             (arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm)]  # fmt: skip
    sign = (_HEART, _STAR, np.array(cross))[int(rng.integers(3))]
    cloth = np.ascontiguousarray(_plain(shape, rng))
    if rng.random() < 0.4:
        places, size = [_central_point(shape, rng)], rng.uniform(0.18, 0.4)
    else:
        spacing = rng.uniform(0.12, 0.3)
        places, size = (
            _jittered_grid(shape, rng, spacing=spacing),
            spacing * rng.uniform(0.25, 0.45),
        )
    paints = [draw_colour(rng).tolist() for _ in range(int(rng.integers(1, 3)))]
    for place in places:
        corners = np.round((sign * size * min(shape) + place) * 16).astype(np.int32)
        paint = paints[int(rng.integers(len(paints)))]
        cv2.fillPoly(cloth, [corners], paint, cv2.LINE_AA, shift=4)
    return cloth


def _fruit(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw round fruit with a stalk, a highlight and a dark side."""
    cloth = np.ascontiguousarray(_plain(shape, rng))
    spacing = rng.uniform(0.18, 0.4)
    radius = max(3, int(spacing * min(shape) * rng.uniform(0.3, 0.5)))
    long = rng.uniform(1.0, 1.5)
    peel, leaf = draw_colour(rng), np.array([0.2, rng.uniform(0.4, 0.7), 0.15], np.float32)
    for x, y in _jittered_grid(shape, rng, spacing=spacing):
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


def _half_face(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
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


_PATTERNS = (
    _plain, _stripes, _checks, _gradient, _noise, _dots, _flowers, _lettering,
    _camouflage, _bands, _signs, _fruit, _half_face,
)  # fmt: skip

"""Random changes of windows between epochs: other light, and a covered part.

Knows windows; knows no nets. Windows whose target is the teacher's output on the very pixels are
not changed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cropfirst.stage1_detect.harden.training.windows import BARE, UNSURE, Windows

_COVERED_SHARE = 0.2
"""Share of the windows of which a part is covered."""
_CONTRAST, _BRIGHTNESS, _TINT = 0.12, 10.0, 5.0
"""Standard deviations: of the logarithm of the contrast; of all grey levels together, and of each
channel's."""
_MIN_COVER, _MAX_COVER = 0.12, 0.45
"""Side of the covered part, as a fraction of the window."""


def jitter_windows(windows: Windows, rng: np.random.Generator) -> Windows:
    """Return windows with changed pixels and the same targets; the given ones are not changed."""
    changed = (windows.kind != BARE) & (windows.kind != UNSURE)
    pixels = windows.pixels.copy()
    rows = np.flatnonzero(changed)
    pixels[rows] = _change_light(pixels[rows], rng)
    for row in np.flatnonzero(changed & (rng.random(len(changed)) < _COVERED_SHARE)):
        _cover(pixels[row], pixels[rng.integers(len(pixels))], rng)
    return replace(windows, pixels=pixels)


def _change_light(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change contrast about each window's mean, brightness and tint: (N, S, S, 3) uint8."""
    count = len(pixels)
    contrast = np.exp(rng.normal(0, _CONTRAST, count)).astype(np.float32)
    light = rng.normal(0, _BRIGHTNESS, (count, 1)) + rng.normal(0, _TINT, (count, 3))
    mean = pixels.mean(axis=(1, 2, 3), dtype=np.float32)
    shift = light.astype(np.float32) + (mean * (1 - contrast))[:, None]
    changed: np.ndarray = pixels * contrast[:, None, None, None] + shift[:, None, None, :]
    return changed.round().clip(0, 255).astype(np.uint8)


def _cover(window: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> None:
    """Put one colour, or a piece of another window, over a part of an (S, S, 3) window."""
    side = len(window)
    low, high = max(1, round(_MIN_COVER * side)), max(2, round(_MAX_COVER * side))
    height, width = rng.integers(low, high, 2)
    top, left = rng.integers(0, side - height), rng.integers(0, side - width)
    part = window[top : top + height, left : left + width]
    if rng.random() < 0.5:
        part[...] = rng.integers(0, 256, 3)
    else:
        y, x = rng.integers(0, side - height), rng.integers(0, side - width)
        part[...] = other[y : y + height, x : x + width]

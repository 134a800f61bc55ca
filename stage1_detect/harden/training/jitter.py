"""Windows as they might have been seen another time: in other light, partly covered.

Knows windows and what is said of them; knows no nets. What only the teacher said of the very pixels
stays as it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cropfirst.stage1_detect.harden.training.mine import BARE, UNSURE, Windows

_COVER = 0.2
"""Share of the windows."""
_CONTRAST, _LIGHT, _TINT = 0.12, 10.0, 5.0
"""Standard deviations: of the contrast's logarithm; of grey levels, in all and for each channel."""
_LEAST, _MOST = 0.12, 0.45
"""Sides of what covers a part, as fractions of the window."""


def another_look(windows: Windows, rng: np.random.Generator) -> Windows:
    """The same windows once more; what is to be said of them stays.

    Args:
        windows: stay as they are.
        rng: what is done hangs on it alone.
    """
    free = (windows.kind != BARE) & (windows.kind != UNSURE)
    pixels = windows.pixels.copy()
    rows = np.flatnonzero(free)
    pixels[rows] = _relit(pixels[rows], rng)
    for row in np.flatnonzero(free & (rng.random(len(free)) < _COVER)):
        _cover(pixels[row], pixels[rng.integers(len(pixels))], rng)
    return replace(windows, pixels=pixels)


def _relit(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, S, S, 3) uint8: contrast about each window's own mean, then light and tint."""
    count = len(pixels)
    contrast = np.exp(rng.normal(0, _CONTRAST, count)).astype(np.float32)
    light = rng.normal(0, _LIGHT, (count, 1)) + rng.normal(0, _TINT, (count, 3))
    mean = pixels.mean(axis=(1, 2, 3), dtype=np.float32)
    shift = light.astype(np.float32) + (mean * (1 - contrast))[:, None]
    lit: np.ndarray = pixels * contrast[:, None, None, None] + shift[:, None, None, :]
    return lit.round().clip(0, 255).astype(np.uint8)


def _cover(window: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> None:
    """Put one colour, or a piece of another window, over a part of an (S, S, 3) window."""
    side = len(window)
    low, high = max(1, round(_LEAST * side)), max(2, round(_MOST * side))
    height, width = rng.integers(low, high, 2)
    top, left = rng.integers(0, side - height), rng.integers(0, side - width)
    place = window[top : top + height, left : left + width]
    if rng.random() < 0.5:
        place[...] = rng.integers(0, 256, 3)
    else:
        y, x = rng.integers(0, side - height), rng.integers(0, side - width)
        place[...] = other[y : y + height, x : x + width]

"""Five kinds of drawn face masks: surgical, KN95, patterned cloth, black and bandana.

A mask is worn properly, or has slipped under the nose or onto the chin. Units are half face
widths, as in face.py. Knows nothing of the person except the width of the jaw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cropfirst.stage2_classify.drawn.drawing import (
    Colour,
    Drawing,
    Points,
    mix,
    oval,
    shade,
    smooth,
)

MASK_KINDS = ("surgical", "kn95", "cloth", "black", "bandana")
_SURGICAL: tuple[Colour, ...] = ((146, 192, 216), (164, 208, 200), (186, 204, 226))
_CLOTHS: tuple[Colour, ...] = (
    (196, 92, 96), (108, 146, 104), (226, 178, 96), (128, 108, 168), (214, 146, 170),
)  # fmt: skip
_BANDANAS: tuple[Colour, ...] = ((168, 44, 48), (40, 70, 128), (56, 98, 70))


@dataclass(frozen=True)
class MaskFit:
    """The place of a mask on a face: its edges, and how far the head is turned."""

    nose_y: float
    """Height of the upper edge in the middle of the face."""
    cheek_y: float
    """Height of the upper edge at the sides of the face."""
    chin_y: float
    """Height of the lowest point."""
    jaw: float
    turn: float

    def outline(self, *, width: float = 0.93, peak: float = 0.0, pointed: float = 0.0) -> Points:
        """Return a closed outline; `peak` lifts it over the nose, `pointed` narrows the bottom."""
        t, jaw = self.turn, self.jaw
        middle = (self.cheek_y + self.chin_y) / 2
        low = 0.6 * (1 - pointed)
        right = [
            (0.16 + t, self.nose_y + 0.04),
            (0.5 + 0.6 * t, (self.nose_y + self.cheek_y) / 2 + 0.05), (width, self.cheek_y),
            ((width + jaw) / 2 + 0.02, middle), (low + 0.1 * jaw, self.chin_y - 0.14),
        ]  # fmt: skip
        left = [(2 * t * (abs(x) < 0.6) - x, y) for x, y in reversed(right)]
        return smooth([(t, self.nose_y - peak), *right, (0.5 * t, self.chin_y), *left], steps=5)


def draw_mask(
    drawing: Drawing, kind: str, rng: np.random.Generator, *, slip: str, jaw: float, turn: float
) -> None:
    """Draw a mask of one of MASK_KINDS; `slip` is "" (worn properly), "nose" or "chin"."""
    jitter = rng.uniform(-0.04, 0.04, 3)
    nose_y, cheek_y, chin_y = {
        "": (0.14, 0.26, 1.46),
        "nose": (0.57, 0.5, 1.48),
        "chin": (1.0, 0.84, 1.58),
    }[slip] + jitter
    if kind == "bandana":
        chin_y += 0.55
    fit = MaskFit(float(nose_y), float(cheek_y), float(chin_y), jaw, turn)
    # a mask lifts off the skin: a soft shadow runs along its upper edge
    drawing.soft(
        fit.outline() + np.array([0, -0.03], np.float32), (70, 48, 44), alpha=0.4, blur=0.04
    )
    _MASKS[kind](drawing, fit, rng)


def _surgical(drawing: Drawing, fit: MaskFit, rng: np.random.Generator) -> None:
    colour = shade(_any(rng, _SURGICAL), rng.uniform(0.92, 1.05))
    _loops(drawing, fit, (244, 244, 240))
    shape = fit.outline()
    drawing.fill(shape, colour)
    with drawing.clipped(shape):
        _volume(drawing, fit, colour)
        for share in (0.3, 0.5, 0.7):
            y = fit.nose_y + share * (fit.chin_y - fit.nose_y)
            fold = [(-0.95, y - 0.06), (fit.turn, y + 0.04), (0.95, y - 0.06)]
            drawing.stroke(fold, shade(colour, 0.72), 0.035, tip=0.6)
            drawing.stroke([(a, b + 0.035) for a, b in fold], shade(colour, 1.18), 0.025, tip=0.6)
    _hem(drawing, fit, shape, shade(colour, 1.12))


def _kn95(drawing: Drawing, fit: MaskFit, rng: np.random.Generator) -> None:
    colour = shade((238, 238, 234), rng.uniform(0.92, 1.0))
    _loops(drawing, fit, (232, 232, 228))
    shape = fit.outline(width=0.86, peak=0.06, pointed=0.45)
    drawing.fill(shape, colour)
    with drawing.clipped(shape):
        _volume(drawing, fit, colour)
        seam = [
            (fit.turn, fit.nose_y - 0.1), (fit.turn * 1.5, fit.chin_y - 0.6),
            (fit.turn, fit.chin_y + 0.1),
        ]  # fmt: skip
        drawing.stroke(seam, shade(colour, 0.74), 0.04, tip=0.8)
        for side in (-1, 1):
            edge = oval(fit.turn + side * 0.45, (fit.nose_y + fit.chin_y) / 2, 0.34, 0.5)
            drawing.soft(edge, shade(colour, 0.9), alpha=0.4, blur=0.1)
    clip = [
        (fit.turn - 0.2, fit.nose_y + 0.07), (fit.turn, fit.nose_y),
        (fit.turn + 0.2, fit.nose_y + 0.07),
    ]  # fmt: skip
    drawing.stroke(clip, (176, 178, 182), 0.05, tip=0.7)
    drawing.line(shape, shade(colour, 0.84), 0.02, closed=True)


def _cloth(drawing: Drawing, fit: MaskFit, rng: np.random.Generator) -> None:
    colour = shade(_any(rng, _CLOTHS), rng.uniform(0.9, 1.1))
    accent = mix(colour, (255, 250, 240), 0.35)
    _loops(drawing, fit, shade(colour, 0.7))
    shape = fit.outline(peak=0.04, pointed=0.15)
    drawing.fill(shape, colour)
    step, stripes = rng.uniform(0.18, 0.26), rng.random() < 0.4
    with drawing.clipped(shape):
        for row in range(9):
            y = fit.nose_y - 0.1 + row * step
            if stripes:
                drawing.stroke(
                    [(-1.1, y - 0.1), (fit.turn, y), (1.1, y - 0.1)], accent, 0.05, tip=0.9
                )
                continue
            for col in range(-6, 7):
                x = (col + 0.5 * (row % 2)) * step + fit.turn
                drawing.fill(oval(x, y - 0.1 * x * x, 0.045, 0.045, n=10), accent)
        _volume(drawing, fit, colour)
    _hem(drawing, fit, shape, shade(colour, 0.75))


def _black(drawing: Drawing, fit: MaskFit, rng: np.random.Generator) -> None:
    colour = shade((44, 44, 50), rng.uniform(0.8, 1.3))
    _loops(drawing, fit, (30, 30, 34))
    shape = fit.outline(peak=0.05, pointed=0.3)
    drawing.fill(shape, colour)
    with drawing.clipped(shape):
        _volume(drawing, fit, colour)
        drawing.stroke(
            [
                (fit.turn, fit.nose_y - 0.1),
                (fit.turn * 1.4, fit.chin_y - 0.5),
                (fit.turn, fit.chin_y),
            ],
            shade(colour, 0.6),
            0.035,
            tip=0.8,
        )


def _bandana(drawing: Drawing, fit: MaskFit, rng: np.random.Generator) -> None:
    colour = shade(_any(rng, _BANDANAS), rng.uniform(0.9, 1.15))
    shape = fit.outline(width=1.03, pointed=0.75)
    drawing.fill(shape, colour)
    with drawing.clipped(shape):
        for row in range(8):
            for col in range(-4, 5):
                x, y = (col + 0.5 * (row % 2)) * 0.3 + fit.turn, fit.nose_y + 0.1 + 0.24 * row
                drawing.fill(oval(x, y, 0.065, 0.045, n=10), mix(colour, (238, 230, 220), 0.4))
                drawing.fill(oval(x, y, 0.03, 0.02, n=8), shade(colour, 0.8))
        _volume(drawing, fit, colour)
        for side in (-1, 1):
            fold = [
                (side * 0.9, fit.cheek_y + 0.1), (side * 0.5, fit.chin_y - 0.7),
                (0.1 * side, fit.chin_y),
            ]  # fmt: skip
            drawing.stroke(fold, shade(colour, 0.66), 0.06)


_MASKS: dict[str, Callable[[Drawing, MaskFit, np.random.Generator], None]] = {
    "surgical": _surgical,
    "kn95": _kn95,
    "cloth": _cloth,
    "black": _black,
    "bandana": _bandana,
}


def _volume(drawing: Drawing, fit: MaskFit, colour: Colour) -> None:
    """Draw light on the middle and shadow towards the ears and the chin."""
    middle = (fit.nose_y + fit.chin_y) / 2
    drawing.soft(oval(fit.turn, middle - 0.1, 0.3, 0.3), shade(colour, 1.2), alpha=0.5, blur=0.15)
    drawing.soft(
        oval(fit.turn, fit.nose_y + 0.2, 0.08, 0.2), shade(colour, 1.4), alpha=0.7, blur=0.05
    )
    drawing.soft(
        oval(fit.turn, fit.nose_y + 0.48, 0.25, 0.05), shade(colour, 0.6), alpha=0.8, blur=0.055
    )
    for side in (-1, 1):
        drawing.soft(oval(side * 1.05, middle, 0.2, 0.7), shade(colour, 0.62), alpha=0.55, blur=0.1)
    drawing.soft(oval(0, fit.chin_y + 0.05, 0.7, 0.14), shade(colour, 0.62), alpha=0.55, blur=0.08)


def _loops(drawing: Drawing, fit: MaskFit, colour: Colour) -> None:
    for side in (-1, 1):
        upper = [
            (side * 0.88, fit.cheek_y + 0.04), (side * 0.98, fit.cheek_y - 0.12),
            (side * 1.06, -0.12),
        ]  # fmt: skip
        lower = [
            (side * 0.86, fit.cheek_y + 0.5), (side * 0.98, fit.cheek_y + 0.3),
            (side * 1.06, 0.36),
        ]  # fmt: skip
        drawing.line(smooth(upper, closed=False), colour, 0.035)
        drawing.line(smooth(lower, closed=False), colour, 0.035)


def _hem(drawing: Drawing, fit: MaskFit, shape: Points, colour: Colour) -> None:
    drawing.line(shape, colour, 0.03, closed=True)


def _any(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]

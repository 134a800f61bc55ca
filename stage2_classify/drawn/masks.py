"""Five kinds of drawn face masks: surgical, KN95, patterned cloth, black and bandana.

A mask is worn properly, or slipped under the nose or onto the chin. Units are half face widths,
as in portrait_face. It knows nothing about the person but the width of the jaw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cropfirst.stage2_classify.drawn.canvas import (
    Canvas,
    Colour,
    Points,
    mix,
    oval,
    shade,
    smooth,
)

MASK_KINDS = ("surgical", "kn95", "cloth", "black", "bandana")
_SURGICAL: tuple[Colour, ...] = ((146, 192, 216), (164, 208, 200), (186, 204, 226))
_CLOTHS: tuple[Colour, ...] = (
    (196, 92, 96),
    (108, 146, 104),
    (226, 178, 96),
    (128, 108, 168),
    (214, 146, 170),
)
_BANDANAS: tuple[Colour, ...] = ((168, 44, 48), (40, 70, 128), (56, 98, 70))


@dataclass(frozen=True)
class Worn:
    """One mask on one face: where its edges run and how far the features are turned."""

    nose_y: float
    """Upper edge in the middle of the face."""
    cheek_y: float
    """Upper edge at the sides of the face."""
    chin_y: float
    """Lowest point."""
    jaw: float
    turn: float

    def outline(self, *, width: float = 0.93, peak: float = 0.0, pointed: float = 0.0) -> Points:
        """Closed smooth outline; `peak` lifts it over the nose, `pointed` narrows the bottom."""
        t, jaw = self.turn, self.jaw
        middle = (self.cheek_y + self.chin_y) / 2
        low = 0.6 * (1 - pointed)
        right = [
            (0.16 + t, self.nose_y + 0.04),
            (0.5 + 0.6 * t, (self.nose_y + self.cheek_y) / 2 + 0.05),
            (width, self.cheek_y),
            ((width + jaw) / 2 + 0.02, middle),
            (low + 0.1 * jaw, self.chin_y - 0.14),
        ]
        left = [(2 * t * (abs(x) < 0.6) - x, y) for x, y in reversed(right)]
        return smooth([(t, self.nose_y - peak), *right, (0.5 * t, self.chin_y), *left], steps=5)


def draw_mask(
    canvas: Canvas, kind: str, rng: np.random.Generator, *, slip: str, jaw: float, turn: float
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
    worn = Worn(float(nose_y), float(cheek_y), float(chin_y), jaw, turn)
    # a mask lifts off the skin: a soft shadow runs along its upper edge
    canvas.soft(
        worn.outline() + np.array([0, -0.03], np.float32), (70, 48, 44), alpha=0.4, blur=0.04
    )
    _MASKS[kind](canvas, worn, rng)


def _surgical(canvas: Canvas, worn: Worn, rng: np.random.Generator) -> None:
    colour = shade(_any(rng, _SURGICAL), rng.uniform(0.92, 1.05))
    _loops(canvas, worn, (244, 244, 240))
    shape = worn.outline()
    canvas.fill(shape, colour)
    with canvas.clipped(shape):
        _volume(canvas, worn, colour)
        for share in (0.3, 0.5, 0.7):
            y = worn.nose_y + share * (worn.chin_y - worn.nose_y)
            fold = [(-0.95, y - 0.06), (worn.turn, y + 0.04), (0.95, y - 0.06)]
            canvas.stroke(fold, shade(colour, 0.72), 0.035, tip=0.6)
            canvas.stroke([(a, b + 0.035) for a, b in fold], shade(colour, 1.18), 0.025, tip=0.6)
    _hem(canvas, worn, shape, shade(colour, 1.12))


def _kn95(canvas: Canvas, worn: Worn, rng: np.random.Generator) -> None:
    colour = shade((238, 238, 234), rng.uniform(0.92, 1.0))
    _loops(canvas, worn, (232, 232, 228))
    shape = worn.outline(width=0.86, peak=0.06, pointed=0.45)
    canvas.fill(shape, colour)
    with canvas.clipped(shape):
        _volume(canvas, worn, colour)
        seam = [
            (worn.turn, worn.nose_y - 0.1),
            (worn.turn * 1.5, worn.chin_y - 0.6),
            (worn.turn, worn.chin_y + 0.1),
        ]
        canvas.stroke(seam, shade(colour, 0.74), 0.04, tip=0.8)
        for side in (-1, 1):
            edge = oval(worn.turn + side * 0.45, (worn.nose_y + worn.chin_y) / 2, 0.34, 0.5)
            canvas.soft(edge, shade(colour, 0.9), alpha=0.4, blur=0.1)
    clip = [
        (worn.turn - 0.2, worn.nose_y + 0.07),
        (worn.turn, worn.nose_y),
        (worn.turn + 0.2, worn.nose_y + 0.07),
    ]
    canvas.stroke(clip, (176, 178, 182), 0.05, tip=0.7)
    canvas.line(shape, shade(colour, 0.84), 0.02, closed=True)


def _cloth(canvas: Canvas, worn: Worn, rng: np.random.Generator) -> None:
    colour = shade(_any(rng, _CLOTHS), rng.uniform(0.9, 1.1))
    accent = mix(colour, (255, 250, 240), 0.35)
    _loops(canvas, worn, shade(colour, 0.7))
    shape = worn.outline(peak=0.04, pointed=0.15)
    canvas.fill(shape, colour)
    step, stripes = rng.uniform(0.18, 0.26), rng.random() < 0.4
    with canvas.clipped(shape):
        for row in range(9):
            y = worn.nose_y - 0.1 + row * step
            if stripes:
                canvas.stroke(
                    [(-1.1, y - 0.1), (worn.turn, y), (1.1, y - 0.1)], accent, 0.05, tip=0.9
                )
                continue
            for col in range(-6, 7):
                x = (col + 0.5 * (row % 2)) * step + worn.turn
                canvas.fill(oval(x, y - 0.1 * x * x, 0.045, 0.045, n=10), accent)
        _volume(canvas, worn, colour)
    _hem(canvas, worn, shape, shade(colour, 0.75))


def _black(canvas: Canvas, worn: Worn, rng: np.random.Generator) -> None:
    colour = shade((44, 44, 50), rng.uniform(0.8, 1.3))
    _loops(canvas, worn, (30, 30, 34))
    shape = worn.outline(peak=0.05, pointed=0.3)
    canvas.fill(shape, colour)
    with canvas.clipped(shape):
        _volume(canvas, worn, colour)
        canvas.stroke(
            [
                (worn.turn, worn.nose_y - 0.1),
                (worn.turn * 1.4, worn.chin_y - 0.5),
                (worn.turn, worn.chin_y),
            ],
            shade(colour, 0.6),
            0.035,
            tip=0.8,
        )


def _bandana(canvas: Canvas, worn: Worn, rng: np.random.Generator) -> None:
    colour = shade(_any(rng, _BANDANAS), rng.uniform(0.9, 1.15))
    shape = worn.outline(width=1.03, pointed=0.75)
    canvas.fill(shape, colour)
    with canvas.clipped(shape):
        for row in range(8):
            for col in range(-4, 5):
                x, y = (col + 0.5 * (row % 2)) * 0.3 + worn.turn, worn.nose_y + 0.1 + 0.24 * row
                canvas.fill(oval(x, y, 0.065, 0.045, n=10), mix(colour, (238, 230, 220), 0.4))
                canvas.fill(oval(x, y, 0.03, 0.02, n=8), shade(colour, 0.8))
        _volume(canvas, worn, colour)
        for side in (-1, 1):
            fold = [
                (side * 0.9, worn.cheek_y + 0.1),
                (side * 0.5, worn.chin_y - 0.7),
                (0.1 * side, worn.chin_y),
            ]
            canvas.stroke(fold, shade(colour, 0.66), 0.06)


_MASKS: dict[str, Callable[[Canvas, Worn, np.random.Generator], None]] = {
    "surgical": _surgical,
    "kn95": _kn95,
    "cloth": _cloth,
    "black": _black,
    "bandana": _bandana,
}


def _volume(canvas: Canvas, worn: Worn, colour: Colour) -> None:
    """Light on the middle, shadow towards the ears and the chin."""
    middle = (worn.nose_y + worn.chin_y) / 2
    canvas.soft(oval(worn.turn, middle - 0.1, 0.3, 0.3), shade(colour, 1.2), alpha=0.5, blur=0.15)
    canvas.soft(
        oval(worn.turn, worn.nose_y + 0.2, 0.08, 0.2), shade(colour, 1.4), alpha=0.7, blur=0.05
    )
    canvas.soft(
        oval(worn.turn, worn.nose_y + 0.48, 0.25, 0.05), shade(colour, 0.6), alpha=0.8, blur=0.055
    )
    for side in (-1, 1):
        canvas.soft(oval(side * 1.05, middle, 0.2, 0.7), shade(colour, 0.62), alpha=0.55, blur=0.1)
    canvas.soft(oval(0, worn.chin_y + 0.05, 0.7, 0.14), shade(colour, 0.62), alpha=0.55, blur=0.08)


def _loops(canvas: Canvas, worn: Worn, colour: Colour) -> None:
    for side in (-1, 1):
        upper = [
            (side * 0.88, worn.cheek_y + 0.04),
            (side * 0.98, worn.cheek_y - 0.12),
            (side * 1.06, -0.12),
        ]
        lower = [
            (side * 0.86, worn.cheek_y + 0.5),
            (side * 0.98, worn.cheek_y + 0.3),
            (side * 1.06, 0.36),
        ]
        canvas.line(smooth(upper, closed=False), colour, 0.035)
        canvas.line(smooth(lower, closed=False), colour, 0.035)


def _hem(canvas: Canvas, worn: Worn, shape: Points, colour: Colour) -> None:
    canvas.line(shape, colour, 0.03, closed=True)


def _any(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]

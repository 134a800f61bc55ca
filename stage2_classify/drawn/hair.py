"""Hair behind and in front of the drawn head.

Units are half face widths, as in face.py. Knows a person's style, colour and hairline.
"""

from __future__ import annotations

import numpy as np

from cropfirst.stage2_classify.drawn.drawing import (
    Drawing,
    Points,
    mirrored,
    mix,
    oval,
    shade,
    smooth,
)
from cropfirst.stage2_classify.drawn.person import Person

_FALLING = {"long": 2.3, "bob": 1.25}


def draw_hair_behind(drawing: Drawing, person: Person) -> None:
    """Draw hair that falls behind neck and shoulders, or a bun."""
    dark = shade(person.hair_now, 0.72)
    v = person.volume
    if person.style in _FALLING:
        end = _FALLING[person.style]
        half = [(0, -1.6 - v), (0.75, -1.4 - v), (1.12 + v, -0.6), (1.16 + v, 0.4)]
        half += [(1.1 + v, end - 0.35), (0.85 + 0.5 * v, end), (0.4, end - 0.1), (0, end - 0.2)]
        shape = smooth(mirrored(half))
        drawing.fill(shape, dark)
        _strands(drawing, person, shape, n=9, top=-0.6, bottom=end, spread=1.2)
    if person.style == "bun":
        drawing.fill(oval(0, -1.85 - v, 0.48, 0.4), shade(person.hair_now, 0.85))
        drawing.soft(
            oval(-0.1, -2.0 - v, 0.2, 0.12), shade(person.hair_now, 1.2), alpha=0.6, blur=0.08
        )


def draw_hair_front(drawing: Drawing, person: Person, rng: np.random.Generator) -> None:
    """Draw the hair over the skull, down to the hairline."""
    shape = _cap(person)
    hair = person.hair_now
    drawing.soft(
        shape + np.array([0, 0.05], np.float32), shade(person.skin, 0.55), alpha=0.5, blur=0.05
    )
    drawing.fill(shape, hair)
    if person.style == "curly":
        _curls(drawing, person, rng)
        return
    with drawing.clipped(shape):
        drawing.soft(oval(-0.3, -1.35, 0.45, 0.2), shade(hair, 1.25), alpha=0.55, blur=0.12)
        for x in np.linspace(-1.1, 1.1, 15):
            root = (0.35 * x - 0.1, -1.75 - person.volume)
            end = (1.25 * x, -0.75 + 0.4 * abs(x))
            bend = (0.9 * x + rng.uniform(-0.04, 0.04), -1.3)
            tone = mix(shade(hair, rng.uniform(0.7, 1.2)), (215, 213, 210), person.grey * 0.5)
            drawing.stroke([root, bend, end], tone, 0.045)


def _cap(person: Person) -> Points:
    """Return the outline of the hair over the forehead: skull above, hairline below."""
    v, line = person.volume, -person.hairline
    tall = -1.62 - v
    side = 1.0 + 0.45 * v
    outer = [
        (-side, -0.35), (-side - 0.02, -0.8), (-0.72, tall + 0.3), (-0.3, tall + 0.05),
        (0, tall),
    ]  # fmt: skip
    outer += [(0.3, tall + 0.05), (0.72, tall + 0.3), (side + 0.02, -0.8), (side, -0.35)]
    temple = 0.8 if person.hairline < 1.18 else 0.72
    low = 0.25 if person.style in ("crop", "side") else -0.05
    right = [(0.97, low), (0.93, -0.3), (temple, line + 0.38), (0.5, line + 0.08)]
    if person.style == "side":
        inner = [*right, (0.15, line - 0.1), (-0.3, line + 0.05), (-0.62, line + 0.28)]
    elif person.style == "bob":
        inner = [*right, (0.2, line + 0.16), (-0.2, line + 0.16), (-0.5, line + 0.1)]
    else:
        dip = 0.1 if person.hairline > 1.18 else -0.02
        inner = [*right, (0.0, line + dip), (-0.5, line + 0.08)]
    left = [(-temple, line + 0.38), (-0.93, -0.3), (-0.97, low)]
    return smooth([*outer, *inner, *left], steps=5)


def _curls(drawing: Drawing, person: Person, rng: np.random.Generator) -> None:
    for turn in np.linspace(np.pi * 1.02, np.pi * 1.98, 13):
        for reach in (0.92, 1.06):
            x = reach * 1.02 * np.cos(turn)
            y = -0.55 + reach * (1.0 + person.volume) * np.sin(turn)
            tone = shade(person.hair_now, rng.uniform(0.8, 1.2))
            drawing.fill(oval(x, y, 0.17, 0.16, n=14), tone)


def _strands(
    drawing: Drawing,
    person: Person,
    shape: Points,
    *,
    n: int,
    top: float,
    bottom: float,
    spread: float,
) -> None:
    with drawing.clipped(shape):
        for i, x in enumerate(np.linspace(-spread, spread, n)):
            tone = shade(person.hair_now, 0.6 + 0.09 * (i * 5 % 7))
            line = [(0.9 * x, top), (1.05 * x, (top + bottom) / 2), (0.95 * x, bottom)]
            drawing.stroke(line, tone, 0.06)

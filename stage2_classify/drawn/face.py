"""The bare head: neck, ears, skin, eyes, brows, nose, mouth, lines and beard.

Units are half face widths; the eyes are at y = -0.25, the nose's tip at 0.4, the mouth at 0.76
and the chin at 1.4. Knows a person and an expression; knows nothing of hair, masks or rooms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cropfirst.stage2_classify.drawn.drawing import (
    Drawing,
    Points,
    mirrored,
    mix,
    oval,
    shade,
    smooth,
    stroke_outline,
)
from cropfirst.stage2_classify.drawn.person import Person

EYE_Y = -0.25
MOUTH_Y = 0.76


@dataclass(frozen=True)
class Expression:
    """The properties of a face that change from photo to photo."""

    turn: float = 0.0
    """Sideways shift of the features as the head turns, in half face widths."""
    smile: float = 0.5
    """Corners of the mouth raised, 0-1."""
    gaze: float = 0.0
    """Sideways shift of the irises, -1 to 1."""
    open: float = 1.0
    """Opening of the eyes, about 0.8-1.1."""
    light: float = 0.5
    """Side that the light comes from, -1 (left) to 1 (right)."""


def head_outline(person: Person) -> Points:
    """Return the outline of skull and jaw, a closed polygon: (N, 2) float32 in face units."""
    jaw, chin = person.jaw, 1.4 * person.chin
    half = [
        (0, -1.62), (0.55, -1.5), (0.9, -1.1), (1.0, -0.5), (0.99, 0.0), (0.94, 0.45),
        (jaw, 0.88), (0.62 * jaw, chin - 0.16), (0.25, chin - 0.01), (0, chin),
    ]  # fmt: skip
    return smooth(mirrored(half))


def draw_body(drawing: Drawing, person: Person) -> None:
    """Draw shoulders, clothes and neck; to be called before `draw_head`."""
    cloth, skin = person.clothes, shade(person.skin, 0.86)
    wide = 0.98 + 1.35 * person.jaw
    neck = 0.28 + 0.4 * person.jaw
    half = [
        (0, 1.75), (neck, 1.8), (0.75 * wide, 2.08), (wide, 2.45), (wide + 0.25, 3.4),
        (wide + 0.3, 7),
    ]  # fmt: skip
    shoulders = mirrored(half)
    drawing.fill(smooth(shoulders), cloth)
    drawing.soft(oval(0, 3.6, 0.9 * wide, 1.5), shade(cloth, 1.1), alpha=0.5, blur=0.3)
    for side in (-1, 1):
        crease = [
            (side * (wide - 0.45), 2.9), (side * (wide - 0.35), 3.6),
            (side * (wide - 0.4), 4.6),
        ]  # fmt: skip
        drawing.stroke(crease, shade(cloth, 0.78), 0.06)
    throat = mirrored(
        [(0, 0.6), (neck, 0.6), (neck, 1.55), (neck + 0.12, 1.85), (0.3, 2.25), (0, 2.3)]
    )
    drawing.fill(smooth(throat), skin)
    drawing.line(smooth(throat)[len(throat) * 2 : -len(throat) * 2], shade(cloth, 0.85), 0.07)
    with drawing.clipped(smooth(throat)):
        drawing.soft(oval(0, 1.2, 0.85, 0.5), shade(skin, 0.62), alpha=0.75, blur=0.12)


def draw_head(drawing: Drawing, person: Person, mood: Expression) -> None:
    """Draw ears, skin and all features of the bare face."""
    skin = person.skin
    for side in (-1, 1):
        _draw_ear(drawing, person, side)
    outline = head_outline(person)
    drawing.fill(outline, skin)
    with drawing.clipped(outline):
        _shade_skin(drawing, person, mood)
        _draw_lines(drawing, person, mood)
        _draw_beard(drawing, person, mood)
        _draw_nose(drawing, person, mood)
        _draw_mouth(drawing, person, mood)
        for side in (-1, 1):
            _draw_eye(drawing, person, mood, side)
            _draw_brow(drawing, person, mood, side)


def draw_glasses(drawing: Drawing, person: Person, mood: Expression) -> None:
    """Draw thin frames over everything except a fringe."""
    frame = (112, 84, 70)
    for side in (-1, 1):
        x = side * (person.eye_gap + 0.01) + mood.turn
        drawing.line(smooth(oval(x, EYE_Y + 0.03, 0.33, 0.25, n=10)), frame, 0.025, closed=True)
        drawing.line([(x + side * 0.33, EYE_Y), (side * 1.02, EYE_Y - 0.03)], frame, 0.025)
    bridge = [(mood.turn - 0.13, EYE_Y), (mood.turn, EYE_Y - 0.05), (mood.turn + 0.13, EYE_Y)]
    drawing.line(smooth(bridge, closed=False), frame, 0.025)


def _draw_ear(drawing: Drawing, person: Person, side: int) -> None:
    skin = shade(person.skin, 0.92)
    drawing.fill(smooth(oval(side * 1.0, 0.1, 0.15, 0.31, n=10)), skin)
    drawing.soft(oval(side * 1.04, 0.08, 0.06, 0.18), shade(skin, 0.7), alpha=0.7, blur=0.03)
    if person.earrings:
        drawing.fill(oval(side * 1.06, 0.46, 0.055, 0.055), (236, 208, 120))
        drawing.fill(oval(side * 1.06, 0.58, 0.045, 0.075), (214, 176, 84))


def _shade_skin(drawing: Drawing, person: Person, mood: Expression) -> None:
    skin, x = person.skin, mood.turn
    dark, light = shade(skin, 0.72), shade(skin, 1.16)
    for side in (-1, 1):
        # the head turns away from the light at its sides
        near = 0.55 - 1.5 * side * mood.turn - 0.4 * side * mood.light
        drawing.soft(oval(side * 1.12, 0.25, 0.3, 1.3), dark, alpha=near, blur=0.17)
        drawing.soft(oval(side * 0.55 + x, 0.34, 0.2, 0.14), light, alpha=0.45, blur=0.12)
        blush = mix(skin, (224, 104, 96), 0.4)
        drawing.soft(oval(side * 0.6 + x, 0.42, 0.2, 0.13), blush, alpha=0.8, blur=0.12)
        # eye sockets
        socket = oval(side * (person.eye_gap - 0.03) + x, EYE_Y, 0.29, 0.25)
        drawing.soft(socket, mix(shade(skin, 0.55), (120, 60, 40), 0.15), alpha=0.75, blur=0.09)
    drawing.soft(oval(x, -0.75, 0.5, 0.2), light, alpha=0.5, blur=0.16)
    drawing.soft(oval(0, 1.4 * person.chin + 0.06, 0.7, 0.12), dark, alpha=0.6, blur=0.08)
    drawing.soft(oval(x, 1.12 * person.chin, 0.14, 0.09), light, alpha=0.4, blur=0.06)
    drawing.soft(oval(0, -1.45, 1.1, 0.28), dark, alpha=0.5, blur=0.12)


def _draw_lines(drawing: Drawing, person: Person, mood: Expression) -> None:
    """Draw wrinkles, bags and spots of age, or freckles."""
    age, x, skin = person.lines, mood.turn, person.skin
    if person.freckles:
        for i in range(14):
            dot = (0.13 * (i % 7) - 0.39 + x, 0.17 + 0.06 * (i // 7) + 0.05 * (i * 7 % 3))
            drawing.fill(oval(*dot, 0.016, 0.016, n=8), shade(skin, 0.8))
    if age < 0.1:
        return
    for k in range(round(3.4 * age)):
        y, half = -0.68 - 0.1 * k, 0.52 - 0.05 * k
        wave = [(x - half, y + 0.03), (x - half / 2, y - 0.025), (x, y + 0.01)]
        _crease(drawing, person, [*wave, (x + half / 2, y - 0.025), (x + half, y + 0.03)], 0.034)
    for side in (-1, 1):
        _draw_eye_lines(drawing, person, side * person.eye_gap + x, side)
        fold = [(side * 0.27 + x, 0.36), (side * 0.42 + x, 0.58), (side * 0.47 + x, 0.82)]
        _crease(drawing, person, fold, 0.06)
        if age > 0.55:
            _crease(drawing, person, [(side * 0.07 + x, -0.52), (side * 0.06 + x, -0.38)], 0.035)
            spot = oval(side * 0.72, -0.66, 0.07, 0.05)
            drawing.soft(spot, shade(skin, 0.7), alpha=0.5, blur=0.02)
            _crease(
                drawing, person, [(side * 0.5, 1.0), (side * 0.6, 1.12), (side * 0.56, 1.22)], 0.035
            )


def _draw_eye_lines(drawing: Drawing, person: Person, x: float, side: int) -> None:
    """Draw crow's feet beside the eye at `x`, and the bag below it."""
    age = person.lines
    for k in range(1 + round(3 * age)):
        slope = 0.12 * (k - 1)
        start, end = x + side * 0.27, x + side * (0.31 + 0.16 * age)
        y = EYE_Y + 0.02 + 0.05 * k
        foot = [(start, y), ((start + end) / 2, y + slope / 2), (end, y + slope)]
        _crease(drawing, person, foot, 0.035)
    sag = EYE_Y + 0.17 + 0.06 * age
    drawing.soft(oval(x, sag, 0.17, 0.06), shade(person.skin, 0.66), alpha=0.6 * age, blur=0.04)
    _crease(
        drawing, person, [(x - 0.18, EYE_Y + 0.1), (x, sag + 0.05), (x + 0.19, EYE_Y + 0.1)], 0.035
    )


def _crease(
    drawing: Drawing, person: Person, points: list[tuple[float, float]], width: float
) -> None:
    """Draw a fold of the skin, deeper in older people; soft, since hard lines look like ink."""
    alpha = min(0.3 + 0.65 * person.lines, 1.0)
    shape = stroke_outline(points, width * (0.7 + 0.5 * person.lines), tip=0.2)
    drawing.soft(shape, shade(person.skin, 0.65), alpha=alpha, blur=0.012)


def _draw_beard(drawing: Drawing, person: Person, mood: Expression) -> None:
    if person.stubble < 0.12 and not person.beard:
        return
    chin = 1.4 * person.chin
    tint = mix(person.hair_now, person.skin, 0.35)
    half = [
        (0, 0.6), (0.3, 0.6), (0.52, 0.75), (0.85, 0.5), (1.1, 0.3), (1.0, 1.0),
        (0.5, chin + 0.2), (0, chin + 0.2),
    ]  # fmt: skip
    full = mirrored(half)
    strength = 0.92 if person.beard else 0.45 * person.stubble
    shape = smooth(full) + np.array([mood.turn * 0.5, 0], np.float32)
    drawing.soft(shape, person.hair_now if person.beard else tint, alpha=strength, blur=0.07)


def _draw_nose(drawing: Drawing, person: Person, mood: Expression) -> None:
    skin, x, size = person.skin, mood.turn * 1.15, person.nose
    dark, light = shade(skin, 0.62), shade(skin, 1.3)
    side = -1 if mood.light > 0 else 1
    wall = [
        (x + side * 0.1, -0.32), (x + side * 0.11, 0.0), (x + side * 0.2 * size, 0.36),
        (x + side * 0.07, 0.3),
    ]  # fmt: skip
    drawing.soft(wall, dark, alpha=0.9, blur=0.035)
    drawing.soft(oval(x - side * 0.15, -0.1, 0.04, 0.28), dark, alpha=0.6, blur=0.04)
    drawing.soft(oval(x, 0.0, 0.05, 0.32), light, alpha=0.6, blur=0.04)
    drawing.soft(oval(x, 0.32, 0.1 * size, 0.08), light, alpha=0.3, blur=0.04)
    drawing.soft(oval(x, 0.47, 0.26 * size, 0.05), dark, alpha=1.0, blur=0.045)
    for s in (-1, 1):
        wing = [
            (x + s * 0.19 * size, 0.26), (x + s * 0.26 * size, 0.36),
            (x + s * 0.19 * size, 0.45),
        ]  # fmt: skip
        drawing.stroke(wing, shade(skin, 0.6), 0.045)
        drawing.fill(oval(x + s * 0.1 * size, 0.435, 0.062 * size, 0.032, n=12), shade(skin, 0.28))
    tip = [(x - 0.08, 0.455), (x, 0.48), (x + 0.08, 0.455)]
    drawing.stroke(tip, shade(skin, 0.5), 0.035)


def _draw_mouth(drawing: Drawing, person: Person, mood: Expression) -> None:
    x, w = mood.turn, person.mouth * (1 + 0.12 * mood.smile)
    y, lift = MOUTH_Y, 0.03 + 0.08 * mood.smile
    lips, skin = person.lips, person.skin
    full = 1.3 - 0.35 * person.lines
    corners = [(x - w, y - lift), (x + w, y - lift)]
    middle = [(x + 0.5 * w, y + 0.012), (x, y + 0.02), (x - 0.5 * w, y + 0.012)]
    top = y - 0.085 * full
    upper = [
        corners[0],
        (x - 0.45 * w, top),
        (x - 0.1, top - 0.025),
        (x, top),
        (x + 0.1, top - 0.025),
    ]
    upper += [(x + 0.45 * w, top), corners[1], *middle]
    lower = [corners[0], *middle[::-1], corners[1], (x + 0.55 * w, y + 0.1 * full)]
    lower += [(x, y + 0.14 * full), (x - 0.55 * w, y + 0.1 * full)]
    drawing.soft(oval(x, y + 0.21, 0.2, 0.04), shade(skin, 0.62), alpha=0.9, blur=0.05)
    drawing.fill(smooth(lower, steps=4), lips)
    drawing.fill(smooth(upper, steps=4), shade(lips, 0.82))
    drawing.soft(oval(x, y + 0.075, 0.14, 0.025), shade(lips, 1.35), alpha=0.6, blur=0.02)
    parting = [corners[0], middle[2], middle[1], middle[0], corners[1]]
    drawing.stroke(parting, shade(lips, 0.3), 0.05 + 0.04 * mood.smile, tip=0.4)
    if mood.smile > 0.35:
        drawing.stroke(parting, (235, 228, 220), 0.055 * mood.smile)
    if person.moustache:
        whiskers = [(x - 0.36, 0.7), (x - 0.16, 0.59), (x, 0.6), (x + 0.16, 0.59), (x + 0.36, 0.7)]
        drawing.stroke(whiskers, person.hair_now, 0.15, tip=0.25)


def _draw_eye(drawing: Drawing, person: Person, mood: Expression, side: int) -> None:
    x, size = side * person.eye_gap + mood.turn, person.eye_size
    droop = 0.035 * person.lines
    w, tall = 0.23 * size, (0.115 * size - droop) * mood.open
    inner, outer = (x - side * w, EYE_Y + 0.03), (x + side * w, EYE_Y + droop)
    lid = [inner, (x - side * 0.4 * w, EYE_Y - 0.8 * tall), (x + side * 0.2 * w, EYE_Y - tall)]
    lid += [(x + side * 0.7 * w, EYE_Y - 0.6 * tall), outer]
    under = [
        outer,
        (x + side * 0.4 * w, EYE_Y + 0.75 * tall),
        (x - side * 0.4 * w, EYE_Y + 0.75 * tall),
        inner,
    ]
    upper_curve, lower_curve = smooth(lid, closed=False), smooth(under, closed=False)
    almond = np.concatenate([upper_curve, lower_curve])
    drawing.fill(almond, (240, 236, 230))
    with drawing.clipped(almond):
        iris = (x + 0.05 * mood.gaze, EYE_Y - 0.01)
        drawing.fill(oval(*iris, 0.115 * size, 0.115 * size), shade(person.iris, 0.6))
        drawing.fill(oval(*iris, 0.09 * size, 0.09 * size), person.iris)
        drawing.fill(oval(*iris, 0.052, 0.052), (18, 14, 14))
        drawing.fill(oval(iris[0] + 0.035, iris[1] - 0.04, 0.026, 0.026, n=10), (255, 255, 255))
        drawing.soft(oval(x, EYE_Y - tall, w, 0.05), (60, 44, 40), alpha=0.5, blur=0.02)
    liner = mix(shade(person.skin, 0.42), (24, 16, 18), person.lashes)
    drawing.stroke(lid, liner, 0.035 + 0.03 * person.lashes, tip=0.35)
    drawing.stroke(under, shade(person.skin, 0.62), 0.02 + 0.012 * person.lashes, tip=0.3)
    crease = [(px, py - 0.07 - 0.01 * person.lines) for px, py in lid[1:]]
    drawing.stroke(crease, shade(person.skin, 0.62), 0.03 + 0.015 * person.lines)
    if person.lashes > 0.35:
        for k, reach in enumerate((0.55, 0.85, 1.05)):
            root = (x + side * reach * w, EYE_Y - tall * (1.0 - 0.42 * k) + 0.01)
            end = (root[0] + side * (0.05 + 0.02 * k) * 1.2, root[1] - 0.075 + 0.012 * k)
            drawing.stroke([root, end], liner, 0.03, tip=0.3)


def _draw_brow(drawing: Drawing, person: Person, mood: Expression, side: int) -> None:
    x, thick = side * person.eye_gap + mood.turn, max(person.brow, 0.05)
    y = EYE_Y - 0.27 + 0.25 * (thick - 0.12)
    # grey brows stay darker than the skin, as their shadow does
    hair = mix(shade(person.hair_now, 0.8), shade(person.skin, 0.45), 0.3)
    points = [
        (x - side * 0.26, y), (x - side * 0.08, y - 0.6 * person.arch),
        (x + side * 0.12, y - 0.9 * person.arch), (x + side * 0.32, y + 0.07),
    ]  # fmt: skip
    drawing.soft(stroke_outline(points, thick, tip=0.3), hair, alpha=0.75, blur=0.025)

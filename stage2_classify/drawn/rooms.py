"""Six drawn rooms to stand in front of: wall, floor line and one piece of furniture each.

Units are photo widths from the upper left corner. Knows nothing of people or labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cropfirst.stage2_classify.drawn.drawing import Colour, Drawing, box, oval, shade, smooth

WALLS: tuple[Colour, ...] = (
    (176, 200, 214), (222, 204, 170), (178, 204, 172), (216, 184, 186), (196, 190, 214),
    (206, 206, 200),
)  # fmt: skip
N_ROOMS = len(WALLS)


def draw_room(drawing: Drawing, room: int, rng: np.random.Generator) -> None:
    """Fill a drawing with a room (0 to N_ROOMS - 1), seen from a slightly random place."""
    width, height = drawing.size
    wall = shade(WALLS[room], rng.uniform(0.93, 1.04))
    shift, zoom = rng.uniform(-0.06, 0.06, 2), rng.uniform(0.95, 1.1)
    drawing.place(origin=(width * shift[0], height * shift[1]), unit=width * zoom)
    drawing.fill(box(-1, -1, 2, 3), wall)
    drawing.soft(oval(rng.uniform(0.2, 0.8), 0.2, 0.5, 0.4), shade(wall, 1.15), alpha=0.5, blur=0.2)
    drawing.fill(box(-1, 1.22, 2, 1.25), shade(wall, 0.7))
    drawing.fill(box(-1, 1.25, 2, 3), shade(wall, 0.55))
    _ROOMS[room](drawing, rng)


def _window(drawing: Drawing, rng: np.random.Generator) -> None:
    drawing.fill(box(0.02, 0.08, 0.4, 0.72), (244, 242, 236))
    drawing.fill(box(0.05, 0.11, 0.37, 0.69), (170, 212, 240))
    drawing.fill(
        smooth([(0.05, 0.69), (0.05, 0.5), (0.15, 0.46), (0.26, 0.53), (0.37, 0.5), (0.37, 0.69)]),
        (128, 176, 116),
    )
    drawing.soft(
        oval(0.2 + rng.uniform(-0.08, 0.08), 0.24, 0.07, 0.03),
        (255, 255, 255),
        alpha=0.9,
        blur=0.02,
    )
    drawing.fill(box(0.2, 0.1, 0.22, 0.7), (244, 242, 236))
    drawing.fill(box(0.04, 0.38, 0.38, 0.4), (244, 242, 236))
    for x in (-0.06, 0.36):
        drawing.fill(
            [(x, 0.04), (x + 0.12, 0.04), (x + 0.1, 0.95), (x + 0.02, 0.95)], (206, 124, 102)
        )
        for fold in (0.04, 0.08):
            drawing.stroke([(x + fold, 0.04), (x + fold, 0.94)], (176, 98, 80), 0.012, tip=0.6)


def _shelf(drawing: Drawing, rng: np.random.Generator) -> None:
    wood: Colour = (134, 92, 58)
    drawing.fill(box(0.62, 0.02, 1.2, 1.25), shade(wood, 0.7))
    for y in (0.02, 0.32, 0.62, 0.92, 1.22):
        drawing.fill(box(0.6, y, 1.2, y + 0.03), wood)
    spines: tuple[Colour, ...] = (
        (168, 58, 54), (52, 88, 128), (222, 186, 96), (76, 116, 82), (226, 220, 208),
    )  # fmt: skip
    for y in (0.32, 0.62, 0.92, 1.22):
        x = 0.64
        while x < 1.1:
            wide, tall = rng.uniform(0.025, 0.05), rng.uniform(0.16, 0.24)
            drawing.fill(box(x, y - tall, x + wide, y), spines[int(rng.integers(len(spines)))])
            x += wide + 0.006


def _plant(drawing: Drawing, rng: np.random.Generator) -> None:
    x = 0.14
    for turn in np.linspace(-1.2, 1.2, 9):
        reach = rng.uniform(0.3, 0.44)
        tip = (x + reach * np.sin(turn) * 0.8, 0.95 - reach * np.cos(turn) * 1.5)
        bend = ((x + tip[0]) / 2 + 0.04 * np.sign(turn), (0.95 + tip[1]) / 2 - 0.04)
        green = shade((74, 130, 74), rng.uniform(0.75, 1.2))
        drawing.stroke([(x, 0.98), bend, tip], green, 0.075)
    drawing.fill(
        [(x - 0.12, 0.95), (x + 0.12, 0.95), (x + 0.09, 1.25), (x - 0.09, 1.25)], (192, 108, 72)
    )
    drawing.fill(box(x - 0.14, 0.92, x + 0.14, 0.98), (208, 124, 86))


def _lamp(drawing: Drawing, rng: np.random.Generator) -> None:
    x = 0.86
    drawing.soft(oval(x, 0.3, 0.24, 0.26), (255, 240, 190), alpha=0.8, blur=0.1)
    drawing.fill(box(x - 0.012, 0.35, x + 0.012, 1.3), (92, 78, 70))
    drawing.fill(
        [(x - 0.08, 0.14), (x + 0.08, 0.14), (x + 0.15, 0.4), (x - 0.15, 0.4)], (250, 226, 160)
    )
    drawing.fill(box(-0.2, 0.85, 0.36, 1.3), (104, 86, 120))
    drawing.fill(smooth(oval(0.05, 0.88, 0.3, 0.12, n=8)), (120, 100, 138))


def _pictures(drawing: Drawing, rng: np.random.Generator) -> None:
    for x, y, w, h in (
        (0.04, 0.1, 0.26, 0.34),
        (0.08, 0.54, 0.2, 0.24),
        (0.72, 0.14, 0.22, 0.28),
        (0.76, 0.54, 0.2, 0.3),
    ):
        drawing.fill(box(x, y, x + w, y + h), (70, 58, 54))
        drawing.fill(box(x + 0.02, y + 0.02, x + w - 0.02, y + h - 0.02), (238, 232, 218))
        tone = shade((206, 128, 96), rng.uniform(0.7, 1.2))
        drawing.fill(oval(x + w / 2, y + h / 2, w * 0.24, h * 0.26), tone)
        drawing.fill(box(x + 0.04, y + h * 0.66, x + w - 0.04, y + h * 0.8), (96, 126, 148))


def _bricks(drawing: Drawing, rng: np.random.Generator) -> None:
    for row in range(-1, 12):
        for col in range(-1, 6):
            x, y = (col + 0.5 * (row % 2)) * 0.22, row * 0.105
            drawing.fill(
                box(x, y, x + 0.208, y + 0.093), shade((172, 112, 92), rng.uniform(0.85, 1.1))
            )
    drawing.fill(box(0.66, 0.16, 1.1, 0.6), (44, 66, 56))
    drawing.line(box(0.66, 0.16, 1.1, 0.6), (150, 112, 74), 0.02, closed=True)
    for k in range(3):
        y = 0.26 + 0.1 * k
        drawing.stroke(
            [(0.72, y), (0.78, y - 0.02), (0.85, y + 0.02), (0.95, y)], (226, 230, 222), 0.012
        )


_ROOMS: tuple[Callable[[Drawing, np.random.Generator], None], ...] = (
    _window,
    _shelf,
    _plant,
    _lamp,
    _pictures,
    _bricks,
)

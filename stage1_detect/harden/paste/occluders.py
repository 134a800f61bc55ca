"""Objects in front of a face, as outlines on the head model: a hand, a scarf, glasses, a cap etc.

Knows outlines and what fills them; `occlude.py` paints them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from cropfirst.stage1_detect.harden.paste.cloth import draw_colour, round_corners
from cropfirst.stage1_detect.harden.paste.head_model import project
from cropfirst.stage1_detect.harden.paste.textures import draw_texture

OccluderKind = Literal["hand", "scarf", "blob", "sunglasses", "cap", "hood"]
"""Kind of an object in front of a face."""
OCCLUDER_KINDS: tuple[OccluderKind, ...] = get_args(OccluderKind)

FilledOutline = tuple[list[np.ndarray], np.ndarray]
"""Closed outlines, each (N, 2 or 3) mm on the head (even-odd where they overlap), and their
filling: an (h, w, 3) float32 texture in [0, 1], or a (3,) colour."""


def _stick(start: np.ndarray, end: np.ndarray, width: float, taper: float = 0.85) -> np.ndarray:
    """Return the outline of a rounded stick: (2,), (2,) mm -> (N, 2)."""
    along = end - start
    turn = float(np.arctan2(along[1], along[0]))
    round_ = np.linspace(-np.pi / 2, np.pi / 2, 7)
    tip = np.stack([np.cos(turn + round_), np.sin(turn + round_)], axis=1) * width * taper
    root = np.stack([np.cos(turn + np.pi + round_), np.sin(turn + np.pi + round_)], axis=1) * width
    return np.concatenate([end + tip, start + root])


def _oval(middle: tuple[float, float], size: tuple[float, float], turn: float = 0.0) -> np.ndarray:
    """Return the outline of an ellipse: (32, 2) mm."""
    around = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    flat = np.stack([size[0] * np.cos(around), size[1] * np.sin(around)], axis=1)
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    oval: np.ndarray = flat @ spin + middle
    return oval


def _skin(photo: np.ndarray, camera: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the colour of the face's cheeks, sometimes another skin colour: (3,) float32 in [0,
    1]."""
    cheeks = project(camera, np.array([[-32.0, 38, 0], [32, 38, 0], [0, 20, 18]]))
    x, y = np.clip(cheeks.astype(int), 0, np.array(photo.shape[1::-1]) - 1).T
    skin = np.median(photo[y, x], axis=0) / 255
    if rng.random() < 0.3 or skin.max() < 0.1:
        skin = np.array([0.85, 0.65, 0.52]) * rng.uniform(0.35, 1.1)
    return np.clip(skin * rng.uniform(0.88, 1.15), 0.03, 1).astype(np.float32)


def _hand(photo: np.ndarray, camera: np.ndarray, rng: np.random.Generator) -> list[FilledOutline]:
    """Draw fingers over the mouth, the palm below or beside it, and an arm."""
    skin = _skin(photo, camera, rng)
    side = float(rng.choice([-1, 1]))
    palm = np.array([side * rng.uniform(15, 75), rng.uniform(105, 140)])
    mouth = np.array([rng.normal(0, 10), rng.uniform(48, 74)])
    ahead = (mouth - palm) / np.linalg.norm(mouth - palm)
    across = np.array([-ahead[1], ahead[0]])
    arm = _stick(palm - 160 * ahead, palm - 20 * ahead, 27, 1.0)
    back = _oval((palm[0], palm[1]), (42, 38), float(np.arctan2(ahead[1], ahead[0])))
    shapes: list[FilledOutline] = [([arm], skin * np.float32(0.94)), ([back], skin)]
    count, spread = int(rng.integers(3, 6)), rng.uniform(0.8, 1.15)
    for number, place in enumerate(np.linspace(-1.5, 1.5, count)):
        root = palm + across * place * 17 + ahead * 18
        reach = rng.uniform(48, 66) * (0.85 if number in (0, count - 1) else 1)
        tip = root + ahead * reach + across * place * 5 * spread
        shapes.append(([_stick(root, tip, 9.8)], skin * np.float32(0.8)))
        tone = skin * np.float32(rng.uniform(0.96, 1.05))
        shapes.append(([_stick(root, tip, 8.4)], tone))
    return shapes


def _scarf(photo: np.ndarray, camera: np.ndarray, rng: np.random.Generator) -> list[FilledOutline]:
    """Draw cloth from the nose or the lip down over the neck."""
    nose, cheek, low = rng.uniform(18, 60), rng.uniform(30, 66), rng.uniform(145, 190)
    x = np.array([-82, -60, -30, 0, 30, 60, 82, 95, 88, 40, 0, -40, -88, -95.0])
    y = np.array([cheek + 6, cheek, (nose + cheek) / 2, nose, (nose + cheek) / 2, cheek, cheek + 6,
                  110, low, low + 8, low + 12, low + 8, low, 110])  # fmt: skip
    y += rng.normal(0, 3, len(y))
    z = np.where(np.abs(x) > 50, -45, np.where(x == 0, 16, 0))
    cloth = draw_texture((96, 96), rng)
    waves = np.sin(np.linspace(0, rng.uniform(9, 30), 96) + rng.uniform(0, 6))[:, None, None]
    bent = 1 + np.float32(rng.uniform(0.04, 0.16)) * waves.astype(np.float32)
    return [([round_corners(np.column_stack([x, y, z]))], cloth * bent)]


def _blob(photo: np.ndarray, camera: np.ndarray, rng: np.random.Generator) -> list[FilledOutline]:
    """Draw a patch with or without corners, of cloth or of a part of the photo."""
    middle = rng.uniform([-50, -20], [50, 105])
    corners = int(rng.integers(4, 10))
    turns = (np.arange(corners) + rng.uniform(-0.4, 0.4, corners)) * (2 * np.pi / corners)
    reach = rng.uniform(18, 50) * rng.uniform(0.6, 1, corners)
    outline = middle + np.stack([np.cos(turns), np.sin(turns)], axis=1) * reach[:, None]
    if rng.random() < 0.5:
        outline = round_corners(outline)
    if rng.random() < 0.5:
        return [([outline], draw_texture((64, 64), rng))]
    size = np.maximum(np.array(photo.shape[:2]) // 3, 1)
    y, x = (
        int(rng.integers(0, full - part + 1))
        for full, part in zip(photo.shape[:2], size, strict=True)
    )
    return [([outline], photo[y : y + size[0], x : x + size[1]].astype(np.float32) / 255)]


def _sunglasses(
    photo: np.ndarray, camera: np.ndarray, rng: np.random.Generator
) -> list[FilledOutline]:
    """Draw two dark glasses, a bridge and the temples."""
    wide, high = rng.uniform(25, 31), rng.uniform(18, 27)
    tone = draw_colour(rng) * np.float32(0.25)
    frame = tone * np.float32(rng.uniform(0.2, 1.5))
    bars = [
        _stick(np.array([-12.0, -4]), np.array([12.0, -4]), 3),
        np.array([[-52.0, -8, 0], [-72, -8, -75], [-72, -2, -75], [-52, -2, 0]]),
        np.array([[52.0, -8, 0], [72, -8, -75], [72, -2, -75], [52, -2, 0]]),
    ]
    shapes: list[FilledOutline] = [([bar], frame) for bar in bars]
    for side in (-1, 1):
        shapes.append(([_oval((side * 33.0, 4.0), (wide + 3, high + 3))], frame))
        shapes.append(([_oval((side * 33.0, 4.0), (wide, high))], tone))
    return shapes


def _cap(photo: np.ndarray, camera: np.ndarray, rng: np.random.Generator) -> list[FilledOutline]:
    """Draw a cap or woollen hat down to the brows."""
    brow = rng.uniform(-38, -22)
    around = np.linspace(np.pi, 2 * np.pi, 16)
    crown = np.stack([78 * np.cos(around), brow - 8 + 88 * np.sin(around)], axis=1)
    crown = np.column_stack([crown, np.full(16, -55)])
    front = np.array([[76, brow, -55], [40, brow + 3, -8], [0, brow + 5, 4], [-40, brow + 3, -8],
                      [-76, brow, -55]])  # fmt: skip
    cloth = draw_texture((64, 96), rng)
    shapes: list[FilledOutline] = [([np.concatenate([crown, front])], cloth)]
    if rng.random() < 0.6:
        visor = np.array([[-58, brow, -10], [-30, brow + 12, 30], [0, brow + 15, 40],
                          [30, brow + 12, 30], [58, brow, -10], [0, brow - 8, 10]])  # fmt: skip
        shapes.append(([visor], cloth.mean(axis=(0, 1)) * np.float32(0.8)))
    return shapes


def _hood(photo: np.ndarray, camera: np.ndarray, rng: np.random.Generator) -> list[FilledOutline]:
    """Draw a hood or veil around the face, open in front."""
    opening = _oval((0, 40), (rng.uniform(58, 68), rng.uniform(84, 100)))
    outside = _oval((0, 45), (rng.uniform(95, 115), rng.uniform(135, 160)))
    return [([outside, opening], draw_texture((96, 96), rng))]


OCCLUDERS: dict[
    OccluderKind, Callable[[np.ndarray, np.ndarray, np.random.Generator], list[FilledOutline]]
] = {
    "hand": _hand,
    "scarf": _scarf,
    "blob": _blob,
    "sunglasses": _sunglasses,
    "cap": _cap,
    "hood": _hood,
}

"""Drawn portraits: one photo of a drawn person, with a pose, a light, a mask and a room.

Gender, age and mask state can be told from the face, gender and age also above a mask. Knows
nothing of folders, files or class codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.drawn.drawing import Drawing, Image, Points
from cropfirst.stage2_classify.drawn.face import (
    Expression,
    draw_body,
    draw_glasses,
    draw_head,
    head_outline,
)
from cropfirst.stage2_classify.drawn.hair import draw_hair_behind, draw_hair_front
from cropfirst.stage2_classify.drawn.masks import MASK_KINDS, draw_mask
from cropfirst.stage2_classify.drawn.person import GENDERS, Person, random_person
from cropfirst.stage2_classify.drawn.rooms import N_ROOMS, draw_room

SHOTS = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")
SIZE = (384, 512)
_WORN = dict(zip(SHOTS, MASK_KINDS, strict=False))


@dataclass(frozen=True)
class Shot:
    """The content of one photo."""

    kind: str
    """One of `SHOTS`: a mask worn (mask1 to mask5), worn wrongly, or none."""
    room: int = 0
    """Number of the room behind the person, 0 to N_ROOMS - 1."""


@dataclass(frozen=True)
class Portrait:
    """A finished photo and the box of its face."""

    image: Image
    """(height, width, 3) uint8 RGB."""
    face_box: tuple[float, float, float, float]
    """xyxy in pixels around the face, from the forehead to the chin."""


def draw_portrait(
    person: Person, shot: Shot, rng: np.random.Generator, size: tuple[int, int] = SIZE
) -> Portrait:
    """Draw one photo; the same state of `rng` gives the same pixels.

    Args:
        person: traits.
        shot: mask and room.
        rng: decides pose, light, expression and noise.
        size: (width, height) in pixels.

    Raises:
        DataError: an unknown kind of shot or room.
    """
    if shot.kind not in SHOTS:
        raise DataError(f"a shot must be one of {', '.join(SHOTS)}; got {shot.kind!r}.")
    if not 0 <= shot.room < N_ROOMS:
        raise DataError(f"a room must be 0 to {N_ROOMS - 1}; got {shot.room}.")
    drawing = Drawing(size, (200, 200, 200))
    draw_room(drawing, shot.room, rng)
    cv2.GaussianBlur(drawing.image, (0, 0), rng.uniform(1.5, 4.0), dst=drawing.image)
    mood = Expression(
        turn=rng.uniform(-0.08, 0.08),
        smile=rng.uniform(0, 1),
        gaze=rng.uniform(-0.6, 0.6),
        open=rng.uniform(0.88, 1.08),
        light=rng.uniform(0.3, 1.0) * rng.choice([-1.0, 1.0]),
    )
    _pose(drawing, rng)
    draw_hair_behind(drawing, person)
    draw_body(drawing, person)
    draw_head(drawing, person, mood)
    _put_on_mask(drawing, person, shot, mood, rng)
    draw_hair_front(drawing, person, rng)
    if person.glasses:
        draw_glasses(drawing, person, mood)
    return Portrait(_photograph(drawing.finish(), rng), _face_box(drawing, person))


def _pose(drawing: Drawing, rng: np.random.Generator) -> None:
    """Move the frame to the head: 29-52 % of the photo's width, near the upper middle."""
    width, height = drawing.size
    unit = width * rng.uniform(0.29, 0.52) / 2
    x = width * (0.5 + rng.uniform(-0.07, 0.07))
    y = max(height * rng.uniform(0.38, 0.46), 2.0 * unit)
    drawing.place(origin=(x, y), unit=unit, angle=rng.uniform(-8, 8))


def _put_on_mask(
    drawing: Drawing, person: Person, shot: Shot, mood: Expression, rng: np.random.Generator
) -> None:
    if shot.kind == "normal":
        return
    if shot.kind == "incorrect_mask":
        kind, slip = str(rng.choice(MASK_KINDS)), str(rng.choice(["nose", "chin"]))
    else:
        kind, slip = _WORN[shot.kind], ""
    draw_mask(drawing, kind, rng, slip=slip, jaw=person.jaw, turn=mood.turn)


def _photograph(image: Image, rng: np.random.Generator) -> Image:
    """Add light of a random colour from a random side, a little blur and noise."""
    h, w = image.shape[:2]
    picture = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.7, 1.3)).astype(np.float32)
    slope = rng.uniform(-0.14, 0.14) * np.linspace(-1, 1, w, dtype=np.float32)
    gain = rng.uniform(0.82, 1.04) * (1 + rng.normal(0, 0.025, 3))
    picture *= (1 + slope)[None, :, None] * gain.astype(np.float32)
    # noise comes in grains of about a pixel and a half, the same for all channels
    grain = rng.standard_normal((h * 2 // 3, w * 2 // 3), np.float32) * rng.uniform(1, 4)
    speckle = cv2.resize(grain, (w, h), interpolation=cv2.INTER_LINEAR)
    return np.clip(picture + speckle[..., None] + 0.5, 0, 255).astype(np.uint8)


def _face_box(drawing: Drawing, person: Person) -> tuple[float, float, float, float]:
    outline: Points = head_outline(person)
    face = drawing.pixels(outline[outline[:, 1] > -1.0])
    (x0, y0), (x1, y1) = face.min(axis=0), face.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


__all__ = [
    "GENDERS",
    "N_ROOMS",
    "SHOTS",
    "SIZE",
    "Person",
    "Portrait",
    "Shot",
    "draw_portrait",
    "random_person",
]

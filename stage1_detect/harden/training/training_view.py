"""One photo made into a lesson: masks put on its bare faces, then seen by another camera.

Knows what is taken for the truth; knows no nets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cropfirst.stage1_detect.harden.config import PasteConfig
from cropfirst.stage1_detect.harden.paste.anchors import How
from cropfirst.stage1_detect.harden.paste.occlude import (
    OCCLUSIONS,
    occlude,
    stray_mask,
    without_face,
)
from cropfirst.stage1_detect.harden.paste.paste import choose, wear
from cropfirst.stage1_detect.harden.paste.scene import Scene, shake
from cropfirst.stage1_detect.harden.paste.templates import Template
from cropfirst.stage1_detect.harden.training.targets import Taught
from cropfirst.stage1_detect.harden.training.truth import KnownFaces

_SMALLEST = 24
"""Pixels of a face's shorter side from which on a mask is put on it."""
_WRONGLY: tuple[How, ...] = ("nose_bare", "chin_only", "mouth_only")
_HOW_OFTEN = (0.6, 0.25, 0.15)


@dataclass(frozen=True)
class Lesson:
    """A changed photo, and what is to be said about it."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    boxes: np.ndarray
    """(N, 4) float32 xyxy: all faces that are known."""
    landmarks: np.ndarray
    """(N, 5, 2) float32; NaN where not known."""
    hidden: np.ndarray
    """(N,) bool: under a mask or behind something, by nature or by paste."""
    pasted: np.ndarray
    """(N,) bool: that was done here; the teacher's word on the pixels counts for nothing."""
    doubtful: np.ndarray
    """(M, 4) float32: nothing is taught about these places."""
    complete: bool
    """Whether all that is no known face is none."""


@dataclass(frozen=True)
class Wardrobe:
    """What may be put on a face."""

    given: Sequence[Template]
    """Of `--templates`; may be empty."""
    drawn: Sequence[Template]

    def pick(self, rng: np.random.Generator, *, drawn: float) -> list[Template]:
        """One of the two lots."""
        lot = self.drawn if not self.given or rng.random() < drawn else self.given
        return list(lot)


def make_lesson(
    photo: np.ndarray,
    taught: Taught,
    wardrobe: Wardrobe,
    config: PasteConfig,
    rng: np.random.Generator,
) -> Lesson:
    """Change a photo and carry its truth along.

    Args:
        photo: (H, W, 3) uint8 RGB; stays as it is.
    """
    boxes, landmarks = taught.boxes, taught.landmarks
    hidden: np.ndarray = np.array(
        [state in {"wear", "incorrect"} for state in taught.states], dtype=bool
    )
    pasted: np.ndarray = np.zeros(len(boxes), dtype=bool)
    doubtful = taught.doubtful
    image = photo
    if len(boxes) and rng.random() < config.without:
        for box in boxes:
            image = without_face(image, box, rng=rng)
        # What is left of a hidden face, a neck or an ear, is no matter to be strict about.
        boxes, landmarks = boxes[:0], landmarks[:0]
        hidden, pasted = hidden[:0], pasted[:0]
    for index, box in enumerate(boxes):
        if not hidden[index] and _may_wear(box, landmarks[index]):
            image, state = _dress(image, box, landmarks[index], wardrobe, config, rng)
            hidden[index] = pasted[index] = state != "normal"
    if rng.random() < config.stray:
        lot = wardrobe.pick(rng, drawn=config.drawn)
        avoid = np.concatenate([boxes, doubtful])
        laid = stray_mask(image, lot[int(rng.integers(len(lot)))], rng=rng, avoid=avoid)
        image = image if laid is None else laid[0]
    places = np.concatenate([boxes, doubtful]).astype(np.float32)
    points = np.full((len(places), 5, 2), np.nan, dtype=np.float32)
    points[: len(boxes)] = landmarks
    seen = scaled(Scene(image, places, points), rng=rng)
    seen = shake(seen.photo, seen.boxes, seen.landmarks, rng=rng)
    n = len(boxes)
    return Lesson(
        seen.photo, seen.boxes[:n], seen.landmarks[:n], hidden, pasted, seen.boxes[n:],
        taught.complete,
    )  # fmt: skip


def scaled(scene: Scene, *, rng: np.random.Generator) -> Scene:
    """The photo smaller, so that faces are met at every size, now and then a little larger; and
    narrower, as faces are that turn away."""
    height, width = scene.photo.shape[:2]
    wanted, narrow = 2 ** rng.uniform(-1.5, 0.3), 2 ** rng.uniform(-0.25, 0.1)
    size = max(24, round(width * wanted * narrow)), max(24, round(height * wanted))
    way = cv2.INTER_AREA if wanted < 1 else cv2.INTER_LINEAR
    factor = np.array(size, dtype=np.float32) / (width, height)
    factor = factor.astype(np.float32)
    return Scene(
        cv2.resize(scene.photo, size, interpolation=way),
        scene.boxes * np.tile(factor, 2),
        scene.landmarks * factor,
    )


def put_on(
    photo: np.ndarray,
    taught: Taught,
    wardrobe: Wardrobe,
    config: PasteConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, KnownFaces]:
    """A photo with its bare faces dressed and nothing else changed, and what each now wears."""
    states = list(taught.states)
    for index, box in enumerate(taught.boxes):
        if states[index] == "normal" and _may_wear(box, taught.landmarks[index]):
            photo, states[index] = _dress(
                photo, box, taught.landmarks[index], wardrobe, config, rng
            )
    return photo, KnownFaces(taught.boxes, tuple(states))


def _may_wear(box: np.ndarray, landmarks: np.ndarray) -> bool:
    return bool(np.isfinite(landmarks).all() and (box[2:] - box[:2]).min() >= _SMALLEST)


def _dress(
    image: np.ndarray,
    box: np.ndarray,
    landmarks: np.ndarray,
    wardrobe: Wardrobe,
    config: PasteConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, str]:
    """The photo with one face covered, or as it was, and its state ("" = hidden otherwise)."""
    draw = rng.random()
    if draw < config.worn + config.incorrect:
        how: How = "worn" if draw < config.worn else _WRONGLY[int(rng.choice(3, p=_HOW_OFTEN))]
        template = choose(wardrobe.pick(rng, drawn=config.drawn), landmarks, rng)
        worn = wear(image, landmarks, template, how=how, rng=rng, box=box)
        if worn is not None:
            return worn, "wear" if how == "worn" else "incorrect"
    elif draw < config.worn + config.incorrect + config.occluded:
        kind = OCCLUSIONS[int(rng.integers(len(OCCLUSIONS)))]
        return occlude(image, box, landmarks, kind=kind, rng=rng), ""
    return image, "normal"

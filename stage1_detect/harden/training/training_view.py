"""Training views of a photo: masks are pasted on its bare faces, then the photo is augmented.

Knows the targets of a photo; knows no nets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cropfirst.stage1_detect.harden.config import PasteConfig
from cropfirst.stage1_detect.harden.paste.augment import AnnotatedPhoto, augment, rescale
from cropfirst.stage1_detect.harden.paste.head_model import WearStyle
from cropfirst.stage1_detect.harden.paste.masks import choose_template, paste_mask
from cropfirst.stage1_detect.harden.paste.non_faces import paste_stray_mask, remove_face
from cropfirst.stage1_detect.harden.paste.occlude import occlude_face
from cropfirst.stage1_detect.harden.paste.occluders import OCCLUDER_KINDS
from cropfirst.stage1_detect.harden.paste.templates import Template
from cropfirst.stage1_detect.harden.training.known_faces import KnownFaces
from cropfirst.stage1_detect.harden.training.targets import FaceTargets

_MIN_SIDE = 24
"""Shorter side in pixels from which on a face gets a mask."""
_WRONG_STYLES: tuple[WearStyle, ...] = ("nose_bare", "chin_only", "mouth_only")
_WRONG_STYLE_SHARES = (0.6, 0.25, 0.15)


@dataclass(frozen=True)
class TrainingView:
    """A changed photo with its targets."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    boxes: np.ndarray
    """(N, 4) float32 xyxy of all known faces."""
    landmarks: np.ndarray
    """(N, 5, 2) float32; NaN if unknown."""
    hidden: np.ndarray
    """(N,) bool: whether something covers the face, in the photo itself or pasted."""
    pasted: np.ndarray
    """(N,) bool: whether it was pasted, so that the teacher's output on the pixels is not used."""
    doubtful: np.ndarray
    """(M, 4) float32 places on which nothing is trained."""
    complete: bool
    """Whether everything that is no known face is no face."""


@dataclass(frozen=True)
class TemplateSet:
    """Mask templates to paste."""

    given: Sequence[Template]
    """The mask templates of `--templates`; may be empty."""
    drawn: Sequence[Template]

    def choose(self, rng: np.random.Generator, *, drawn: float) -> list[Template]:
        """Return the drawn templates with a probability of `drawn`, else the given ones."""
        group = self.drawn if not self.given or rng.random() < drawn else self.given
        return list(group)


def make_training_view(
    image: np.ndarray,
    targets: FaceTargets,
    template_set: TemplateSet,
    config: PasteConfig,
    rng: np.random.Generator,
) -> TrainingView:
    """Cover, remove or keep the faces of a photo, then augment it and move its targets along.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
    """
    boxes, landmarks, doubtful = targets.boxes, targets.landmarks, targets.doubtful
    hidden: np.ndarray = np.array(
        [state in {"wear", "incorrect"} for state in targets.states], dtype=bool
    )
    pasted: np.ndarray = np.zeros(len(boxes), dtype=bool)
    if len(boxes) and rng.random() < config.without:
        for box in boxes:
            image = remove_face(image, box, rng=rng)
        # A neck or an ear may be left of a covered face: nothing is demanded of that.
        boxes, landmarks = boxes[:0], landmarks[:0]
        hidden, pasted = hidden[:0], pasted[:0]
    for index, box in enumerate(boxes):
        if not hidden[index] and _can_wear_mask(box, landmarks[index]):
            image, state = _cover_face(image, box, landmarks[index], template_set, config, rng)
            hidden[index] = pasted[index] = state != "normal"
    places = np.concatenate([boxes, doubtful]).astype(np.float32)
    if rng.random() < config.stray:
        group = template_set.choose(rng, drawn=config.drawn)
        template = group[int(rng.integers(len(group)))]
        with_mask = paste_stray_mask(image, template, rng=rng, avoid=places)
        image = image if with_mask is None else with_mask
    points = np.full((len(places), 5, 2), np.nan, dtype=np.float32)
    points[: len(boxes)] = landmarks
    photo = augment(rescale(AnnotatedPhoto(image, places, points), rng=rng), rng=rng)
    n = len(boxes)
    return TrainingView(
        photo.image, photo.boxes[:n], photo.landmarks[:n], hidden, pasted, photo.boxes[n:],
        targets.complete,
    )  # fmt: skip


def paste_masks(
    image: np.ndarray,
    targets: FaceTargets,
    template_set: TemplateSet,
    config: PasteConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, KnownFaces]:
    """Cover the bare faces of a photo and change nothing else; return the faces' new states too."""
    states = list(targets.states)
    for index, box in enumerate(targets.boxes):
        if states[index] == "normal" and _can_wear_mask(box, targets.landmarks[index]):
            image, states[index] = _cover_face(
                image, box, targets.landmarks[index], template_set, config, rng
            )
    return image, KnownFaces(targets.boxes, tuple(states))


def _can_wear_mask(box: np.ndarray, landmarks: np.ndarray) -> bool:
    return bool(np.isfinite(landmarks).all() and (box[2:] - box[:2]).min() >= _MIN_SIDE)


def _cover_face(
    image: np.ndarray,
    box: np.ndarray,
    landmarks: np.ndarray,
    template_set: TemplateSet,
    config: PasteConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, str]:
    """Paste a mask or another object on a face, or leave it bare; return its state too ("" if
    something else than a mask covers it)."""
    draw = rng.random()
    if draw < config.worn + config.incorrect:
        style: WearStyle = "worn"
        if draw >= config.worn:
            style = _WRONG_STYLES[int(rng.choice(3, p=_WRONG_STYLE_SHARES))]
        group = template_set.choose(rng, drawn=config.drawn)
        template = choose_template(group, landmarks, rng)
        masked = paste_mask(image, landmarks, template, style=style, rng=rng, box=box)
        if masked is not None:
            return masked, "wear" if style == "worn" else "incorrect"
    elif draw < config.worn + config.incorrect + config.occluded:
        kind = OCCLUDER_KINDS[int(rng.integers(len(OCCLUDER_KINDS)))]
        return occlude_face(image, box, landmarks, kind=kind, rng=rng), ""
    return image, "normal"

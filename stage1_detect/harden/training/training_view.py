"""Training views of a photo: masks are pasted on its bare faces, then the photo is augmented.

Knows the targets of a photo; knows no nets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cropfirst.stage1_detect.harden.config import PasteConfig
from cropfirst.stage1_detect.harden.paste.augment import AnnotatedPhoto, augment, rescale
from cropfirst.stage1_detect.harden.paste.cover import TemplateSet, can_wear_mask, cover_face
from cropfirst.stage1_detect.harden.paste.non_faces import paste_stray_mask, remove_face
from cropfirst.stage1_detect.harden.training.known_faces import KnownFaces
from cropfirst.stage1_detect.harden.training.targets import FaceTargets


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
        if not hidden[index] and can_wear_mask(box, landmarks[index]):
            image, state = cover_face(image, box, landmarks[index], template_set, config, rng)
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
        if states[index] == "normal" and can_wear_mask(box, targets.landmarks[index]):
            image, states[index] = cover_face(
                image, box, targets.landmarks[index], template_set, config, rng
            )
    return image, KnownFaces(targets.boxes, tuple(states))

"""Covers a bare face with a mask or another object, in shares that the config sets.

Knows one face and the mask templates; knows no files, targets or nets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cropfirst.stage1_detect.harden.config import PasteConfig
from cropfirst.stage1_detect.harden.paste.head_model import WearStyle
from cropfirst.stage1_detect.harden.paste.masks import choose_template, paste_mask
from cropfirst.stage1_detect.harden.paste.occlude import occlude_face
from cropfirst.stage1_detect.harden.paste.occluders import OCCLUDER_KINDS
from cropfirst.stage1_detect.harden.paste.templates import Template

_MIN_SIDE = 24
"""Shorter side in pixels from which on a face gets a mask."""
_WRONG_STYLE_SHARES: dict[WearStyle, float] = {
    "nose_tip": 0.24,
    "nose_bare": 0.14,
    "chin_only": 0.1,
    "chin_strap": 0.1,
    "mouth_only": 0.08,
    "sagging": 0.14,
    "one_ear": 0.1,
    "see_through": 0.1,
}


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


def can_wear_mask(box: np.ndarray, landmarks: np.ndarray) -> bool:
    """Return whether a face with a (4,) box and (5, 2) landmarks is known and large enough."""
    return bool(np.isfinite(landmarks).all() and (box[2:] - box[:2]).min() >= _MIN_SIDE)


def cover_face(
    image: np.ndarray,
    box: np.ndarray,
    landmarks: np.ndarray,
    template_set: TemplateSet,
    config: PasteConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, str]:
    """Paste a mask or another object on a face, or leave it bare.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        box: (4,) xyxy of the face.
        landmarks: (5, 2) as MTCNN's.

    Returns:
        (H, W, 3) uint8, and the state of the face: `wear`, `incorrect`, `normal`, or "" if
        something else than a mask covers it.
    """
    draw = rng.random()
    if draw < config.worn + config.incorrect:
        style: WearStyle = "worn"
        if draw >= config.worn:
            shares = list(_WRONG_STYLE_SHARES.values())
            style = list(_WRONG_STYLE_SHARES)[int(rng.choice(len(shares), p=shares))]
        group = template_set.choose(rng, drawn=config.drawn)
        template = choose_template(group, landmarks, rng)
        masked = paste_mask(image, landmarks, template, style=style, rng=rng, box=box)
        if masked is not None:
            return masked, "wear" if style == "worn" else "incorrect"
    elif draw < config.worn + config.incorrect + config.occluded:
        kind = OCCLUDER_KINDS[int(rng.integers(len(OCCLUDER_KINDS)))]
        return occlude_face(image, box, landmarks, kind=kind, rng=rng), ""
    return image, "normal"

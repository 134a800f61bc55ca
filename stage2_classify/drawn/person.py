"""The lasting traits of a drawn person, chosen at random around what gender and age suggest.

The cues overlap on purpose: men with thin brows, smooth sixty-year-olds and women without make-up
occur, so that a model must weigh several of them. Knows nothing of drawing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.drawn.drawing import Colour, mix, shade

GENDERS = ("male", "female")

_SKINS: tuple[Colour, ...] = (
    (230, 192, 166), (222, 178, 148), (212, 164, 130), (198, 146, 110), (180, 126, 94),
    (154, 104, 76),
)  # fmt: skip
_HAIRS: tuple[Colour, ...] = (
    (34, 28, 28), (58, 40, 30), (92, 62, 40), (134, 94, 56), (120, 54, 34),
)  # fmt: skip
_IRISES: tuple[Colour, ...] = ((70, 44, 28), (96, 66, 38), (74, 96, 70), (78, 108, 140))
_CLOTHES: tuple[Colour, ...] = (
    (62, 84, 120), (150, 60, 62), (84, 120, 96), (226, 222, 214), (70, 70, 78), (204, 160, 84),
    (126, 100, 146), (176, 198, 214),
)  # fmt: skip
_GREY: Colour = (172, 170, 168)
_STYLES = {
    "male": (("crop", 0.35), ("side", 0.35), ("curly", 0.2), ("long", 0.1)),
    "female": (("long", 0.45), ("bob", 0.25), ("bun", 0.15), ("side", 0.1), ("curly", 0.05)),
}


@dataclass(frozen=True)
class Person:
    """Traits of a drawn person, which are the same on all photos."""

    name: str
    """Identifier, such as "000017"."""
    gender: str
    """male or female."""
    age: int
    """Years as labelled; 60 stands for 60 and over."""
    skin: Colour
    hair: Colour
    """Colour of the hair before greying."""
    iris: Colour
    lips: Colour
    clothes: Colour
    style: str
    """Hair style: crop, side, curly, long, bob or bun."""
    volume: float
    """Thickness of the hair, in half face widths."""
    hairline: float
    """Height of the hairline above the point between the eyes, in half face widths."""
    jaw: float
    """Width of the jaw against the cheekbones, about 0.75-0.95."""
    chin: float
    """Length of the lower face, about 1."""
    brow: float
    """Thickness of the brows, in half face widths."""
    arch: float
    """Height by which the brows rise in the middle, in half face widths."""
    lashes: float
    """Strength of lashes and eye-liner, 0-1."""
    stubble: float
    """Strength of the shadow of a beard, 0-1."""
    moustache: bool
    beard: bool
    eye_size: float
    eye_gap: float
    """Distance of an eye from the middle, in half face widths."""
    nose: float
    mouth: float
    lines: float
    """Strength of wrinkles, bags and spots, 0-1."""
    grey: float
    """Share of grey in hair and brows, 0-1."""
    earrings: bool
    glasses: bool
    freckles: bool

    @property
    def hair_now(self) -> Colour:
        """Colour of the hair after greying."""
        return mix(self.hair, _GREY, self.grey)


def random_person(rng: np.random.Generator, *, name: str, gender: str, age: int) -> Person:
    """Return a random person whose looks suit, but do not give away, gender and age.

    Args:
        rng: decides all traits.
        name: identifier, such as "000017".
        gender: one of `GENDERS`.
        age: years.

    Raises:
        DataError: the gender is unknown.
    """
    if gender not in GENDERS:
        raise DataError(f"gender must be one of {', '.join(GENDERS)}; got {gender!r}.")
    man = gender == "male"
    # from feminine (0) to masculine (1)
    look = float(np.clip((0.84 if man else 0.16) + rng.normal(0, 0.15), 0, 1))
    seen = _seen_age(rng, age)
    skin = shade(_pick(rng, _SKINS), rng.uniform(0.95, 1.04))
    bold = rng.uniform(0.35, 1.0) * (1 - look)
    lines = float(np.interp(seen, (22, 29, 34, 60, 78), (0.0, 0.06, 0.28, 0.68, 1.0)))
    grey = float(np.interp(seen, (38, 50, 60, 72), (0.0, 0.12, 0.55, 0.95)))
    styles, odds = zip(*_STYLES[gender], strict=True)
    bald = man and seen > 34 and rng.random() < 0.45
    return Person(
        name=name,
        gender=gender,
        age=age,
        skin=skin,
        hair=shade(_pick(rng, _HAIRS), rng.uniform(0.85, 1.1)),
        iris=_pick(rng, _IRISES),
        lips=mix(mix(skin, (176, 92, 84), 0.4), (190, 48, 62), bold),
        clothes=shade(_pick(rng, _CLOTHES), rng.uniform(0.8, 1.15)),
        style=str(rng.choice(styles, p=odds)),
        volume=rng.uniform(0.1, 0.24),
        hairline=rng.uniform(1.0, 1.16) + (rng.uniform(0.1, 0.28) if bald else 0),
        jaw=0.76 + 0.15 * look + rng.normal(0, 0.025),
        chin=0.96 + 0.07 * look + rng.normal(0, 0.025),
        brow=0.085 + 0.11 * look + rng.normal(0, 0.014),
        arch=0.15 - 0.11 * look + rng.normal(0, 0.02),
        lashes=float(np.clip(0.95 - 1.0 * look + rng.normal(0, 0.15), 0, 1)),
        stubble=float(np.clip(rng.normal(0.5, 0.3), 0, 1)) if man else 0.0,
        moustache=bool(man and rng.random() < 0.2),
        beard=bool(man and rng.random() < 0.18),
        eye_size=1.06 - 0.12 * look + rng.normal(0, 0.035),
        eye_gap=0.45 + rng.normal(0, 0.015),
        nose=0.92 + 0.16 * look + rng.normal(0, 0.06),
        mouth=0.36 + rng.normal(0, 0.02),
        lines=float(np.clip(lines * rng.uniform(0.85, 1.15), 0, 1)),
        grey=float(np.clip(grey + rng.normal(0, 0.1), 0, 1)) if seen > 40 else 0.0,
        earrings=bool(rng.random() < (0.05 if man else 0.6)),
        glasses=bool(rng.random() < 0.08),
        freckles=bool(seen < 40 and rng.random() < 0.15),
    )


def _seen_age(rng: np.random.Generator, age: int) -> float:
    """Return the age that the person looks like; a label of 60 covers everybody from 60 up."""
    years = rng.uniform(60, 80) if age >= 60 else float(age)
    return years + float(rng.normal(0, 1.5))


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]

"""Transforms of albumentations: those of `randaugment` and `strong`, and the user's own.

They change one crop at a time on the CPU, seeded by the caller. Knows names and strengths; knows
nothing of batches.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cropfirst.core.errors import TrainError

Image = NDArray[np.uint8]


class AlbumentationsList:
    """A sequence of transforms."""

    def __init__(self, transforms: Sequence[Any]) -> None:
        self._compose = _albumentations().Compose(list(transforms))

    def __call__(self, image: Image, *, seed: tuple[int, ...]) -> Image:
        """Return an augmented copy of an (H, W, 3) uint8 RGB crop.

        Raises:
            TrainError: the result has another shape or type.
        """
        generator = np.random.default_rng(seed)
        # One stream for all transforms: with albumentations' own seeding, each would have the same
        # one, and all would be applied to the same crops.
        self._compose.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        out: Image = self._compose(image=image)["image"]
        if out.shape != image.shape or out.dtype != np.uint8:
            raise TrainError(
                f"data.transforms made {out.shape} {out.dtype} of a {image.shape} uint8 crop: they "
                "must keep shape and type (the model resizes and normalises itself)"
            )
        return out


def build_transforms(
    name: str, *, ops: int, magnitude: float, transforms: Sequence[Mapping[str, Any]]
) -> AlbumentationsList | None:
    """Build a policy's transforms besides mirror, move and light; None if it has none.

    Args:
        name: the policy.
        ops, magnitude: number and strength (of 30) of randaugment's changes per crop.
        transforms: the user's own, each with its `name` and arguments, applied last.

    Raises:
        TrainError: albumentations has no such transform, or refuses its arguments.
    """
    found: list[Any] = []
    if name == "randaugment":
        found = [_randaugment(ops, magnitude / 30)]
    elif name == "strong":
        found = _strong()
    own = [build_transform(each) for each in transforms] if name != "none" else []
    return AlbumentationsList(found + own) if found or own else None


def build_transform(about: Mapping[str, Any]) -> Any:
    """Build one transform from a mapping such as `{name: CLAHE, p: 0.3}`.

    Raises:
        TrainError: albumentations has no such transform, or refuses its arguments.
    """
    library = _albumentations()
    options = {key: tuple(v) if isinstance(v, list) else v for key, v in about.items()}
    name = options.pop("name", None)
    kind = getattr(library, name, None) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, library.ImageOnlyTransform | _dual())):
        raise TrainError(
            f"data.transforms expects names of albumentations' image transforms, such as "
            f"{{name: CLAHE, p: 0.3}}, got {dict(about)}"
        )
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an argument that it does not know is only a warning
            return kind(**options)
    except Exception as error:
        text = " ".join(str(error).split())
        raise TrainError(f"albumentations refuses {dict(about)}: {text}") from error


def _dual() -> Any:
    return _albumentations().DualTransform


def _strong() -> list[Any]:
    """Return changes of colour, tone, noise, blur and compression, as cheap cameras make them."""
    A = _albumentations()  # noqa: N806
    return [
        A.HueSaturationValue(8, 20, 15, p=0.4),
        A.OneOf([A.CLAHE(clip_limit=(1, 3)), A.RandomGamma((70, 140)), A.Equalize()], p=0.3),
        A.OneOf([A.GaussNoise(std_range=(0.02, 0.1)), A.ISONoise()], p=0.3),
        A.OneOf([A.GaussianBlur(), A.MotionBlur(), A.Downscale(scale_range=(0.4, 0.8))], p=0.3),
        A.ImageCompression(quality_range=(40, 90), p=0.2),
        A.ToGray(p=0.05),
    ]


def _randaugment(ops: int, strength: float) -> Any:
    """Return RandAugment (Cubuk et al., CVPR-W 2020): `ops` of its operations, at one strength.

    Those of torchvision and timm draw from global random states; albumentations has no such
    transform.
    """
    A = _albumentations()  # noqa: N806
    import cv2

    def both(most: float) -> tuple[float, float]:
        return (-most * strength, most * strength)

    def affine(**move: Any) -> Any:
        return A.Affine(**move, border_mode=cv2.BORDER_REFLECT_101, p=1)

    def colour(**parts: float) -> Any:
        none = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0)}
        ranges = {key: (1 - most * strength, 1 + most * strength) for key, most in parts.items()}
        return A.ColorJitter(**{**none, **ranges}, p=1)

    return A.SomeOf(
        [
            A.NoOp(),
            A.AutoContrast(p=1),
            A.Equalize(p=1),
            affine(rotate=both(30)),
            affine(shear={"x": both(17), "y": (0, 0)}),
            affine(shear={"x": (0, 0), "y": both(17)}),
            affine(translate_percent={"x": both(0.45), "y": (0, 0)}),
            affine(translate_percent={"x": (0, 0), "y": both(0.45)}),
            A.Posterize(num_bits=min(max(8 - round(4 * strength), 1), 7), p=1),
            A.Solarize(threshold_range=(1 - strength, 1), p=1),
            colour(brightness=0.9),
            colour(contrast=0.9),
            colour(saturation=0.9),
            A.Sharpen(alpha=(0, 0.9 * strength), lightness=(1, 1), p=1),
        ],
        n=ops,
        replace=True,
        p=1,
    )


def _albumentations() -> Any:
    # It asks the network for newer versions at import unless told not to.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations

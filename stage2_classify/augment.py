"""Augmentation of one crop, seeded by the caller.

The same seed gives the same pixels whatever process or order asks: results do not depend on the
number of workers, and a resumed run sees what an undisturbed one would have seen.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


class Augment:
    """One of `AUGMENTS`, built on first use in each process (albumentations is slow to import)."""

    def __init__(self, name: str) -> None:
        if name not in AUGMENTS:
            raise ValueError(f"no augmentation {name!r}: pick one of {', '.join(AUGMENTS)}")
        self.name = name
        self._compose: Any = None

    def __call__(self, image: Image, *, seed: tuple[int, ...]) -> Image:
        """Augment an (H, W, 3) uint8 RGB crop; same shape and type out, the input untouched."""
        if self.name == "none":
            return image
        if self._compose is None:
            self._compose = AUGMENTS[self.name]()
        generator = np.random.default_rng(seed)
        # One stream for all transforms: albumentations' own seeding would give each the same one,
        # so that they all fire together.
        self._compose.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        out: Image = self._compose(image=image)["image"]
        return out

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "_compose": None}


def _basic() -> Any:
    """Mirror, small shift/zoom/turn, light and contrast: what a face survives.

    No colour shifts: the colours of skin and mask are evidence.
    """
    # Albumentations asks the network for newer versions at import unless told not to.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A
    import cv2

    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(
                scale=(0.9, 1.1),
                translate_percent=(-0.06, 0.06),
                rotate=(-12, 12),
                border_mode=cv2.BORDER_REFLECT_101,
                p=0.7,
            ),
            A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
        ]
    )


def _none() -> None:
    return None


AUGMENTS: dict[str, Callable[[], Any]] = {"basic": _basic, "none": _none}

"""Photos with their backgrounds changed: the seven variants that the audit shows to a model.

After Xiao, Engstrom, Ilyas and Madry, "Noise or signal: the role of image backgrounds in object
recognition", ICLR 2021; the head is the foreground here. Knows pixels, masks and class numbers;
knows nothing of crops or models. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.core.compositing import BLANK, Box, compose, foreground_box, tile_over

Image = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.integer]

MIXED = ("mixed_same", "mixed_rand", "mixed_next")
VARIANTS = ("original", "only_bg_b", "only_bg_t", "only_fg", *MIXED)
LABELS = {
    "original": "Original",
    "only_bg_b": "Only-BG-B",
    "only_bg_t": "Only-BG-T",
    "only_fg": "Only-FG",
    "mixed_same": "Mixed-Same",
    "mixed_rand": "Mixed-Rand",
    "mixed_next": "Mixed-Next",
}
"""Variant -> its name in the paper. They are the photo; the head's box blank, or tiled over; the
head alone; and the head before the background of another person of the same, a random or the next
class."""


@dataclass(frozen=True)
class SplitPhoto:
    """A photo split into its foreground, the head, and its background."""

    photo: Image
    """(H, W, 3) uint8 RGB."""
    mask: Image
    """(H, W) uint8, 0 where background to 255 where head."""
    background: Image
    """(H, W, 3) uint8 RGB: the photo with its head tiled over."""
    box: Box
    """Box of the head, a little wider than the mask."""


def split_foreground(photo: Image, mask: Image, face: Sequence[float]) -> SplitPhoto:
    """Split a photo into head and background.

    Args:
        photo: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, 255 where head.
        face: xyxy of the face, which belongs to the head whatever the mask says.
    """
    box = foreground_box(mask, face)
    return SplitPhoto(photo, mask, tile_over(photo, box)[0], box)


def plain_variants(split: SplitPhoto) -> dict[str, Image]:
    """Return the variants that need no other photo, (H, W, 3) uint8 RGB each."""
    x0, y0, x1, y1 = split.box
    blanked = split.photo.copy()
    blanked[y0:y1, x0:x1] = BLANK
    nothing = np.full_like(split.photo, BLANK)
    return {
        "original": split.photo,
        "only_bg_b": blanked,
        "only_bg_t": split.background,
        "only_fg": compose(split.photo, split.mask, nothing),
    }


def pick_donors(
    targets: Ints,
    people: Ints,
    clean: npt.NDArray[np.bool_],
    *,
    n_classes: int,
    seed: int = 0,
) -> dict[str, npt.NDArray[np.int64]]:
    """Choose the photo that gives each photo its background, always one of another person.

    Args:
        targets: (N,) class numbers.
        people: (N,) numbers of persons.
        clean: (N,) True where the background has no trace of the head; other photos are donors only
            where no clean one has the class.
        n_classes: number of classes.
        seed: of the random choice.

    Returns:
        Variant -> (N,) row numbers of the donors; -1 where nobody else has the class.
    """
    rng = np.random.default_rng([seed, n_classes])
    rows = [np.flatnonzero(targets == code) for code in range(n_classes)]
    donors: dict[str, npt.NDArray[np.int64]] = {
        name: np.full(len(targets), -1, np.int64) for name in MIXED
    }
    for row, code in enumerate(targets.tolist()):
        classes = (code, int(rng.integers(n_classes)), (code + 1) % n_classes)
        for name, wanted in zip(MIXED, classes, strict=True):
            others = rows[wanted][people[rows[wanted]] != people[row]]
            if clean[others].any():
                others = others[clean[others]]
            if len(others):
                donors[name][row] = rng.choice(others)
    return donors

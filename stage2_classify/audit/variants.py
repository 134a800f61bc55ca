"""Photos with their backgrounds changed: the seven variants that the audit shows to a model.

After Xiao, Engstrom, Ilyas and Madry, "Noise or signal: the role of image backgrounds in object
recognition", ICLR 2021; the head is the foreground here. Knows pixels, masks and class numbers;
knows nothing of crops or models. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

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
BLANK = 127
"""Grey of what is blanked."""
MARGIN = 0.06
"""Share of its longer side by which the head's box is widened, so that no soft edge is left."""
LEAST_STRIP = 0.06
"""Share of the photo's width from which a strip of background is wide enough to be tiled."""


@dataclass(frozen=True)
class SplitPhoto:
    """A photo split into its foreground, the head, and its background."""

    photo: Image
    """(H, W, 3) uint8 RGB."""
    mask: Image
    """(H, W) uint8, 0 where background to 255 where head."""
    background: Image
    """(H, W, 3) uint8 RGB: the photo with its head tiled over."""
    box: tuple[int, int, int, int]
    """xyxy of the head in pixels, widened by `MARGIN`."""


def split_foreground(photo: Image, mask: Image, face: Sequence[float]) -> SplitPhoto:
    """Split a photo into head and background.

    Args:
        photo: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, 255 where head.
        face: xyxy of the face, which belongs to the head whatever the mask says.
    """
    box = _head_box(mask, face)
    return SplitPhoto(photo, mask, _tile_over(photo, box), box)


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
        "only_fg": compose(split, nothing),
    }


def compose(split: SplitPhoto, background: Image) -> Image:
    """Return the head before another background, (H, W, 3) uint8 RGB.

    Args:
        background: (h, w, 3) uint8 RGB of any size; scaled and cut to cover the photo.
    """
    height, width = split.photo.shape[:2]
    weight = split.mask[..., None].astype(np.uint16)
    behind = _cover(background, height=height, width=width).astype(np.uint16)
    mixed = (split.photo * weight + behind * (255 - weight) + 127) // 255
    return mixed.astype(np.uint8)


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


def _head_box(mask: Image, face: Sequence[float]) -> tuple[int, int, int, int]:
    height, width = mask.shape
    x, y, w, h = cv2.boundingRect((mask > 0).astype(np.uint8))
    edges = [face[0], face[1], face[2], face[3]]
    if w and h:
        edges = [min(edges[0], x), min(edges[1], y), max(edges[2], x + w), max(edges[3], y + h)]
    more = MARGIN * max(edges[2] - edges[0], edges[3] - edges[1])
    x0, y0 = (int(max(0, edge - more)) for edge in edges[:2])
    x1, y1 = min(width, int(edges[2] + more)), min(height, int(edges[3] + more))
    return x0, y0, max(x1, x0), max(y1, y0)


def _tile_over(photo: Image, box: tuple[int, int, int, int]) -> Image:
    """Fill a box with what is beside it in the same rows, mirrored again and again.

    Floors and walls then go on behind the head. Where nothing is beside the box, what is above it
    is used, else the mean colour of the rest.
    """
    x0, y0, x1, y1 = box
    width = photo.shape[1]
    filled = photo.copy()
    if x1 <= x0 or y1 <= y0:
        return filled
    left, right = x0, width - x1
    if max(left, right) >= LEAST_STRIP * width:
        rows = photo[y0:y1]
        if left >= right:
            strip = rows[:, :x0][:, ::-1]
        else:
            strip = rows[:, x1:]
        tiled = _mirror(strip, x1 - x0, axis=1)
        filled[y0:y1, x0:x1] = tiled if left >= right else tiled[:, ::-1]
    elif y0 >= LEAST_STRIP * width:
        filled[y0:y1, x0:x1] = _mirror(photo[:y0, x0:x1][::-1], y1 - y0, axis=0)
    else:
        rest = np.ones(photo.shape[:2], bool)
        rest[y0:y1, x0:x1] = False
        filled[y0:y1, x0:x1] = photo[rest].mean(0) if rest.any() else BLANK
    return filled


def _mirror(strip: Image, length: int, *, axis: int) -> Image:
    """Return a strip, its mirror image, the strip again and so on, up to a length in pixels."""
    both = np.concatenate([strip, np.flip(strip, axis)], axis)
    count = -(-length // both.shape[axis])
    reps = (1, count, 1) if axis == 1 else (count, 1, 1)
    tiled = np.tile(both, reps)
    return tiled[:, :length] if axis == 1 else tiled[:length]


def _cover(image: Image, *, height: int, width: int) -> Image:
    """Scale an image until it covers a size, and cut its middle out."""
    if image.shape[:2] == (height, width):
        return image
    scale = max(height / image.shape[0], width / image.shape[1])
    size = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    large = cv2.resize(image, size, interpolation=method)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    return np.asarray(large[top : top + height, left : left + width], np.uint8)

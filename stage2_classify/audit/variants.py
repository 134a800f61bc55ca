"""Photos with their backgrounds changed: the seven variants of the background audit.

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
MEANING = {
    "original": "Original",
    "only_bg_b": "Only-BG-B: the head's box is blank",
    "only_bg_t": "Only-BG-T: the head's box is tiled over with room",
    "only_fg": "Only-FG: the head alone",
    "mixed_same": "Mixed-Same: in the room of another person of the class",
    "mixed_rand": "Mixed-Rand: in the room of a random class",
    "mixed_next": "Mixed-Next: in the room of the next class",
}
BLANK = 127
MARGIN = 0.06
"""By which the head's box is widened, in its longer sides, so that no soft edge stays behind."""
LEAST_STRIP = 0.06
"""Width of a strip of room that is worth tiling, in widths of the photo."""


@dataclass(frozen=True)
class Scene:
    """A photo taken apart."""

    photo: Image
    """(H, W, 3) RGB."""
    head: Image
    """(H, W), 0 room to 255 head."""
    room: Image
    """(H, W, 3): the photo with its head tiled over."""
    box: tuple[int, int, int, int]
    """xyxy of the head, widened."""


def take_apart(photo: Image, head: Image, face: Sequence[float]) -> Scene:
    """Part a photo into head and room.

    Args:
        head: (H, W) uint8, 255 where head.
        face: xyxy of the face, which belongs to the head whatever the mask says.
    """
    box = _head_box(head, face)
    return Scene(photo, head, _tile_over(photo, box), box)


def plain_variants(scene: Scene) -> dict[str, Image]:
    """The variants that need no other photo, (H, W, 3) each."""
    x0, y0, x1, y1 = scene.box
    blanked = scene.photo.copy()
    blanked[y0:y1, x0:x1] = BLANK
    nothing = np.full_like(scene.photo, BLANK)
    return {
        "original": scene.photo,
        "only_bg_b": blanked,
        "only_bg_t": scene.room,
        "only_fg": compose(scene, nothing),
    }


def compose(scene: Scene, room: Image) -> Image:
    """The head of a scene in another room, (H, W, 3); the room is scaled to cover the photo."""
    height, width = scene.photo.shape[:2]
    weight = scene.head[..., None].astype(np.uint16)
    behind = _cover(room, height=height, width=width).astype(np.uint16)
    mixed = (scene.photo * weight + behind * (255 - weight) + 127) // 255
    return mixed.astype(np.uint8)


def pick_donors(
    targets: Ints,
    people: Ints,
    clean: npt.NDArray[np.bool_],
    *,
    n_classes: int,
    seed: int = 0,
) -> dict[str, npt.NDArray[np.int64]]:
    """Whose room each photo gets, always another person's.

    Args:
        targets: (N,) class numbers.
        people: (N,) numbers of persons.
        clean: (N,) whose rooms are without a trace of their heads; others lend theirs only where
            no such room is to be had.

    Returns:
        Variant -> (N,) row numbers; -1 where nobody else has the class.
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


def _head_box(head: Image, face: Sequence[float]) -> tuple[int, int, int, int]:
    height, width = head.shape
    x, y, w, h = cv2.boundingRect((head > 0).astype(np.uint8))
    edges = [face[0], face[1], face[2], face[3]]
    if w and h:
        edges = [min(edges[0], x), min(edges[1], y), max(edges[2], x + w), max(edges[3], y + h)]
    more = MARGIN * max(edges[2] - edges[0], edges[3] - edges[1])
    x0, y0 = (int(max(0, edge - more)) for edge in edges[:2])
    x1, y1 = min(width, int(edges[2] + more)), min(height, int(edges[3] + more))
    return x0, y0, max(x1, x0), max(y1, y0)


def _tile_over(photo: Image, box: tuple[int, int, int, int]) -> Image:
    """Fill a box with what is beside it in the same lines, mirrored over and over.

    So floors and walls go on behind the head. Where there is nothing beside it, what is above.
    """
    x0, y0, x1, y1 = box
    width = photo.shape[1]
    room = photo.copy()
    if x1 <= x0 or y1 <= y0:
        return room
    left, right = x0, width - x1
    if max(left, right) >= LEAST_STRIP * width:
        lines = photo[y0:y1]
        if left >= right:
            strip = lines[:, :x0][:, ::-1]
        else:
            strip = lines[:, x1:]
        tiled = _mirror(strip, x1 - x0, axis=1)
        room[y0:y1, x0:x1] = tiled if left >= right else tiled[:, ::-1]
    elif y0 >= LEAST_STRIP * width:
        room[y0:y1, x0:x1] = _mirror(photo[:y0, x0:x1][::-1], y1 - y0, axis=0)
    else:
        rest = np.ones(photo.shape[:2], bool)
        rest[y0:y1, x0:x1] = False
        room[y0:y1, x0:x1] = photo[rest].mean(0) if rest.any() else BLANK
    return room


def _mirror(strip: Image, length: int, *, axis: int) -> Image:
    """A strip, its mirror image, the strip again: as long as is wanted."""
    both = np.concatenate([strip, np.flip(strip, axis)], axis)
    count = -(-length // both.shape[axis])
    reps = (1, count, 1) if axis == 1 else (count, 1, 1)
    tiled = np.tile(both, reps)
    return tiled[:, :length] if axis == 1 else tiled[:length]


def _cover(room: Image, *, height: int, width: int) -> Image:
    if room.shape[:2] == (height, width):
        return room
    scale = max(height / room.shape[0], width / room.shape[1])
    size = (max(width, round(room.shape[1] * scale)), max(height, round(room.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    large = cv2.resize(room, size, interpolation=method)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    return np.asarray(large[top : top + height, left : left + width], np.uint8)

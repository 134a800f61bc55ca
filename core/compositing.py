"""Take the foreground out of a picture, and set it before another background.

Knows pixels, masks and boxes; knows nothing of what they show. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in whole pixels; x1 and y1 are past the end."""

BLANK = 127
"""Grey of a background of which nothing is known."""
MARGIN = 0.06
"""Share of its longer side by which the foreground's box is widened, so that no soft edge is
left."""
LEAST_STRIP = 0.06
"""Share of the picture's width from which a strip of background is wide enough to be tiled."""


def compose(image: Image, mask: Image, background: Image, region: Box | None = None) -> Image:
    """Return the foreground of a picture before another background.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, 255 where foreground.
        background: (h, w, 3) uint8 RGB of any size; scaled and cut to cover the picture.
        region: part of the picture to return, within it; None returns all.

    Returns:
        (H, W, 3) uint8 RGB, or what of it is in `region`.
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = region or (0, 0, width, height)
    mixed = _cover(background, height=height, width=width, region=(x0, y0, x1, y1))
    x, y, w, h = cv2.boundingRect(mask[y0:y1, x0:x1])
    front = image[y0 + y : y0 + y + h, x0 + x : x0 + x + w]
    weight = mask[y0 + y : y0 + y + h, x0 + x : x0 + x + w, None].astype(np.uint16)
    behind = mixed[y : y + h, x : x + w]
    behind[...] = (front * weight + behind * (255 - weight) + 127) // 255
    return mixed


def foreground_box(mask: Image, inside: Sequence[float]) -> Box:
    """Return the box of a foreground, widened by `MARGIN` and clipped to the picture.

    Args:
        mask: (H, W) uint8, 0 where background.
        inside: xyxy of a box that belongs to the foreground whatever the mask says.
    """
    height, width = mask.shape
    x, y, w, h = cv2.boundingRect(mask)
    edges = [inside[0], inside[1], inside[2], inside[3]]
    if w and h:
        edges = [min(edges[0], x), min(edges[1], y), max(edges[2], x + w), max(edges[3], y + h)]
    more = MARGIN * max(edges[2] - edges[0], edges[3] - edges[1])
    x0, y0 = (int(max(0, edge - more)) for edge in edges[:2])
    x1, y1 = min(width, int(edges[2] + more)), min(height, int(edges[3] + more))
    return x0, y0, max(x1, x0), max(y1, y0)


def tile_over(image: Image, box: Box) -> tuple[Image, bool]:
    """Fill a box of a picture with what is beside it in the same rows, mirrored again and again.

    Floors and walls then go on behind the foreground. What is left of the box fades into what is
    right of it, so that neither side has a seam. Where nothing is beside the box, what is above it
    is used, else the mean colour of the rest.

    Args:
        image: (H, W, 3) uint8.
        box: part to fill, within the picture.

    Returns:
        The filled picture, (H, W, 3) uint8, and whether there was something to tile the box with.
    """
    x0, y0, x1, y1 = box
    width = image.shape[1]
    filled = image.copy()
    if x1 <= x0 or y1 <= y0:
        return filled, True
    rows, least = image[y0:y1], LEAST_STRIP * width
    sides = []
    if x0 >= least:
        sides.append(_mirror(rows[:, :x0][:, ::-1], x1 - x0, axis=1))
    if width - x1 >= least:
        sides.append(_mirror(rows[:, x1:], x1 - x0, axis=1)[:, ::-1])
    if len(sides) == 2:
        share = np.linspace(0, 1, x1 - x0, dtype=np.float32)[:, None]
        filled[y0:y1, x0:x1] = np.round(sides[0] * (1 - share) + sides[1] * share)
    elif sides:
        filled[y0:y1, x0:x1] = sides[0]
    elif y0 >= least:
        filled[y0:y1, x0:x1] = _mirror(image[:y0, x0:x1][::-1], y1 - y0, axis=0)
    else:
        rest = np.ones(image.shape[:2], bool)
        rest[y0:y1, x0:x1] = False
        filled[y0:y1, x0:x1] = image[rest].mean(0) if rest.any() else BLANK
        return filled, False
    return filled, True


def _mirror(strip: Image, length: int, *, axis: int) -> Image:
    """Return a strip, its mirror image, the strip again and so on, up to a length in pixels."""
    both = np.concatenate([strip, np.flip(strip, axis)], axis)
    count = -(-length // both.shape[axis])
    reps = (1, count, 1) if axis == 1 else (count, 1, 1)
    tiled = np.tile(both, reps)
    return tiled[:, :length] if axis == 1 else tiled[:length]


def _cover(image: Image, *, height: int, width: int, region: Box) -> Image:
    """Scale an image until it covers a size, cut its middle out, and return a region of that."""
    x0, y0, x1, y1 = region
    if image.shape[:2] == (height, width):
        return image[y0:y1, x0:x1].copy()
    scale = max(height / image.shape[0], width / image.shape[1])
    size = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    left, top = (size[0] - width) // 2 + x0, (size[1] - height) // 2 + y0
    if scale <= 1:
        large = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return np.array(large[top : top + y1 - y0, left : left + x1 - x0], np.uint8)
    # Only the region, where all of a large picture would be enlarged for a small part of it.
    across, down = image.shape[1] / size[0], image.shape[0] / size[1]
    back = np.array(
        [[across, 0, (left + 0.5) * across - 0.5], [0, down, (top + 0.5) * down - 0.5]], np.float64
    )
    part = cv2.warpAffine(
        image, back, (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return np.asarray(part, np.uint8)

"""Segment the head in a photo by OpenCV's GrabCut, seeded with the face's box and landmarks.

Works on one photo and one box; knows nothing of crops or files. GrabCut: Rother, Kolmogorov and
Blake, "GrabCut: interactive foreground extraction using iterated graph cuts", SIGGRAPH 2004.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cropfirst.core.faces.hair import lost_hair

WORK_SIDE = 112
"""Side of the reduced picture that GrabCut works on, in pixels; its time grows with the area."""
ROUNDS = 3
"""Number of GrabCut's iterations."""
REACH = 2.4
"""Side of the searched square, as a multiple of the face box's longer side."""
HEAD = (0.80, 0.85, -0.06)
"""Half width, half height and vertical shift, in box sides, of an ellipse around any head."""
SURE = (0.34, 0.40)
"""Half width and height of the ellipse that is certainly face, in box sides."""
LEAST, MOST = 0.8, 2.9
"""Smallest and largest area of a plausible head, in areas of the ellipse on the face box."""
MOST_CUT = 0.35
"""Largest share of a head's outline at the border of the search, the photo's edges excepted."""
LEAST_EDGE = 25.0
"""Smallest mean difference of colours (0-255) across a plausible outline."""
NO_ROOM = "there is no room around the face"
"""Fault of a face that fills what is searched."""
SHIFT = 4  # OpenCV's fixed-point bits


@dataclass(frozen=True)
class HeadMask:
    """A soft mask of the head."""

    alpha: np.ndarray
    """(H, W) uint8 from 0, background, to 255, head; soft at the edge."""
    fault: str = ""
    """The reason for the ellipse on the face box instead of a segment; "" for a segment."""


def head_mask(
    photo: np.ndarray,
    box: np.ndarray,
    landmarks: np.ndarray | None,
    *,
    look_for_hair: bool = False,
) -> HeadMask:
    """Segment the head, or fall back to an ellipse on the box. Equal photos give equal masks.

    Args:
        photo: (H, W, 3) uint8 RGB.
        box: (4,) xyxy of the face in photo pixels.
        landmarks: (5, 2) x, y; None for a sibling's or the typical box.
        look_for_hair: whether to segment a second time where hair was taken for the room.
    """
    height, width = photo.shape[:2]
    x0, y0, x1, y1 = searched_square(box, height=height, width=width)
    if min(x1 - x0, y1 - y0) < 8:
        return HeadMask(ellipse_alpha(photo.shape[:2], box), "the face box is not on the photo")
    part = photo[y0:y1, x0:x1]
    scale = min(1.0, WORK_SIDE / max(part.shape[:2]))
    size = (max(8, round((x1 - x0) * scale)), max(8, round((y1 - y0) * scale)))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    ratio = np.array([size[0] / (x1 - x0), size[1] / (y1 - y0)])
    near = (np.asarray(box, np.float64).reshape(2, 2) - (x0, y0)) * ratio
    points = None if landmarks is None else (np.asarray(landmarks, np.float64) - (x0, y0)) * ratio
    seeds = _seeds(size, near.ravel(), points)
    found, fault = _grab(small, seeds.copy(), near.ravel())
    if look_for_hair and not fault:
        found = _with_hair(small, seeds, found, near.ravel())
    if fault:
        return HeadMask(ellipse_alpha(photo.shape[:2], box), fault)
    # Smooth upsampling and a threshold of a half: an edge without steps, about a small pixel wide.
    soft = cv2.GaussianBlur(found.astype(np.float32), (0, 0), 1.0)
    large = cv2.resize(soft, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    alpha = np.zeros((height, width), np.uint8)
    alpha[y0:y1, x0:x1] = np.clip((large - 0.25) * 2 * 255, 0, 255).astype(np.uint8)
    return HeadMask(alpha)


def ellipse_alpha(shape: tuple[int, int], box: np.ndarray) -> np.ndarray:
    """Return an anti-aliased mask of the ellipse on the box, (H, W) uint8."""
    mask = np.zeros(shape, np.uint8)
    fill_box_ellipse(mask, box, (0.5, 0.5, 0.0), 255, smooth=True)
    return mask


def fill_ellipse(
    mask: np.ndarray,
    centre: tuple[float, float],
    axes: tuple[float, float],
    value: int,
    *,
    smooth: bool = False,
) -> None:
    """Fill an ellipse in place, with sub-pixel accuracy.

    Args:
        mask: (H, W) uint8.
        centre: x, y in pixels.
        axes: half width, half height in pixels.
        smooth: whether the edge is anti-aliased.
    """
    place, radii = ((round(two[0] * 2**SHIFT), round(two[1] * 2**SHIFT)) for two in (centre, axes))
    line = cv2.LINE_AA if smooth else cv2.LINE_8
    cv2.ellipse(
        mask, place, (max(1, radii[0]), max(1, radii[1])), 0, 0, 360, value, -1, line, SHIFT
    )


def searched_square(box: np.ndarray, *, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the searched square around the head, clipped to the photo."""
    x0, y0, x1, y1 = (float(value) for value in box)
    half = max(x1 - x0, y1 - y0) * REACH / 2
    centre = (x0 + x1) / 2, (y0 + y1) / 2
    left, top = (max(0, int(at - half)) for at in centre)
    return left, top, min(width, int(centre[0] + half)), min(height, int(centre[1] + half))


def _seeds(size: tuple[int, int], box: np.ndarray, points: np.ndarray | None) -> np.ndarray:
    """Return the seeds of GrabCut, (h, w) uint8 of its four classes."""
    seeds = np.full((size[1], size[0]), cv2.GC_BGD, np.uint8)
    fill_box_ellipse(seeds, box, HEAD, cv2.GC_PR_BGD)
    fill_box_ellipse(seeds, box, (0.52, 0.56, 0.0), cv2.GC_PR_FGD)
    fill_box_ellipse(seeds, box, (*SURE, 0.0), cv2.GC_FGD)
    if points is not None:
        hull = cv2.convexHull(points.astype(np.float32)).round().astype(np.int32)
        cv2.fillConvexPoly(seeds, hull, cv2.GC_FGD)
    return seeds


def fill_box_ellipse(
    mask: np.ndarray,
    box: np.ndarray,
    shape: tuple[float, float, float],
    value: int,
    *,
    smooth: bool = False,
) -> None:
    """Fill an ellipse on a box in place.

    Args:
        mask: (H, W) uint8.
        box: (4,) xyxy in pixels of the mask.
        shape: half width, half height and vertical shift, in sides of the box.
        smooth: whether the edge is anti-aliased.
    """
    x0, y0, x1, y1 = (float(each) for each in box)
    width, height = x1 - x0, y1 - y0
    centre = ((x0 + x1) / 2 - 0.5, (y0 + y1) / 2 - 0.5 + shape[2] * height)
    axes = (shape[0] * width, shape[1] * height)
    fill_ellipse(mask, centre, axes, value, smooth=smooth)


def _with_hair(
    small: np.ndarray, seeds: np.ndarray, found: np.ndarray, box: np.ndarray
) -> np.ndarray:
    """Return a head, (h, w) bool, with the hair that is missing in it."""
    hair = lost_hair(small, seeds, found, box)
    if not hair.any():
        return found
    seeds = seeds.copy()
    seeds[(hair | found) & (seeds == cv2.GC_PR_BGD)] = cv2.GC_PR_FGD
    again, fault = _grab(small, seeds, box)
    return found if fault else again | found


def _grab(small: np.ndarray, seeds: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the head, (h, w) bool, and the reason why it is not plausible, or "".

    The seeds are overwritten.
    """
    room = seeds == cv2.GC_BGD
    kinds = set(np.unique(seeds).tolist())
    if not kinds & {cv2.GC_BGD, cv2.GC_PR_BGD} or cv2.GC_FGD not in kinds:
        return seeds > 0, NO_ROOM
    cv2.setRNGSeed(0)  # per thread, so that GrabCut starts from the same clusters in every run
    models = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        cv2.grabCut(small, seeds, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    except cv2.error as error:
        return seeds > 0, f"GrabCut failed: {error.err}"
    found = _main_part((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD), box)
    return found, _fault(found, small, room, box)


def _fault(found: np.ndarray, small: np.ndarray, room: np.ndarray, box: np.ndarray) -> str:
    """Return why a segment is not a plausible head; "" if it is.

    Args:
        room: (h, w) bool, pixels outside the search.
    """
    face = np.pi / 4 * (box[2] - box[0]) * (box[3] - box[1])
    area = float(found.sum()) / max(face, 1.0)
    if not LEAST <= area <= MOST:
        return f"the segment is {area:.2f} of the face's ellipse, not {LEAST} to {MOST}"
    kernel = np.ones((3, 3), np.uint8)
    outline = found & (cv2.erode(found.astype(np.uint8), kernel) == 0)
    if not outline.any():
        return NO_ROOM
    ended = float((cv2.dilate(room.astype(np.uint8), kernel) > 0)[outline].mean())
    if ended > MOST_CUT:
        return f"{ended:.0%} of the segment's outline is where the search ends"
    steps = cv2.morphologyEx(small, cv2.MORPH_GRADIENT, kernel).max(axis=2)
    edge = float(steps[outline].mean())
    if edge < LEAST_EDGE:
        return f"colours differ by {edge:.0f} across the segment's outline, not by {LEAST_EDGE:g}"
    return ""


def _main_part(found: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the connected part at the box's centre, with holes filled and thin parts removed."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    opened = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    _, parts = cv2.connectedComponents(opened)
    height, width = found.shape
    column = int(np.clip((box[0] + box[2]) / 2, 0, width - 1))
    row = int(np.clip((box[1] + box[3]) / 2, 0, height - 1))
    if parts[row, column] == 0:
        return np.zeros_like(found)
    part = (parts == parts[row, column]).astype(np.uint8)
    lines, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(part, lines, -1, 1, cv2.FILLED)
    return part.astype(bool)

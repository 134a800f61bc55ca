"""Cut a crop out of a photo: the window, and what in it is blanked.

Works on one photo and one box; does not know how the box was found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np

from cropfirst.core.faces.segment import fill_ellipse, head_mask


class CropRecipe(Protocol):
    """The settings of a crop; stage 1's `CropConfig` says what each of them does."""

    @property
    def background(self) -> str: ...
    @property
    def image_size(self) -> int: ...
    @property
    def margin(self) -> float: ...
    @property
    def ellipse_width(self) -> float: ...
    @property
    def ellipse_height(self) -> float: ...
    @property
    def align(self) -> bool: ...
    @property
    def fill(self) -> int: ...
    @property
    def uses_box(self) -> bool: ...


@dataclass(frozen=True)
class Window:
    """A square of the photo, rotated about its centre."""

    x0: float
    y0: float
    side: float
    """Side in photo pixels; the window may reach past the photo's edge, where it is blank."""
    angle: float = 0.0
    """Rotation of the photo in degrees, so that the eyes are level."""
    fault: str = ""
    """The reason for an ellipse instead of a segment; "" if the crop has what was configured."""

    def xyxy(self) -> tuple[float, float, float, float]:
        """Return the corners before rotation, in photo pixels."""
        return self.x0, self.y0, self.x0 + self.side, self.y0 + self.side


def face_window(box: np.ndarray, landmarks: np.ndarray | None, config: CropRecipe) -> Window:
    """Return a square around a face, in whole pixels.

    Args:
        box: (4,) xyxy in photo pixels.
        landmarks: (5, 2) x, y; only used for alignment.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    side = max(1.0, max(x1 - x0, y1 - y0) * (1.0 + config.margin))
    angle = 0.0
    if config.align and landmarks is not None:
        across = landmarks[1] - landmarks[0]
        # float32, as the manifest keeps it, so that a row read back equals the one written.
        angle = float(np.float32(math.degrees(math.atan2(float(across[1]), float(across[0])))))
    centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2
    side = float(max(1, round(side)))
    return Window(float(round(centre_x - side / 2)), float(round(centre_y - side / 2)), side, angle)


def photo_window(height: int, width: int, *, whole: bool) -> Window:
    """Return the window of the whole photo, padded to a square, or its largest centred square."""
    side = float(max(height, width) if whole else min(height, width))
    return Window(float((width - side) // 2), float((height - side) // 2), side)


def cut(photo: np.ndarray, window: Window, *, image_size: int, fill: int) -> np.ndarray:
    """Cut a window out and resize it, by area (bilinear if it is enlarged).

    Args:
        photo: (H, W, 3) uint8.

    Returns:
        (image_size, image_size, 3) uint8; pixels past the photo's edge are `fill`.
    """
    if window.angle:
        photo, window = _rotate(photo, window, fill)
    x0, y0, side = int(window.x0), int(window.y0), int(window.side)
    height, width = photo.shape[:2]
    left, top = max(0, -x0), max(0, -y0)
    right, bottom = max(0, x0 + side - width), max(0, y0 + side - height)
    inside = photo[
        max(0, y0) : max(0, min(y0 + side, height)), max(0, x0) : max(0, min(x0 + side, width))
    ]
    if 0 in inside.shape:
        return np.full((image_size, image_size, 3), fill, dtype=np.uint8)
    if left or top or right or bottom:
        inside = cv2.copyMakeBorder(
            inside, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(fill, fill, fill)
        )
    shrink = side > image_size
    return cv2.resize(
        inside,
        (image_size, image_size),
        interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR,
    )


def _rotate(photo: np.ndarray, window: Window, fill: int) -> tuple[np.ndarray, Window]:
    """Return the rotated window's pixels, upright, at the photo's resolution."""
    side = int(window.side)
    centre = (window.x0 + window.side / 2, window.y0 + window.side / 2)
    matrix = np.asarray(cv2.getRotationMatrix2D(centre, window.angle, 1.0), dtype=np.float64)
    matrix[:, 2] += np.array([side / 2 - centre[0], side / 2 - centre[1]])
    rotated = cv2.warpAffine(
        photo, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=(fill, fill, fill)
    )
    return rotated, Window(0.0, 0.0, float(side))


def blank_outside_ellipse(
    crop: np.ndarray, box: np.ndarray, window: Window, config: CropRecipe
) -> np.ndarray:
    """Blank everything outside an ellipse on the face box, with an anti-aliased edge.

    Args:
        crop: (S, S, 3) uint8, cut by `window`.
        box: (4,) xyxy in photo pixels.
    """
    scale = crop.shape[0] / window.side
    centre = (
        ((box[0] + box[2]) / 2 - window.x0) * scale - 0.5,
        ((box[1] + box[3]) / 2 - window.y0) * scale - 0.5,
    )
    axes = (
        (box[2] - box[0]) / 2 * config.ellipse_width * scale,
        (box[3] - box[1]) / 2 * config.ellipse_height * scale,
    )
    mask = np.zeros(crop.shape[:2], dtype=np.uint8)
    fill_ellipse(
        mask,
        (float(centre[0]), float(centre[1])),
        (float(axes[0]), float(axes[1])),
        255,
        smooth=True,
    )
    return _blank(crop, mask, config.fill)


def _blank(crop: np.ndarray, mask: np.ndarray, fill: int) -> np.ndarray:
    """Blend a crop, (S, S, 3), with `fill` by a mask, (S, S) uint8, 255 = keep."""
    blanked = np.full_like(crop, fill)
    cv2.copyTo(crop, (mask == 255).view(np.uint8), blanked)
    # Only the edge is a mixture: arithmetic on every pixel took eight times as long.
    edge = np.flatnonzero(mask - np.uint8(1) < 254)  # 0 wraps around to 255
    weight = mask.reshape(-1)[edge][:, None].astype(np.uint16)
    mixed = crop.reshape(-1, 3)[edge] * weight + np.uint16(fill) * (255 - weight)
    blanked.reshape(-1, 3)[edge] = (mixed + 127) // 255
    return blanked


def make_crop(
    photo: np.ndarray, box: np.ndarray, landmarks: np.ndarray | None, config: CropRecipe
) -> tuple[np.ndarray, Window]:
    """Cut the crop that `config.background` names.

    Args:
        photo: (H, W, 3) uint8 RGB.
        box: (4,) xyxy of the main face; for `mean_box` the typical box on this photo.
        landmarks: (5, 2), None where there are none.

    Returns:
        The crop, (image_size, image_size, 3) uint8 RGB, and the window it was cut from.
    """
    if not config.uses_box:
        window = photo_window(*photo.shape[:2], whole=config.background == "photo")
    elif config.background == "mean_box":
        window = face_window(box, None, config)
    else:
        window = face_window(box, landmarks, config)
    return crop_window(photo, window, box, landmarks, config)


def crop_window(
    photo: np.ndarray,
    window: Window,
    box: np.ndarray,
    landmarks: np.ndarray | None,
    config: CropRecipe,
) -> tuple[np.ndarray, Window]:
    """Cut the crop of a known window.

    Returns:
        The crop, and the window with its `fault` set.
    """
    crop = cut(photo, window, image_size=config.image_size, fill=config.fill)
    if config.background == "segment":
        head = head_mask(photo, box, landmarks)
        window = replace(window, fault=head.fault)
        if not head.fault:
            # As three channels, since that is what is cut; blank past the photo's edge.
            alpha = cv2.cvtColor(head.alpha, cv2.COLOR_GRAY2RGB)
            mask = cut(alpha, window, image_size=config.image_size, fill=0)
            return _blank(crop, mask[..., 0], config.fill), window
    if config.background in {"ellipse", "segment"}:
        crop = blank_outside_ellipse(crop, box, window, config)
    return crop, window


def resize_crop(crop: np.ndarray, size: int) -> np.ndarray:
    """Resize an (H, W, 3) uint8 crop to (size, size, 3): area to shrink, linear to enlarge."""
    if crop.shape[:2] == (size, size):
        return crop
    shrinks = max(crop.shape[:2]) > size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(crop, (size, size), interpolation=method), np.uint8)

"""Cut the head out of a photo: its mask, and what is left of the photo without it, kept small.

Works on one photo and its crop row; knows nothing of files or of what is done with heads.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from cropfirst.core.compositing import Box, Image, foreground_box, tile_over
from cropfirst.core.faces.segment import (
    NO_ROOM,
    HeadMask,
    ellipse_alpha,
    fill_box_ellipse,
    head_mask,
)

BACKGROUND_SIDE = 512
"""Longer side in pixels of the background that is kept."""
QUALITY = 92
"""JPEG quality of the background."""
ROOM_SIDE = 8
"""Side in pixels of the thumbnail by which backgrounds are compared."""
TIGHTEN = 0.012
"""Share of the face box's longer side by which the mask is eroded: its edge has colours of the old
background."""
LOWER_FACE = (0.42, 0.46, 0.0)
"""Half width, half height and vertical shift of an ellipse that is face, in box sides. Its lower
half is where masks are worn, which GrabCut may take for background."""
LEAST_LOWER_FACE = 0.95
"""Smallest share of the lower half of that ellipse that a plausible head has."""
ANY_HEAD = (0.65, 0.9, 0.55)
"""Largest reach of a head from the middle of its face box, to both sides, up and down, in box
sides. Hair that the mask misses lies within it and must not stay in the background."""
MOST_OF_PHOTO = 0.7
"""Largest share of the photo's area that the head may take, so that some room is left."""
FILLS_PHOTO = "the head fills the photo"
"""Fault of a head that takes more than that."""

_HEADER = struct.Struct("<4sIII")
_MAGIC = b"cut1"
"""Raise the number with any change of the cut-outs, and with it VERSION in swap/compose.py and
COMPOSED in stage 2's audit/answers.py: all are then made again."""


@dataclass(frozen=True)
class CutOut:
    """A head's mask and the background behind it, as they are stored."""

    about: Mapping[str, Any]
    """`fault`, `lends`, `size` (height and width of the photo), `at` (x, y of the stored part of
    the mask) and `room` (8 x 8 RGB values as hexadecimal digits), JSON-able."""
    mask_png: bytes
    """The part of the mask that is not 0, as a PNG."""
    background_jpg: bytes
    """The photo with its head tiled over, at most `BACKGROUND_SIDE` large, as a JPEG."""

    @property
    def fault(self) -> str:
        """The reason for the ellipse on the face box instead of the head; "" for a head."""
        return str(self.about["fault"])

    @property
    def lends_room(self) -> bool:
        """Whether the background is one: where there is too little beside and above the head, the
        place of the head has the mean colour of the rest."""
        return bool(self.about["lends"])

    @property
    def room(self) -> np.ndarray:
        """(8, 8, 3) uint8 RGB thumbnail of the background."""
        values = np.frombuffer(bytes.fromhex(self.about["room"]), np.uint8)
        return values.reshape(ROOM_SIDE, ROOM_SIDE, 3)

    def mask(self) -> Image:
        """Return the mask, (H, W) uint8, 255 where the head is."""
        mask = np.zeros(self.about["size"], np.uint8)
        x, y = self.about["at"]
        if self.mask_png:
            part = _decode(self.mask_png, cv2.IMREAD_GRAYSCALE)
            mask[y : y + part.shape[0], x : x + part.shape[1]] = part
        return mask

    def background(self) -> Image:
        """Return the background, (h, w, 3) uint8 RGB."""
        return _decode(self.background_jpg, cv2.IMREAD_COLOR_RGB)

    def to_bytes(self) -> bytes:
        """Return the cut-out as bytes, which `from_bytes` reads."""
        about = json.dumps(dict(self.about)).encode()
        lengths = len(about), len(self.mask_png), len(self.background_jpg)
        return _HEADER.pack(_MAGIC, *lengths) + about + self.mask_png + self.background_jpg

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, *, pictures: bool = True) -> CutOut:
        """Read a cut-out.

        Args:
            data: what `to_bytes` returned.
            pictures: False leaves out mask and background, and does not touch their bytes.

        Raises:
            ValueError: the bytes are no cut-out of this version.
        """
        if len(data) < _HEADER.size or bytes(data[:4]) != _MAGIC:
            raise ValueError("the bytes are no cut-out of this version")
        _, n_about, n_mask, n_background = _HEADER.unpack_from(data)
        first = _HEADER.size + n_about
        about = json.loads(bytes(data[_HEADER.size : first]))
        if not pictures:
            return cls(about, b"", b"")
        second = first + n_mask
        return cls(about, bytes(data[first:second]), bytes(data[second : second + n_background]))


def make_cut_out(photo: Image, box: np.ndarray, landmarks: np.ndarray | None) -> CutOut:
    """Cut the head out of a photo. Equal photos give equal cut-outs.

    Args:
        photo: (H, W, 3) uint8 RGB.
        box: (4,) xyxy of the face in photo pixels.
        landmarks: (5, 2) x, y; None for a sibling's or the typical box.
    """
    head = head_mask(photo, box, landmarks, look_for_hair=True)
    mask, fault = head.alpha, _fault_of(head, box)
    mask = ellipse_alpha((photo.shape[0], photo.shape[1]), box) if fault else _tighten(mask, box)
    background, is_tiled = _background(photo, foreground_box(mask, _any_head(box)))
    room = cv2.resize(background, (ROOM_SIDE, ROOM_SIDE), interpolation=cv2.INTER_AREA)
    x, y, w, h = cv2.boundingRect(mask)
    part = mask[y : y + h, x : x + w]
    about = {
        "fault": fault,
        "lends": is_tiled,
        "size": list(mask.shape),
        "at": [x, y],
        "room": room.tobytes().hex(),
    }
    return CutOut(
        about,
        _encode(".png", part, [cv2.IMWRITE_PNG_COMPRESSION, 1]) if w and h else b"",
        _encode(".jpg", background[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY]),
    )


def _background(photo: Image, head: Box) -> tuple[Image, bool]:
    """Return a photo without its head, small, and whether there was enough room to tile it over."""
    height, width = photo.shape[:2]
    scale = BACKGROUND_SIDE / max(height, width)
    if scale >= 1:
        return tile_over(photo, head)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
    across, down = size[0] / width, size[1] / height
    right, bottom = math.ceil(head[2] * across), math.ceil(head[3] * down)
    place = int(head[0] * across), int(head[1] * down), min(size[0], right), min(size[1], bottom)
    return tile_over(small, place)


def _any_head(box: np.ndarray) -> list[float]:
    """Return xyxy around any head with this face box."""
    x0, y0, x1, y1 = box.tolist()
    centre_x, centre_y, width, height = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
    side, up, down = ANY_HEAD
    return [
        centre_x - side * width, centre_y - up * height,
        centre_x + side * width, centre_y + down * height,
    ]  # fmt: skip


def _fault_of(head: HeadMask, box: np.ndarray) -> str:
    """Return why a mask is no plausible head; "" if it is one."""
    mask = head.alpha
    if head.fault == NO_ROOM or (mask > 127).mean() > MOST_OF_PHOTO:
        return FILLS_PHOTO
    if head.fault:
        return head.fault
    face = np.zeros(mask.shape, np.uint8)
    fill_box_ellipse(face, box, LOWER_FACE, 255)
    face[: max(0, round(float(box[1] + box[3]) / 2))] = 0
    inside = face > 0
    share = float((mask[inside] > 127).mean()) if inside.any() else 0.0
    if share < LEAST_LOWER_FACE:
        return f"the segment has {share:.0%} of the lower face, not {LEAST_LOWER_FACE:.0%}"
    return ""


def _tighten(mask: Image, box: np.ndarray) -> Image:
    """Erode a mask a little, and make its edge soft again."""
    side = float(max(box[2] - box[0], box[3] - box[1]))
    reach = max(1, round(TIGHTEN * side))
    x, y, w, h = cv2.boundingRect(mask)
    # The picture's border is not eroded: a head that the photo's edge cuts has no outline there.
    part = (
        slice(max(0, y - reach), y + h + reach), slice(max(0, x - reach), x + w + reach)
    )  # fmt: skip
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    tight = np.zeros_like(mask)
    tight[part] = cv2.GaussianBlur(cv2.erode(mask[part], kernel), (0, 0), reach / 2)
    return tight


def _encode(ending: str, image: np.ndarray, options: list[int]) -> bytes:
    return bytes(cv2.imencode(ending, image, options)[1])


def _decode(data: bytes, how: int) -> Image:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    if image is None:
        raise ValueError("a picture of the cut-out cannot be decoded")
    return np.asarray(image, np.uint8)

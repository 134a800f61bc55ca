"""Faces cut out of images as facenet-pytorch cuts them: by PIL, OpenCV or torch.

The kind of the image decides which. It knows no detector.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from cropfirst.compat.images import image_size as size_of
from cropfirst.compat.images import to_array, to_photo

_RESIZED_BY_OPENCV = (np.uint8, np.uint16, np.int16, np.float32, np.float64)


def extract_face(
    img: Any,
    box: Sequence[float] | np.ndarray,
    image_size: int = 160,
    margin: int = 0,
    save_path: str | os.PathLike[str] | None = None,
) -> Tensor:
    """Cut a face out of an image and resize it.

    Args:
        img: a PIL image, or a (H, W, 3) array or tensor.
        box: four numbers x0, y0, x1, y1 in pixels of the image; what is outside it is left out.
        image_size: side of the result in pixels.
        margin: pixels of the result that the box is grown by, half of them on each side.
        save_path: file that the face is written to; its folder is created.

    Returns:
        (3, image_size, image_size) float32, values of 0 to 255.

    Raises:
        ValueError: the box has no pixel inside the image, or the margin leaves no room for it.
        OSError: the file cannot be written.
    """
    if margin >= image_size:
        raise ValueError(f"margin must be less than image_size, got {margin} and {image_size}")
    width, height = size_of(img)
    grown = [margin * (box[i + 2] - box[i]) / (image_size - margin) / 2 for i in (0, 1)]
    x0, y0 = (int(max(box[i] - grown[i], 0)) for i in (0, 1))
    x1, y1 = (int(min(box[i + 2] + grown[i], side)) for i, side in enumerate((width, height)))
    if x1 <= x0 or y1 <= y0:
        told = ", ".join(f"{float(side):.1f}" for side in box[:4])
        raise ValueError(
            f"the box ({told}) has no whole pixel inside the image of {width} x {height} pixels"
        )
    face = _cut(img, (x0, y0, x1, y1), image_size)
    if save_path is not None:
        _save(face, Path(save_path))
    pixels = np.asarray(face, dtype=np.float32)
    return torch.from_numpy(pixels.transpose(2, 0, 1)).contiguous()


def _cut(img: Any, box: tuple[int, int, int, int], side: int) -> Any:
    """Return the part of an image inside a box as (side, side, 3), a PIL image or an array."""
    if isinstance(img, Image.Image):
        return img.crop(box).resize((side, side), Image.Resampling.BILINEAR)
    x0, y0, x1, y1 = box
    if isinstance(img, Tensor):
        part = img[y0:y1, x0:x1].permute(2, 0, 1)[None].float()
        resized = interpolate(part, size=(side, side), mode="area")
        return to_array(resized.byte()[0].permute(1, 2, 0))
    if img.dtype not in _RESIZED_BY_OPENCV:
        img = to_photo(img, "the image")
    return cv2.resize(img[y0:y1, x0:x1], (side, side), interpolation=cv2.INTER_AREA)


def _save(face: Any, path: Path) -> None:
    """Write a face to a file whose suffix says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(face, Image.Image):
        face.save(path)
        return
    pixels = np.rint(face).clip(0, 255).astype(np.uint8)
    if not cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)):
        raise OSError(f"cannot write {path}: is the folder writable?")

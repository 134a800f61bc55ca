"""The images that facenet-pytorch's detector takes, as (H, W, 3) uint8 arrays.

It takes a PIL image, a NumPy array or a torch tensor, or a batch: a list or tuple of these, or one
array or tensor of four dimensions. It knows nothing of faces.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor


def is_batch(img: Any) -> bool:
    """Return whether an image argument is a batch, whose results get one more dimension."""
    if isinstance(img, np.ndarray | Tensor):
        return img.ndim == 4
    return isinstance(img, list | tuple)


def image_size(img: Any) -> tuple[int, int]:
    """Return the width and height of one image."""
    if isinstance(img, np.ndarray | Tensor):
        return int(img.shape[1]), int(img.shape[0])
    width, height = img.size
    return width, height


def to_array(img: np.ndarray | Tensor) -> np.ndarray:
    """Return an array, or the values of a tensor of any device and dtype."""
    if isinstance(img, np.ndarray):
        return img
    values = img.detach().cpu()
    return (values.float() if values.is_floating_point() else values).numpy()


def to_photos(img: Any) -> list[np.ndarray]:
    """Return the photos of an image argument; one for a single image.

    Floats are rounded; in a list they are cut off to whole numbers, as facenet-pytorch does.

    Returns:
        (H, W, 3) uint8 RGB arrays of any sizes.

    Raises:
        TypeError: an image is neither a PIL image nor an array nor a tensor.
        ValueError: there is no image, or one that is not RGB, channels last, with values of 0 to
            255.
    """
    if not is_batch(img):
        return [to_photo(img, "the image")]
    if not len(img):
        raise ValueError("wanted at least one image, got an empty batch")
    whole = isinstance(img, list | tuple)
    return [to_photo(each, f"image {index}", cut=whole) for index, each in enumerate(img)]


def to_photo(img: Any, name: str, *, cut: bool = False) -> np.ndarray:
    """Return one image as a (H, W, 3) uint8 RGB array; see `to_photos`.

    Args:
        name: what messages call the image.
        cut: cut floats off instead of rounding them.
    """
    if isinstance(img, Image.Image):
        if img.mode != "RGB":
            raise ValueError(
                f"{name} is a PIL image of mode {img.mode}, wanted RGB: use .convert('RGB')"
            )
        return np.asarray(img)
    if not isinstance(img, np.ndarray | Tensor):
        raise TypeError(
            f"{name} must be a PIL image, a NumPy array or a torch tensor, got "
            f"{type(img).__name__}: open a file with PIL.Image.open(file).convert('RGB')"
        )
    values = to_array(img)
    _check_shape(values, name)
    return values if values.dtype == np.uint8 else _to_bytes(values, name, cut=cut)


def _check_shape(values: np.ndarray, name: str) -> None:
    if values.ndim == 3 and values.shape[2] == 3 and values.size:
        return
    fix = ""
    if values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 1):
        fix = ": repeat a grey image three times, np.stack([grey] * 3, axis=-1)"
    elif values.ndim == 3 and values.shape[2] == 4:
        fix = ": leave out the alpha channel, image[..., :3]"
    elif values.ndim == 3 and values.shape[0] == 3:
        fix = ": its channels come first, use .transpose(1, 2, 0), or .permute(1, 2, 0) on a tensor"
    raise ValueError(f"{name} must be (H, W, 3) RGB with pixels, got shape {values.shape}{fix}")


def _to_bytes(values: np.ndarray, name: str, *, cut: bool) -> np.ndarray:
    """Return values of 0 to 255 of any dtype as uint8."""
    low, high = values.min(), values.max()
    wanted = f"{name} must have values from 0 to 255"
    if not (low >= 0 and high <= 255):  # NaN compares as false
        raise ValueError(f"{wanted}, got {values.dtype} from {low} to {high}")
    if values.dtype == np.bool_ or (values.dtype.kind == "f" and 0 < high <= 1):
        raise ValueError(f"{wanted}, got {values.dtype} up to {high}: multiply it by 255")
    return (values if cut else np.rint(values)).astype(np.uint8)

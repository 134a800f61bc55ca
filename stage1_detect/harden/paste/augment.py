"""Augmentations of a photo that its boxes and landmarks follow. Knows no masks."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

BORDER = 0.25
"""Usual width of a border, as a share of the photo's longer side."""
_MIRRORED = [1, 0, 2, 4, 3]
"""Order of the landmarks in a mirror, since left and right are as seen."""


@dataclass(frozen=True)
class AnnotatedPhoto:
    """A photo with the boxes and landmarks of its N faces."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    boxes: np.ndarray
    """(N, 4) float32 xyxy."""
    landmarks: np.ndarray
    """(N, 5, 2) float32."""


def add_border(image: np.ndarray, pixels: int) -> np.ndarray:
    """Return a photo with a grey border: (H, W, 3) -> (H + 2 pixels, W + 2 pixels, 3)."""
    return cv2.copyMakeBorder(
        image, pixels, pixels, pixels, pixels, cv2.BORDER_CONSTANT, value=(127, 127, 127)
    )


def augment(photo: AnnotatedPhoto, *, rng: np.random.Generator) -> AnnotatedPhoto:
    """Mirror half of the photos, rotate and scale half, and change light, blur, noise and JPEG.

    The given photo is not changed, and the result has its size.
    """
    if rng.random() < 0.5:
        photo = mirror(photo)
    if rng.random() < 0.5:
        degrees, scale = float(rng.normal(0, 8)), float(np.exp(rng.normal(-0.1, 0.18)))
        photo = rotate(photo, degrees=float(np.clip(degrees, -25, 25)), scale=scale, rng=rng)
    return AnnotatedPhoto(augment_pixels(photo.image, rng=rng), photo.boxes, photo.landmarks)


def rescale(photo: AnnotatedPhoto, *, rng: np.random.Generator) -> AnnotatedPhoto:
    """Scale a photo by 0.35 to 1.23, so that faces of every size occur, and change its aspect ratio
    a little, as faces that turn away look narrower."""
    height, width = photo.image.shape[:2]
    scale, stretch = 2 ** rng.uniform(-1.5, 0.3), 2 ** rng.uniform(-0.25, 0.1)
    size = max(24, round(width * scale * stretch)), max(24, round(height * scale))
    factor = np.array(size, dtype=np.float32) / (width, height)
    factor = factor.astype(np.float32)
    return AnnotatedPhoto(
        cv2.resize(
            photo.image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        ),
        photo.boxes * np.tile(factor, 2),
        photo.landmarks * factor,
    )


def mirror(photo: AnnotatedPhoto) -> AnnotatedPhoto:
    """Mirror a photo; left and right landmarks change places."""
    width = photo.image.shape[1]
    boxes = photo.boxes[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1], np.float32)
    boxes += np.array([width, 0, width, 0], np.float32)
    landmarks = photo.landmarks[:, _MIRRORED] * np.array([-1, 1], np.float32) + np.array(
        [width, 0], np.float32
    )
    return AnnotatedPhoto(np.ascontiguousarray(photo.image[:, ::-1]), boxes, landmarks)


def rotate(
    photo: AnnotatedPhoto, *, degrees: float, scale: float, rng: np.random.Generator
) -> AnnotatedPhoto:
    """Rotate a photo clockwise about its middle and scale it, keeping its size.

    A box keeps its shape (it only grows or shrinks) and stays around the same point of the face, as
    the detector's boxes do.

    Args:
        rng: chooses what fills the corners.
    """
    height, width = photo.image.shape[:2]
    move = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, scale)
    # Coordinates count from the first pixel's corner, OpenCV's from its middle.
    shift = move[:, :2] @ np.array([0.5, 0.5]) - 0.5
    pixels = np.column_stack([move[:, :2], move[:, 2] + shift])
    border = int(rng.choice([cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT]))
    grey = (int(rng.integers(256)),) * 3
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.warpAffine(
        photo.image, pixels, (width, height), flags=flags, borderMode=border, borderValue=grey
    )
    middles = (photo.boxes[:, :2] + photo.boxes[:, 2:]) / 2 @ move[:, :2].T + move[:, 2]
    half = (photo.boxes[:, 2:] - photo.boxes[:, :2]) * (scale / 2)
    boxes = np.concatenate([middles - half, middles + half], axis=1).astype(np.float32)
    landmarks = (photo.landmarks @ move[:, :2].T + move[:, 2]).astype(np.float32)
    return AnnotatedPhoto(image, boxes, landmarks)


def augment_pixels(image: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Change light, blur, noise and JPEG quality: (H, W, 3) uint8 -> (H, W, 3) uint8."""
    image = image if rng.random() < 0.8 else _shade_one_side(image, rng)
    pipeline = _pixel_pipeline()
    pipeline.set_random_seed(int(rng.integers(2**31)))
    changed: np.ndarray = pipeline(image=np.ascontiguousarray(image))["image"]
    return changed


def _shade_one_side(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add a shadow from one side, soft or with an edge."""
    height, width = image.shape[:2]
    turn, sharp = rng.uniform(0, 2 * np.pi), rng.uniform(1.5, 12)
    across = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(np.cos(turn))
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(turn))
    lit = np.clip(np.float32(0.5) + (across + down - np.float32(rng.normal(0, 0.3))) * sharp, 0, 1)
    dark = np.float32(rng.uniform(0.25, 0.75))
    shaded: np.ndarray = (image * (dark + (1 - dark) * lit)[..., None]).astype(np.uint8)
    return shaded


_pipelines = threading.local()


def _pixel_pipeline() -> Any:
    """Return this thread's pipeline; threads that seed and use a common one would disturb each
    other."""
    if not hasattr(_pipelines, "pixels"):
        # albumentations asks the network for newer versions at import unless told not to.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        import albumentations as A

        blurs = [
            A.MotionBlur(blur_limit=(3, 11)),
            A.GaussianBlur(sigma_limit=(0.4, 2.8), blur_limit=0),
            A.Defocus(radius=(1, 4), alias_blur=(0.05, 0.2)),
            A.Downscale(scale_range=(0.3, 0.8)),
        ]
        _pipelines.pixels = A.Compose(
            [
                A.RandomGamma(gamma_limit=(50, 190), p=0.4),
                A.RandomBrightnessContrast(
                    brightness_limit=(-0.4, 0.3), contrast_limit=0.35, p=0.5
                ),
                A.RGBShift(24, 16, 24, p=0.3),
                A.ToGray(p=0.06),
                A.OneOf(blurs, p=0.4),
                A.GaussNoise(std_range=(0.01, 0.08), noise_scale_factor=0.5, p=0.25),
                A.ImageCompression(quality_range=(25, 95), p=0.5),
            ]
        )
    return _pipelines.pixels

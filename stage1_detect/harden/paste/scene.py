"""A photo as another camera would have taken it, with its boxes and landmarks. Knows no masks."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

_MIRRORED = [1, 0, 2, 4, 3]
"""Landmarks are left and right as seen: a mirror swaps them."""


@dataclass(frozen=True)
class Scene:
    """A photo and where its faces are."""

    photo: np.ndarray
    """(H, W, 3) uint8 RGB."""
    boxes: np.ndarray
    """(N, 4) float32 xyxy."""
    landmarks: np.ndarray
    """(N, 5, 2) float32."""


def framed(scene: Scene, share: float = 0.5) -> Scene:
    """The photo in a grey frame, `share` of its longer side wide.

    MTCNN misplaces landmarks, and a little its boxes, of faces that reach past the photo's edge: it
    stretches what is left of them to the whole. Let the teacher look at framed photos.
    """
    wide = round(share * max(scene.photo.shape[:2]))
    photo = cv2.copyMakeBorder(
        scene.photo, wide, wide, wide, wide, cv2.BORDER_CONSTANT, value=(127, 127, 127)
    )
    return Scene(photo, scene.boxes + np.float32(wide), scene.landmarks + np.float32(wide))


def mirrored(scene: Scene) -> Scene:
    """As in a mirror; left and right landmarks change places."""
    width = scene.photo.shape[1]
    boxes = scene.boxes[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1], np.float32)
    boxes += np.array([width, 0, width, 0], np.float32)
    landmarks = scene.landmarks[:, _MIRRORED] * np.array([-1, 1], np.float32) + np.array(
        [width, 0], np.float32
    )
    return Scene(np.ascontiguousarray(scene.photo[:, ::-1]), boxes, landmarks)


def tilted(scene: Scene, *, degrees: float, scale: float, rng: np.random.Generator) -> Scene:
    """Turned clockwise about the middle and scaled, on as large a canvas.

    A box keeps its shape (it only grows or shrinks) and stays around the same face's middle, as
    the detector's boxes do.
    """
    height, width = scene.photo.shape[:2]
    move = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, scale)
    # Coordinates count from the first pixel's corner, OpenCV's from its middle.
    shift = move[:, :2] @ np.array([0.5, 0.5]) - 0.5
    pixels = np.column_stack([move[:, :2], move[:, 2] + shift])
    border = int(rng.choice([cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT]))
    grey = (int(rng.integers(256)),) * 3
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    photo = cv2.warpAffine(
        scene.photo, pixels, (width, height), flags=flags, borderMode=border, borderValue=grey
    )
    middles = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2 @ move[:, :2].T + move[:, 2]
    half = (scene.boxes[:, 2:] - scene.boxes[:, :2]) * (scale / 2)
    boxes = np.concatenate([middles - half, middles + half], axis=1).astype(np.float32)
    landmarks = (scene.landmarks @ move[:, :2].T + move[:, 2]).astype(np.float32)
    return Scene(photo, boxes, landmarks)


def shake(
    photo: np.ndarray, boxes: np.ndarray, landmarks: np.ndarray, *, rng: np.random.Generator
) -> Scene:
    """The photo as another camera, hand and light would have taken it.

    Half are mirrored, half tilted and scaled a little; then light, blur, noise and JPEG.

    Args:
        photo: (H, W, 3) uint8 RGB; stays as it is, and the result is as large.
        boxes: (N, 4) xyxy.
        landmarks: (N, 5, 2).
    """
    scene = Scene(
        photo,
        np.asarray(boxes, dtype=np.float32).reshape(-1, 4),
        np.asarray(landmarks, dtype=np.float32).reshape(-1, 5, 2),
    )
    if rng.random() < 0.5:
        scene = mirrored(scene)
    if rng.random() < 0.5:
        degrees, scale = float(rng.normal(0, 8)), float(np.exp(rng.normal(-0.1, 0.18)))
        scene = tilted(scene, degrees=float(np.clip(degrees, -25, 25)), scale=scale, rng=rng)
    return Scene(relit(scene.photo, rng=rng), scene.boxes, scene.landmarks)


def relit(photo: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Other light and another lens, nothing moved. (H, W, 3) uint8 -> the same."""
    photo = photo if rng.random() < 0.8 else _one_sided(photo, rng)
    camera = _camera()
    camera.set_random_seed(int(rng.integers(2**31)))
    taken: np.ndarray = camera(image=np.ascontiguousarray(photo))["image"]
    return taken


def _one_sided(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A shadow that falls from one side, soft or with an edge."""
    height, width = photo.shape[:2]
    turn, sharp = rng.uniform(0, 2 * np.pi), rng.uniform(1.5, 12)
    across = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(np.cos(turn))
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(turn))
    lit = np.clip(np.float32(0.5) + (across + down - np.float32(rng.normal(0, 0.3))) * sharp, 0, 1)
    dark = np.float32(rng.uniform(0.25, 0.75))
    shaded: np.ndarray = (photo * (dark + (1 - dark) * lit)[..., None]).astype(np.uint8)
    return shaded


_cameras = threading.local()


def _camera() -> Any:
    """This thread's pipeline: one that is seeded and used by several at once would mix them up."""
    if not hasattr(_cameras, "pipeline"):
        # It asks the network for newer versions at import unless told not to.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        import albumentations as A

        blurs = [
            A.MotionBlur(blur_limit=(3, 11)),
            A.GaussianBlur(sigma_limit=(0.4, 2.8), blur_limit=0),
            A.Defocus(radius=(1, 4), alias_blur=(0.05, 0.2)),
            A.Downscale(scale_range=(0.3, 0.8)),
        ]
        _cameras.pipeline = A.Compose(
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
    return _cameras.pipeline

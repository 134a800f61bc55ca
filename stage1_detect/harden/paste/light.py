"""Light, shadow and sharpness of a pasted mask, estimated from the photo."""

from __future__ import annotations

import cv2
import numpy as np


def estimate_light(
    photo: np.ndarray, part: np.ndarray, alpha: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the light on the mask: the face's own shading, and the photo's brightness and tint.

    Returns:
        (h, w) and (3,) float32 factors on the mask's colours.
    """
    small = photo[:: max(1, photo.shape[0] // 24), :: max(1, photo.shape[1] // 24)]
    around = np.percentile(small.reshape(-1, 3), 92, axis=0) / 255
    on_face = float(np.percentile(part[::4, ::4].max(axis=2), 92)) / 255
    bright = 0.45 * float(around.max()) + 0.65 * on_face
    strength = np.clip(bright * rng.uniform(0.85, 1.1), 0.2, 1.08)
    cast = around / max(float(around.mean()), 1e-3)
    tint = np.clip(1 + 0.35 * (cast - 1), 0.86, 1.14)
    size = (8, 8)
    weighted = cv2.resize(
        cv2.cvtColor(part, cv2.COLOR_RGB2GRAY) * alpha, size, interpolation=cv2.INTER_AREA
    )
    weight = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    shade = cv2.blur(weighted + np.float32(0.05), (3, 3)) / cv2.blur(
        weight + np.float32(1e-3), (3, 3)
    )
    mean = float((shade * weight).sum() / max(float(weight.sum()), 1e-6))
    shade = np.clip(shade / max(mean, 5.0), 0.45, 1.35) ** np.float32(rng.uniform(0.5, 1.0))
    wide = (alpha.shape[1], alpha.shape[0])
    shade = cv2.resize(shade.astype(np.float32), wide, interpolation=cv2.INTER_LINEAR)
    return shade, (strength * tint).astype(np.float32)


def blur(picture: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Blur about as much as a photo of this size is blurred."""
    sigma = float(rng.uniform(0.3, 0.5) + rng.uniform(0, 0.35) * scale)
    soft: np.ndarray = cv2.GaussianBlur(picture, (0, 0), sigma)
    return soft


def shadow_of(alpha: np.ndarray, scale: float) -> np.ndarray:
    """Return the (h, w) float32 share of light that the mask's soft shadow leaves on the face."""
    shift = max(1, round(1.5 * scale))
    shadow: np.ndarray = cv2.blur(alpha, (2 * shift + 1, 2 * shift + 1))
    shadow[shift:] = shadow[:-shift].copy()
    shadow[:shift] = 0
    shadow *= np.float32(-0.28)
    shadow += 1
    return shadow

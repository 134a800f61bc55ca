"""The quality of a face: its sharpness, and how far it is turned."""

from __future__ import annotations

import cv2
import numpy as np

SIDE = 48
"""Side in pixels at which sharpness is measured, so that it does not depend on the crop's size."""


def sharpness(crop: np.ndarray) -> float:
    """Return the sharpness of the middle of a crop, 0 or more.

    It is the variance of the Laplacian divided by that of the grey values, so that it depends on
    the light little. Only the middle half of the crop's sides counts: beyond may be blank.

    Args:
        crop: (S, S, 3) uint8 RGB.
    """
    first, last = crop.shape[0] // 4, crop.shape[0] - crop.shape[0] // 4
    middle = cv2.cvtColor(crop[first:last, first:last], cv2.COLOR_RGB2GRAY)
    method = cv2.INTER_AREA if middle.shape[0] > SIDE else cv2.INTER_LINEAR
    grey = cv2.resize(middle, (SIDE, SIDE), interpolation=method).astype(np.float32)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var() / (grey.var() + 1.0))


def turn(landmarks: np.ndarray) -> float:
    """Return how far the nose is from the middle of the eyes, along the line through them.

    Args:
        landmarks: (5, 2) x, y of the eyes, the nose and the corners of the mouth.

    Returns:
        The distance in distances of the eyes, 0 or more: 0 = frontal, 0.5 = below one eye.
    """
    left, right, nose = (np.asarray(point, np.float64) for point in landmarks[:3])
    across = right - left
    length = float(across @ across)
    if length < 1e-6:
        return float("inf")
    return abs(float((nose - (left + right) / 2) @ across) / length)

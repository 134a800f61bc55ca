"""Greedy non-maximum suppression, compiled."""

from __future__ import annotations

import numpy as np

from cropfirst.stage1_detect.mtcnn.engines.numba.jit import compiled


@compiled
def suppress(
    boxes: np.ndarray, groups: np.ndarray, threshold: float, by_smaller: bool
) -> np.ndarray:
    """Return which boxes no better box of their group covers: see `boxes.suppress`."""
    one = np.float32(1 if by_smaller else 0)
    keep = np.ones(len(boxes), dtype=np.bool_)
    area = (boxes[:, 2] - boxes[:, 0] + one) * (boxes[:, 3] - boxes[:, 1] + one)
    for i in range(len(boxes)):
        if not keep[i]:
            continue
        for j in range(i + 1, len(boxes)):
            if groups[j] != groups[i]:
                break
            wide = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0]) + one
            tall = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1]) + one
            if wide > 0 and tall > 0:
                both = wide * tall
                least = min(area[i], area[j]) if by_smaller else area[i] + area[j] - both
                if both / least > threshold:
                    keep[j] = False
    return keep

"""Pure functions on boxes, (N, 4) xyxy in photo pixels, in NumPy alone.

The odd `+ 1`s are MTCNN's inclusive pixel coordinates, kept so that boxes equal the reference's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LEAST_INSIDE = 0.9
"""Share of a square inside of the photo below which the photo's edge cuts it."""
Suppressor = Callable[[np.ndarray, np.ndarray, np.float32, bool], np.ndarray]
"""`suppress`, or a compiled form of it."""


def make_square(boxes: np.ndarray) -> np.ndarray:
    """Grow each box about its centre to a square of its longer side. (N, 4) -> (N, 4)."""
    top_left, size = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    half = np.float32(0.5)
    side = size.max(axis=1, keepdims=True)
    corner = top_left + size * half - side * half
    return np.concatenate([corner, corner + side], axis=1)


def apply_offsets(boxes: np.ndarray, offsets: np.ndarray, *, inclusive: bool) -> np.ndarray:
    """Move the four sides by fractions of the box's size. (N, 4), (N, 4) -> (N, 4).

    Args:
        inclusive: sizes count both end pixels (R- and O-Net), or not (P-Net).
    """
    size = boxes[:, 2:] - boxes[:, :2] + np.float32(1.0 if inclusive else 0.0)
    return boxes + offsets * np.concatenate([size, size], axis=1)


def pixel_windows(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the part of each box inside a photo, as half-open pixel ranges.

    Args:
        boxes: (N, 4) xyxy, MTCNN's one-based pixels.

    Returns:
        (N, 4) int64 x0, y0, x1, y1; empty (x1 <= x0) where the box misses the photo.
    """
    pixels = np.trunc(boxes).astype(np.int64)
    start = np.maximum(pixels[:, :2], 1) - 1
    end = np.minimum(pixels[:, 2:], (width, height))
    return np.concatenate([start, end], axis=1)


def cut_by_edge(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Return the indices, (K,), of the boxes of which a part is outside of the photo.

    Args:
        boxes: (N, 4) float32 xyxy.
        windows: (N, 4) int64, see `pixel_windows`.
    """
    shown, whole = windows[:, 2:] - windows[:, :2], boxes[:, 2:] - boxes[:, :2] + np.float32(1)
    share = np.prod(np.maximum(shown, 0), axis=1) / np.prod(whole, axis=1)
    return np.flatnonzero(share < LEAST_INSIDE)


def unstretch(crops: np.ndarray, boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Put what the photo's edge left of squares where it is in them, with grey around it.

    MTCNN stretches the part of a square that is in the photo to a network's input, and so places
    the box of a face that reaches past the edge too narrowly.

    Args:
        crops: (N, S, S, 3) float32 in [-1, 1], the stretched windows; 0 is grey.
        boxes: (N, 4) xyxy, the squares.
        windows: (N, 4) int64, see `pixel_windows`; not empty.

    Returns:
        (N, S, S, 3) float32.
    """
    size = crops.shape[1]
    pixels = np.trunc(boxes)
    start, whole = pixels[:, :2] - 1, pixels[:, 2:] - pixels[:, :2] + 1
    low = (windows[:, :2] - start) / whole * size
    cells = np.arange(size)
    step = ((windows[:, 2:] - windows[:, :2]) / whole)[:, :, None]
    left = (low[:, :, None] + step * cells)[:, :, None]
    right = (low[:, :, None] + step * (cells + 1))[:, :, None]
    # The part of each cell of the square that each cell of the stretched window covers.
    cover = np.minimum(right, cells[:, None] + 1) - np.maximum(left, cells[:, None])
    across, down = cover.clip(0).astype(np.float32).transpose(1, 0, 2, 3)
    return _multiply_columns(across, _multiply_columns(down, crops))


def _multiply_columns(matrices: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """Multiply each crop's columns by a matrix, and exchange rows and columns.

    (N, S, S), (N, S, S, 3) -> (N, S, S, 3).
    """
    product = np.matmul(matrices, crops.reshape(len(crops), len(crops[0]), -1))
    return np.ascontiguousarray(product.reshape(crops.shape).transpose(0, 2, 1, 3))


def nms_iou(
    boxes: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    threshold: float,
    *,
    suppressor: Suppressor | None = None,
) -> np.ndarray:
    """Apply non-maximum suppression by IoU within each group; equal scores keep their order.

    Args:
        boxes: (N, 4) float32 xyxy.
        scores: (N,) float32.
        groups: (N,) integers, e.g. the photo of each box.
        suppressor: compiled form of `suppress`; None = `suppress`.

    Returns:
        (K,) indices kept, ordered by group and then by falling score.
    """
    order = np.lexsort((-scores, groups))
    boxes = np.ascontiguousarray(boxes[order], dtype=np.float32)
    return order[(suppressor or suppress)(boxes, groups[order], np.float32(threshold), False)]


def nms_min(
    boxes: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    threshold: float,
    *,
    suppressor: Suppressor | None = None,
) -> np.ndarray:
    """Apply NMS by intersection over the smaller area ("Min") within each group.

    Arguments and result as of `nms_iou`, but of equal scores the last one is the first.
    """
    # Candidates that fall on the same pixels tie exactly; the reference takes the last of them.
    count = len(boxes)
    order = np.lexsort((-scores[::-1], groups[::-1]))
    order = count - 1 - order
    boxes = np.ascontiguousarray(boxes[order], dtype=np.float32)
    return order[(suppressor or suppress)(boxes, groups[order], np.float32(threshold), True)]


def suppress(
    boxes: np.ndarray, groups: np.ndarray, threshold: np.float32, by_smaller: bool
) -> np.ndarray:
    """Return which boxes no better box of their group covers by more than `threshold`.

    Args:
        boxes: (N, 4) float32 xyxy, sorted by group and within each by falling score.
        groups: (N,) integers, rising.
        by_smaller: measure intersection over the smaller area with inclusive pixels, else IoU.

    Returns:
        (N,) bool.
    """
    one = np.float32(1 if by_smaller else 0)
    area = (boxes[:, 2] - boxes[:, 0] + one) * (boxes[:, 3] - boxes[:, 1] + one)
    keep = np.zeros(len(boxes), dtype=np.bool_)
    left = np.arange(len(boxes))
    while len(left):
        # Of all groups at once: the best box is kept, and suppresses others of its group.
        _, first, group = np.unique(groups[left], return_index=True, return_inverse=True)
        keep[left[first]] = True
        best = left[first][group]
        size = np.minimum(boxes[left, 2:], boxes[best, 2:])
        size = np.maximum(size - np.maximum(boxes[left, :2], boxes[best, :2]) + one, 0)
        both = size[:, 0] * size[:, 1]
        least = np.minimum(area[left], area[best]) if by_smaller else area[left] + area[best] - both
        covered = np.divide(both, least, out=np.zeros_like(both), where=both > 0) > threshold
        left = left[~covered & (left != best)]
    return keep


def vote(boxes: np.ndarray, groups: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the mean of the boxes that overlap each kept box by an IoU of 0.5 or more.

    Args:
        boxes: (N, 4) float32 xyxy.
        groups: (N,) integers, e.g. the photo of each box; only boxes of its group vote for one.
        kept: (K,) indices of boxes.

    Returns:
        (K, 4) float32.
    """
    votes = (iou(boxes[kept], boxes) >= 0.5) & (groups[kept][:, None] == groups)
    votes[np.arange(len(kept)), kept] = True  # a box without an area votes for itself
    return (votes @ boxes / votes.sum(axis=1, keepdims=True)).astype(np.float32)


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union of every pair. (N, 4), (M, 4) xyxy -> (N, M) in [0, 1]."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    others = np.asarray(others, dtype=np.float64).reshape(-1, 4)
    top_left = np.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inter = np.prod(np.clip(bottom_right - top_left, 0, None), axis=2)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    other_area = np.prod(others[:, 2:] - others[:, :2], axis=1)
    union = area[:, None] + other_area[None, :] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)

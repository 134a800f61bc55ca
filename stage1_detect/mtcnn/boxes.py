"""Pure functions on boxes, (N, 4) xyxy in photo pixels. They know no networks, photos or files.

The odd `+ 1`s are MTCNN's inclusive pixel coordinates, kept so that boxes equal the reference's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from cropfirst.stage1_detect.mtcnn.engines.numba.available import numba_problem


def make_square(boxes: Tensor) -> Tensor:
    """Grow each box about its centre to a square of its longer side. (N, 4) -> (N, 4)."""
    top_left, bottom_right = boxes[:, :2], boxes[:, 2:]
    size = bottom_right - top_left
    side = size.amax(dim=1, keepdim=True)
    corner = top_left + size * 0.5 - side * 0.5
    return torch.cat([corner, corner + side], dim=1)


def apply_offsets(boxes: Tensor, offsets: Tensor, *, inclusive: bool) -> Tensor:
    """Move the four sides by fractions of the box's size. (N, 4), (N, 4) -> (N, 4).

    Args:
        inclusive: sizes count both end pixels (R- and O-Net), or not (P-Net).
    """
    size = boxes[:, 2:] - boxes[:, :2] + (1.0 if inclusive else 0.0)
    return boxes + offsets * torch.cat([size, size], dim=1)


def pixel_windows(boxes: Tensor, photo_sizes: Tensor) -> Tensor:
    """Return the part of each box inside its photo, as half-open pixel ranges.

    Args:
        boxes: (N, 4) xyxy, MTCNN's one-based pixels.
        photo_sizes: (N, 2) int64 height, width of each box's photo.

    Returns:
        (N, 4) int64 x0, y0, x1, y1; empty (x1 <= x0) where the box misses the photo.
    """
    pixels = boxes.trunc().to(torch.int64)
    start = pixels[:, :2].clamp(min=1) - 1
    end = torch.minimum(pixels[:, 2:], photo_sizes.flip(1))
    return torch.cat([start, end], dim=1)


def nms_iou(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Return the indices kept by non-maximum suppression within each group, best score first.

    Equal scores keep their order, as in one photo alone: P-Net's scores often tie at exactly 1, and
    which of two such boxes survives must not depend on the batch. (torchvision's batched_nms sorts
    them unstably from 1,000 boxes on.)

    Args:
        boxes: (N, 4) float32 xyxy.
        scores: (N,) float32.
        groups: (N,) int64, not negative, e.g. the photo of each box.

    Returns:
        (K,) int64.
    """
    if not len(boxes):
        return groups.new_zeros(0)
    compiled = boxes.device.type == "cpu" and numba_problem() is None
    within_groups = _nms_compiled if compiled else _nms_torchvision
    kept = within_groups(boxes, scores, groups, threshold)
    return kept[scores[kept].sort(descending=True, stable=True).indices]


def _nms_compiled(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Return the kept indices, rising, by compiled code on the CPU."""
    kept = _keep(boxes.numpy(), scores.numpy(), groups.numpy(), threshold, by_smaller=False)
    return torch.from_numpy(np.sort(kept))


def _nms_torchvision(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Return the kept indices, rising, by one kernel and without a host sync.

    Each group is moved away from the others, in float64, so that no fraction of a pixel is lost.
    """
    # Imported late: it takes longer than all else that a run over an unchanged cache does.
    from torchvision.ops import nms

    far = groups.double() * (boxes.max() - boxes.min() + 1).double()
    return nms(boxes.double() + far[:, None], scores.double(), threshold).sort().values


def nms_min(
    boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float
) -> np.ndarray:
    """Apply NMS by intersection over the smaller area ("Min") within each group.

    Args:
        boxes: (N, 4) float32 xyxy.
        scores: (N,) float32.
        groups: (N,) integers, e.g. the photo of each box.

    Returns:
        (K,) indices kept, ordered by group and then by falling score.
    """
    # Candidates that fall on the same pixels tie exactly; the reference takes the last of them.
    backwards = slice(None, None, -1)
    kept = _keep(boxes[backwards], scores[backwards], groups[backwards], threshold, by_smaller=True)
    return len(boxes) - 1 - kept


def _keep(
    boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float, *, by_smaller: bool
) -> np.ndarray:
    """Return the indices kept, by group and then by falling score; ties keep their order."""
    order = np.lexsort((-scores, groups))
    boxes = np.ascontiguousarray(boxes[order], dtype=np.float32)
    return order[_suppress()(boxes, groups[order], np.float32(threshold), by_smaller)]


@cache
def _suppress() -> Callable[..., np.ndarray]:
    """Return the compiled form of `suppress` where Numba runs, else `suppress` itself."""
    if numba_problem() is not None:
        return suppress
    from cropfirst.stage1_detect.mtcnn.engines.numba import nms

    return nms.suppress


def suppress(
    boxes: np.ndarray, groups: np.ndarray, threshold: float, by_smaller: bool
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

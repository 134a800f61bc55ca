"""Pure maths on boxes, (N, 4) xyxy in photo pixels. Knows no nets, photos or files.

The odd `+ 1`s are MTCNN's inclusive pixel coordinates, kept so that boxes equal the reference's.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


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
    """The part of each box that lies in its photo, as half-open pixel ranges.

    Args:
        boxes: (N, 4) xyxy, MTCNN's one-based pixels.
        photo_sizes: (N, 2) int64 height, width of each box's photo.

    Returns:
        (N, 4) int64 x0, y0, x1, y1; empty (x1 <= x0) where the box misses the photo.
    """
    whole = boxes.trunc().to(torch.int64)
    start = whole[:, :2].clamp(min=1) - 1
    end = torch.minimum(whole[:, 2:], photo_sizes.flip(1))
    return torch.cat([start, end], dim=1)


def nms_iou(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Indices kept by non-maximum suppression within each group, best score first.

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
    within_groups = _nms_by_group if boxes.device.type == "cpu" else _nms_far_apart
    kept = within_groups(boxes, scores, groups, threshold)
    return kept[scores[kept].sort(descending=True, stable=True).indices]


def _nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    # Imported late: it takes longer than all else that a run over an unchanged cache does.
    from torchvision.ops import nms

    return nms(boxes, scores, threshold)


def _nms_by_group(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Kept indices, rising. A group at a time, since NMS is quadratic on the CPU."""
    order = groups.sort(stable=True).indices
    counts: list[int] = groups[order].unique_consecutive(return_counts=True)[1].tolist()
    kept = [part[_nms(boxes[part], scores[part], threshold)] for part in order.split(counts)]
    return torch.cat(kept).sort().values


def _nms_far_apart(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Kept indices, rising. All groups in one kernel and without a host sync, for GPUs."""
    return _nms(far_apart(boxes, groups), scores.double(), threshold).sort().values


def far_apart(boxes: Tensor, groups: Tensor) -> Tensor:
    """Each group out of reach of the others. (N, 4), (N,) int64 -> (N, 4) float64, so that no
    fraction of a pixel is lost; at least one box."""
    far = groups.double() * (boxes.max() - boxes.min() + 1).double()
    return boxes.double() + far[:, None]


def nms_min(
    boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float
) -> np.ndarray:
    """NMS by intersection over the smaller area ("Min"), within each group.

    Suppression runs down the scores: a box goes when a kept, better one covers it. The greedy
    result is found as a fixed point on the matrix of overlaps, without a loop over boxes.

    Args:
        boxes: (N, 4) float32 xyxy.
        scores: (N,) float32.
        groups: (N,) integers, e.g. the photo of each box.

    Returns:
        (K,) indices kept, ordered by group and then by falling score.
    """
    # Candidates that fall on the same pixels tie exactly; the reference takes the last of them.
    order = np.lexsort((-np.arange(len(scores)), -scores, groups))
    kept = [
        order[part][_keep_min(boxes[order[part]], threshold)]
        for part in np.split(np.arange(len(order)), np.flatnonzero(np.diff(groups[order])) + 1)
        if len(part)
    ]
    return np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)


def _keep_min(boxes: np.ndarray, threshold: float) -> np.ndarray:
    """Mask of kept boxes, for boxes sorted by falling score."""
    top_left = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    inter = np.prod(np.maximum(bottom_right - top_left + 1, 0), axis=2)
    area = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1)
    covers = np.triu(inter / np.minimum(area[:, None], area[None, :]) > threshold, k=1)
    keep = np.ones(len(boxes), dtype=bool)
    while True:
        refined = ~(covers & keep[:, None]).any(axis=0)
        if np.array_equal(refined, keep):
            return keep
        keep = refined


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair. (N, 4), (M, 4) xyxy -> (N, M) float in [0, 1]."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    others = np.asarray(others, dtype=np.float64).reshape(-1, 4)
    top_left = np.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inter = np.prod(np.clip(bottom_right - top_left, 0, None), axis=2)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    other_area = np.prod(others[:, 2:] - others[:, :2], axis=1)
    union = area[:, None] + other_area[None, :] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)

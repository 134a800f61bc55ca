"""Pure maths on boxes, (N, 4) xyxy in photo pixels. Knows no nets, photos or files.

The odd `+ 1`s are MTCNN's inclusive pixel coordinates, kept so that boxes equal the reference's.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cropfirst.stage1_detect.mtcnn.engines.numba.jit import compiled


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
    within_groups = _keep_here if boxes.device.type == "cpu" else _nms_far_apart
    kept = within_groups(boxes, scores, groups, threshold)
    return kept[scores[kept].sort(descending=True, stable=True).indices]


def _keep_here(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Kept indices, rising, on the CPU."""
    kept = _keep(boxes.numpy(), scores.numpy(), groups.numpy(), threshold, by_smaller=False)
    return torch.from_numpy(np.sort(kept))


def _nms_far_apart(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Kept indices, rising. All groups in one kernel and without a host sync: each is moved out of
    reach of the others, in float64, so that no fraction of a pixel is lost."""
    # Imported late: it takes longer than all else that a run over an unchanged cache does.
    from torchvision.ops import nms

    far = groups.double() * (boxes.max() - boxes.min() + 1).double()
    return nms(boxes.double() + far[:, None], scores.double(), threshold).sort().values


def nms_min(
    boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float
) -> np.ndarray:
    """NMS by intersection over the smaller area ("Min"), within each group.

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
    """Indices kept, by group and then by falling score; of equal scores the first comes first."""
    order = np.lexsort((-scores, groups))
    boxes = np.ascontiguousarray(boxes[order], dtype=np.float32)
    return order[_greedy(boxes, groups[order], np.float32(threshold), by_smaller)]


@compiled
def _greedy(
    boxes: np.ndarray, groups: np.ndarray, threshold: float, by_smaller: bool
) -> np.ndarray:
    """(N,) bool: boxes that no better one of their group that is kept covers; best come first.

    One call for all groups: with torchvision's, one each, more time went into calls than boxes.
    """
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

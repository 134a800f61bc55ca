"""Pure functions on boxes, (N, 4) xyxy in photo pixels. They know no networks, photos or files.

The odd `+ 1`s are MTCNN's inclusive pixel coordinates, kept so that boxes equal the reference's.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from cropfirst.core.faces import boxes as faces_boxes
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
    kept = faces_boxes.nms_iou(
        boxes.numpy(), scores.numpy(), groups.numpy(), threshold, suppressor=_suppress()
    )
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
    """Apply `core.faces.boxes.nms_min` by compiled code where Numba runs."""
    return faces_boxes.nms_min(boxes, scores, groups, threshold, suppressor=_suppress())


@cache
def _suppress() -> faces_boxes.Suppressor:
    """Return the compiled form of `suppress` where Numba runs, else the one of NumPy."""
    if numba_problem() is not None:
        return faces_boxes.suppress
    from cropfirst.stage1_detect.mtcnn.engines.numba import nms

    suppressor: faces_boxes.Suppressor = nms.suppress
    return suppressor

"""Test-time augmentation: transforms of the same crops, whose probabilities are averaged.

Pure functions over batches of crops. Knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from cropfirst.core.errors import TrainError

Transform = Callable[[Tensor], Tensor]
TTA_KINDS = ("flip", "scale")
"""flip = mirrored crops too; scale = crops zoomed out and in too."""
ZOOMS = (1.0, 0.9, 1.1)


def build_tta(kinds: Sequence[str]) -> tuple[Transform, ...]:
    """Return all combinations of the kinds; the first transform changes nothing.

    Args:
        kinds: some of `TTA_KINDS`; () = no augmentation, one transform that changes nothing.

    Raises:
        TrainError: a kind that does not exist.
    """
    unknown = [kind for kind in kinds if kind not in TTA_KINDS]
    if unknown:
        raise TrainError(f"--tta takes {' and '.join(TTA_KINDS)}, with commas, got {unknown[0]!r}")
    zooms = ZOOMS if "scale" in kinds else ZOOMS[:1]
    flips = (False, True) if "flip" in kinds else (False,)
    return tuple(_transform(zoom, flip=flip) for zoom in zooms for flip in flips)


def zoom_crops(crops: Tensor, zoom: float) -> Tensor:
    """Magnify (N, H, W, 3) crops about their centre, with their border repeated outside.

    Returns:
        (N, H, W, 3) float32, 0-255.
    """
    images = crops.permute(0, 3, 1, 2).float()
    matrix = torch.tensor([[1 / zoom, 0, 0], [0, 1 / zoom, 0]], device=images.device)
    grid = affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    zoomed = grid_sample(images, grid, padding_mode="border", align_corners=False)
    return zoomed.permute(0, 2, 3, 1).contiguous()


def _transform(zoom: float, *, flip: bool) -> Transform:
    def transform(crops: Tensor) -> Tensor:
        zoomed = crops if zoom == 1.0 else zoom_crops(crops, zoom)
        return zoomed.flip(2) if flip else zoomed

    return transform

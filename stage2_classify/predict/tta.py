"""Test-time augmentation: the same crops seen several ways, whose answers are averaged.

Pure functions over batches of crops. Knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from cropfirst.core.errors import TrainError

View = Callable[[Tensor], Tensor]
KINDS = ("flip", "scale")
"""flip = mirrored too; scale = nearer and further away too."""
ZOOMS = (1.0, 0.9, 1.1)


def build_views(kinds: Sequence[str]) -> tuple[View, ...]:
    """All combinations of the kinds, the crop as it is first; () is that alone.

    Raises:
        TrainError: a kind that does not exist.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise TrainError(f"--tta wants {' and '.join(KINDS)}, with commas, got {unknown[0]!r}")
    zooms = ZOOMS if "scale" in kinds else ZOOMS[:1]
    flips = (False, True) if "flip" in kinds else (False,)
    return tuple(_view(zoom, flip=flip) for zoom in zooms for flip in flips)


def zoomed(crops: Tensor, zoom: float) -> Tensor:
    """(N, H, W, 3) crops magnified about their middle; what comes in from outside is the edge's.

    Returns:
        float32, 0-255, of the same shape.
    """
    images = crops.permute(0, 3, 1, 2).float()
    matrix = torch.tensor([[1 / zoom, 0, 0], [0, 1 / zoom, 0]], device=images.device)
    grid = affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    seen = grid_sample(images, grid, padding_mode="border", align_corners=False)
    return seen.permute(0, 2, 3, 1).contiguous()


def _view(zoom: float, *, flip: bool) -> View:
    def view(crops: Tensor) -> Tensor:
        seen = crops if zoom == 1.0 else zoomed(crops, zoom)
        return seen.flip(2) if flip else seen

    return view

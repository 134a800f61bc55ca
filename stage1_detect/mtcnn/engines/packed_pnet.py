"""P-Net for engines that see all levels of a group of photos on canvases (`pyramid.canvas`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from cropfirst.core.prefetch import in_slices
from cropfirst.stage1_detect.mtcnn.engines.base import PhotoBatch
from cropfirst.stage1_detect.mtcnn.pyramid.canvas import Canvas, map_canvases, plan_canvases
from cropfirst.stage1_detect.mtcnn.pyramid.integral import fill_canvases
from cropfirst.stage1_detect.mtcnn.pyramid.levels import Tile

CANVASES_PER_PASS = {"cpu": 1, "cuda": 256}
"""Number of canvases that P-Net takes at once."""
_GROUP_PIXELS = {"cpu": 1_000_000, "cuda": 32_000_000}


class PackedPNet:
    """Base class of an engine whose P-Net takes canvases: `run_canvases` is the engine's own."""

    device: torch.device

    @property
    def group_pixels(self) -> int:
        """See `Engine`."""
        return _GROUP_PIXELS[self.device.type]

    def run_canvases(self, canvases: Tensor) -> Tensor:
        """Run P-Net. (N, H, W, 4) -> (N, H/2 - 5, W/2 - 5, 5) float32: logit, offsets."""
        raise NotImplementedError

    def run_pnet_on_windows(self, windows: Tensor) -> Tensor:
        """See `Engine`."""
        return self.run_canvases(functional.pad(windows, (0, 1))).view(-1, 5)

    def run_pnet(
        self, images: PhotoBatch, strips: Sequence[Tile], min_logit: float
    ) -> tuple[Tensor, Tensor]:
        """See `Engine`."""
        outputs, positions = [], []
        pixels = images.resize_strips(strips)
        for source, position in _canvas_maps(tuple(strips), self.device):
            output = self.run_canvases(fill_canvases(pixels, source)).view(-1, 5)
            hit = ((output[:, 0] > min_logit) & (position >= 0)).nonzero()[:, 0]
            outputs.append(output[hit])
            positions.append(position[hit])
        return torch.cat(outputs), torch.cat(positions)


@lru_cache(maxsize=4)
def _canvas_maps(strips: tuple[Tile, ...], device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Return sources and flat positions of a group's canvases on the device; photos of the same
    shapes have the same ones."""
    by_shape: dict[tuple[int, int], list[Canvas]] = defaultdict(list)
    for canvas in plan_canvases(strips):
        by_shape[canvas.height, canvas.width].append(canvas)
    most = CANVASES_PER_PASS[device.type]
    parts = [part for canvases in by_shape.values() for part in in_slices(canvases, most)]
    maps = [map_canvases(part, strips) for part in parts]
    return [
        (
            torch.from_numpy(each.source).to(device),
            torch.from_numpy(each.position).view(-1).to(device),
        )
        for each in maps
    ]

"""P-Net for engines that see all levels of a group of photos on canvases (`canvas`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from cropfirst.core.prefetch import in_slices
from cropfirst.stage1_detect.mtcnn.engines.base import PhotoBatch
from cropfirst.stage1_detect.mtcnn.pyramid.canvas import Canvas, Piece, map_canvases, plan_canvases
from cropfirst.stage1_detect.mtcnn.pyramid.integral import draw_canvases

CANVASES_PER_PASS = {"cpu": 1, "cuda": 256}
"""P-Net inputs at once."""
_GROUP_PIXELS = {"cpu": 1_000_000, "cuda": 32_000_000}


class OnCanvases:
    """What such an engine needs beside its nets."""

    device: torch.device

    @property
    def group_pixels(self) -> int:
        """See `engines.Engine`."""
        return _GROUP_PIXELS[self.device.type]

    def propose(self, canvases: Tensor) -> Tensor:
        """P-Net. (N, H, W, 4) -> (N, H/2 - 5, W/2 - 5, 5) float32: logit, offsets."""
        raise NotImplementedError

    def cells(self, pictures: Tensor) -> Tensor:
        """See `engines.Engine`."""
        return self.propose(functional.pad(pictures, (0, 1))).view(-1, 5)

    def scan(
        self, images: PhotoBatch, strips: Sequence[Piece], least: float
    ) -> tuple[Tensor, Tensor]:
        """See `engines.Engine`."""
        outputs, places = [], []
        pixels = images.draw_strips(strips)
        for source, place in _canvas_maps(tuple(strips), self.device):
            cells = self.propose(draw_canvases(pixels, source)).view(-1, 5)
            hit = ((cells[:, 0] > least) & (place >= 0)).nonzero()[:, 0]
            outputs.append(cells[hit])
            places.append(place[hit])
        return torch.cat(outputs), torch.cat(places)


@lru_cache(maxsize=4)
def _canvas_maps(strips: tuple[Piece, ...], device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Sources and flat places of a group's canvases on the device; photos of the same shapes come
    to the same ones."""
    by_shape: dict[tuple[int, int], list[Canvas]] = defaultdict(list)
    for canvas in plan_canvases(strips):
        by_shape[canvas.height, canvas.width].append(canvas)
    most = CANVASES_PER_PASS[device.type]
    parts = [part for canvases in by_shape.values() for part in in_slices(canvases, most)]
    maps = [map_canvases(part, strips) for part in parts]
    return [
        (torch.from_numpy(each.source).to(device), torch.from_numpy(each.place).view(-1).to(device))
        for each in maps
    ]

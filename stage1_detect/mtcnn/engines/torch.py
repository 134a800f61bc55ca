"""The engine that runs the networks in PyTorch, on any device.

P-Net sees all levels of a group of photos packed onto canvases (`pyramid.canvas`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from cropfirst.core.prefetch import in_slices
from cropfirst.stage1_detect.mtcnn.engines.base import PhotoBatch
from cropfirst.stage1_detect.mtcnn.nets.fused_weights import Conv, FusedNets
from cropfirst.stage1_detect.mtcnn.pyramid.canvas import Canvas, map_canvases, plan_canvases
from cropfirst.stage1_detect.mtcnn.pyramid.integral import fill_canvases
from cropfirst.stage1_detect.mtcnn.pyramid.levels import Tile

CANVASES_PER_PASS = {"cpu": 1, "cuda": 256}
"""Number of canvases that P-Net takes at once."""
_GROUP_PIXELS = {"cpu": 1_000_000, "cuda": 32_000_000}
_CPU_BATCH = 32
"""Number of crops that go through R- or O-Net at once on a CPU."""


class TorchEngine:
    """The networks in PyTorch, channels last.

    Args:
        half: run float16 convolutions, which halves the memory traffic; CUDA only.
    """

    name = "torch"

    def __init__(self, nets: FusedNets, *, device: torch.device, half: bool = False) -> None:
        self.device = device
        self.dtype = torch.float16 if half else torch.float32
        self._first = self._conv(nets.pnet.first)
        self._negated_channels = self._tensor(nets.pnet.negated_channels)[:, :, None, None]
        self._slope = self._tensor(nets.pnet.slope)
        self._rest = [self._conv(each) for each in nets.pnet.rest]
        self._rnet = [self._conv(each) for each in nets.rnet]
        self._onet = [self._conv(each) for each in nets.onet]

    @property
    def group_pixels(self) -> int:
        """See `Engine`."""
        return _GROUP_PIXELS[self.device.type]

    def run_pnet(
        self, images: PhotoBatch, strips: Sequence[Tile], min_logit: float
    ) -> tuple[Tensor, Tensor]:
        """See `Engine`."""
        outputs, positions = [], []
        pixels = images.resize_strips(strips)
        for source, position in _canvas_maps(tuple(strips), self.device):
            output = self._run_canvases(fill_canvases(pixels, source)).view(-1, 5)
            hit = ((output[:, 0] > min_logit) & (position >= 0)).nonzero()[:, 0]
            outputs.append(output[hit])
            positions.append(position[hit])
        return torch.cat(outputs), torch.cat(positions)

    def run_pnet_on_windows(self, windows: Tensor) -> Tensor:
        """See `Engine`."""
        return self._run_canvases(functional.pad(windows, (0, 1))).view(-1, 5)

    def run_rnet(self, crops: Tensor) -> Tensor:
        """See `Engine`."""
        return self._run(self._rnet, crops)

    def run_onet(self, crops: Tensor) -> Tensor:
        """See `Engine`."""
        return self._run(self._onet, crops)

    def _run_canvases(self, canvases: Tensor) -> Tensor:
        """Run P-Net. (N, H, W, 4) -> (N, H/2 - 5, W/2 - 5, 5) float32: logit, offsets."""
        x = self._first(self._channels_first(canvases))
        x = torch.maximum(x, functional.conv2d(x, self._negated_channels))
        x = functional.prelu(x, self._slope)
        for conv in self._rest:
            x = conv(x)
        return x.permute(0, 2, 3, 1).float()

    def _run(self, convs: list[_TorchConv], crops: Tensor) -> Tensor:
        # On a CPU the activations are to stay in the core's own cache.
        at_once = _CPU_BATCH if self.device.type == "cpu" else max(1, len(crops))
        parts = []
        for x in self._channels_first(crops).split(at_once):
            for conv in convs:
                x = conv(x)
            parts.append(x.flatten(1).float())
        return torch.cat(parts)

    def _channels_first(self, images: Tensor) -> Tensor:
        """View (N, H, W, C) as (N, C, H, W) in the engine's dtype."""
        return images.permute(0, 3, 1, 2).to(self.dtype)

    def _tensor(self, array: object) -> Tensor:
        return torch.as_tensor(array, dtype=self.dtype, device=self.device)

    def _conv(self, conv: Conv) -> _TorchConv:
        return _TorchConv(
            self._tensor(conv.weight).contiguous(memory_format=torch.channels_last),
            self._tensor(conv.bias),
            None if conv.slope is None else self._tensor(conv.slope),
            conv.pool,
        )


class _TorchConv:
    """A `Conv` on the engine's device."""

    def __init__(self, weight: Tensor, bias: Tensor, slope: Tensor | None, pool: int) -> None:
        self.weight, self.bias, self.slope, self.pool = weight, bias, slope, pool

    def __call__(self, x: Tensor) -> Tensor:
        x = functional.conv2d(x, self.weight, self.bias)
        if self.slope is not None:
            x = functional.prelu(x, self.slope)
        if self.pool:
            x = functional.max_pool2d(x, self.pool, stride=2, ceil_mode=True)
        return x


@lru_cache(maxsize=4)
def _canvas_maps(strips: tuple[Tile, ...], device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Return sources and flat positions of a group's canvases on the device.

    Photos of the same shapes have the same ones.
    """
    by_shape: dict[tuple[int, int], list[Canvas]] = defaultdict(list)
    for canvas in plan_canvases(strips):
        by_shape[canvas.height, canvas.width].append(canvas)
    most = CANVASES_PER_PASS[device.type]
    maps = [
        map_canvases(part, strips)
        for canvases in by_shape.values()
        for part in in_slices(canvases, most)
    ]
    return [
        (
            torch.from_numpy(each.source).to(device),
            torch.from_numpy(each.position).view(-1).to(device),
        )
        for each in maps
    ]

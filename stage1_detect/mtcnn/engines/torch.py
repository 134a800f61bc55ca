"""The engine that runs the networks in PyTorch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cropfirst.stage1_detect.mtcnn.engines.packed_pnet import PackedPNet
from cropfirst.stage1_detect.mtcnn.nets.fused_weights import Conv, FusedNets

_CPU_BATCH = 32
"""Number of crops that go through R- or O-Net at once on a CPU."""


class TorchEngine(PackedPNet):
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

    def run_canvases(self, canvases: Tensor) -> Tensor:
        """See `PackedPNet`."""
        x = self._first(self._channels_first(canvases))
        x = torch.maximum(x, functional.conv2d(x, self._negated_channels))
        x = functional.prelu(x, self._slope)
        for conv in self._rest:
            x = conv(x)
        return x.permute(0, 2, 3, 1).float()

    def run_rnet(self, crops: Tensor) -> Tensor:
        """See `Engine`."""
        return self._run(self._rnet, crops)

    def run_onet(self, crops: Tensor) -> Tensor:
        """See `Engine`."""
        return self._run(self._onet, crops)

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

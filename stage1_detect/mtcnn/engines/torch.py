"""The engine that runs the networks in PyTorch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cropfirst.stage1_detect.mtcnn.engines.packed_pnet import OnCanvases
from cropfirst.stage1_detect.mtcnn.nets.fused_weights import Conv, FoldedNets

_CPU_BATCH = 32
"""Pictures that go through R- or O-Net at once."""


class TorchEngine(OnCanvases):
    """The nets in PyTorch, channels last.

    Args:
        half: float16 convolutions; wants a CUDA device, where it halves the traffic.
    """

    name = "torch"

    def __init__(self, nets: FoldedNets, *, device: torch.device, half: bool = False) -> None:
        self.device = device
        self.dtype = torch.float16 if half else torch.float32
        self._first = self._layer(nets.pnet.first)
        self._twins = self._tensor(nets.pnet.twins)[:, :, None, None]
        self._slope = self._tensor(nets.pnet.slope)
        self._rest = [self._layer(each) for each in nets.pnet.rest]
        self._rnet = [self._layer(each) for each in nets.rnet]
        self._onet = [self._layer(each) for each in nets.onet]

    def propose(self, canvases: Tensor) -> Tensor:
        x = self._first(self._planes(canvases))
        x = torch.maximum(x, functional.conv2d(x, self._twins))
        x = functional.prelu(x, self._slope)
        for layer in self._rest:
            x = layer(x)
        return x.permute(0, 2, 3, 1).float()

    def refine(self, crops: Tensor) -> Tensor:
        return self._run(self._rnet, crops)

    def decide(self, crops: Tensor) -> Tensor:
        return self._run(self._onet, crops)

    def _run(self, layers: list[_Layer], crops: Tensor) -> Tensor:
        # On a CPU what lies between two layers is to stay in the core's own cache.
        at_once = _CPU_BATCH if self.device.type == "cpu" else max(1, len(crops))
        parts = []
        for x in self._planes(crops).split(at_once):
            for layer in layers:
                x = layer(x)
            parts.append(x.flatten(1).float())
        return torch.cat(parts)

    def _planes(self, pictures: Tensor) -> Tensor:
        """(N, H, W, C) as (N, C, H, W) without moving a byte."""
        return pictures.permute(0, 3, 1, 2).to(self.dtype)

    def _tensor(self, array: object) -> Tensor:
        return torch.as_tensor(array, dtype=self.dtype, device=self.device)

    def _layer(self, conv: Conv) -> _Layer:
        return _Layer(
            self._tensor(conv.weight).contiguous(memory_format=torch.channels_last),
            self._tensor(conv.bias),
            None if conv.slope is None else self._tensor(conv.slope),
            conv.pool,
        )


class _Layer:
    def __init__(self, weight: Tensor, bias: Tensor, slope: Tensor | None, pool: int) -> None:
        self.weight, self.bias, self.slope, self.pool = weight, bias, slope, pool

    def __call__(self, x: Tensor) -> Tensor:
        x = functional.conv2d(x, self.weight, self.bias)
        if self.slope is not None:
            x = functional.prelu(x, self.slope)
        if self.pool:
            x = functional.max_pool2d(x, self.pool, stride=2, ceil_mode=True)
        return x

"""What runs the three nets: code compiled for this CPU, OpenVINO on the CPU, PyTorch on any device.

An engine takes pictures, channels last, and gives raw numbers; what they mean is the cascade's
business. Every engine gives the same numbers but for the last bits; a test holds each to the same
boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from cropfirst.cache.errors import DetectError
from cropfirst.stage1_detect.canvas import Piece
from cropfirst.stage1_detect.folded import Conv, FoldedNets, fold
from cropfirst.stage1_detect.nets import load_tensors
from cropfirst.stage1_detect.on_canvases import OnCanvases

if TYPE_CHECKING:
    from cropfirst.stage1_detect.mtcnn import Pictures

_CPU_BATCH = 32
"""Pictures that go through R- or O-Net at once."""
EngineName = Literal["auto", "numba", "openvino", "torch"]


class Engine(Protocol):
    """The three nets. One instance may be used by several threads."""

    name: str
    device: torch.device

    @property
    def group_pixels(self) -> int:
        """Pixels of pyramid levels that `scan` does best with (one strip may be more)."""

    def scan(
        self, images: Pictures, strips: Sequence[Piece], least: float
    ) -> tuple[Tensor, Tensor]:
        """P-Net over strips of levels: (N, 5) float32 logit and offsets of the cells whose logit is
        above `least`, and their (N,) int64 places (`canvas.pack_place`), in any order."""

    def cells(self, pictures: Tensor) -> Tensor:
        """P-Net on what single cells see. (N, 12, 12, 3) -> (N, 5) float32: logit, offsets."""

    def refine(self, crops: Tensor) -> Tensor:
        """R-Net. (N, 24, 24, 3) -> (N, 5) float32: logit, offsets."""

    def decide(self, crops: Tensor) -> Tensor:
        """O-Net. (N, 48, 48, 3) -> (N, 15) float32: logit, offsets, landmarks (five x, five y)."""


def resolve_engine(name: EngineName, device: str) -> Literal["numba", "openvino", "torch"]:
    """`auto` is Numba on the CPU, PyTorch elsewhere.

    Raises:
        DetectError: the engine is not installed, or cannot run on that device.
    """
    on_cpu = torch.device(device).type == "cpu"
    if name == "auto":
        return "numba" if on_cpu else "torch"
    if name == "openvino" and find_spec("openvino") is None:
        raise DetectError(
            "--engine openvino wants the package openvino: pip install 'cropfirst[openvino]', "
            "or use --engine numba"
        )
    if name != "torch" and not on_cpu:
        raise DetectError(
            f"--engine {name} runs on the CPU, got --device {device}: "
            "use --engine torch there, or --device cpu"
        )
    return name


def make_engine(name: EngineName, *, weights: str, device: str, half: bool = False) -> Engine:
    """Build an engine with its weights.

    Args:
        weights: `reference` or a .safetensors file.
        half: run the nets in half precision (CUDA alone).

    Raises:
        DetectError: no such weights, or the engine cannot run here.
    """
    resolved = resolve_engine(name, device)
    nets = fold(load_tensors(weights))
    if resolved == "numba":
        from cropfirst.stage1_detect.numba_engine import NumbaEngine

        return NumbaEngine(nets)
    if resolved == "openvino":
        from cropfirst.stage1_detect.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(nets)
    return TorchEngine(nets, device=torch.device(device), half=half)


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

"""The nets in OpenVINO, on the CPU: each shape compiled once, with its layout and fusions fixed.

Shapes are static, since only then does OpenVINO take channels-last pictures without moving them and
choose its fastest kernels; canvases and batches come in few shapes, so few are ever compiled.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import torch
from openvino.preprocess import PrePostProcessor
from torch import Tensor

from cropfirst.stage1_detect.mtcnn.engines.packed_pnet import OnCanvases
from cropfirst.stage1_detect.mtcnn.nets.fused_weights import Conv, FoldedNets

_AT_ONCE = {"rnet": 8, "onet": 4}
"""Pictures in one call at most; more only leave the core's own cache. What is left over is a call
of its own size."""
_CONFIG = {
    "INFERENCE_PRECISION_HINT": "f32",
    "NUM_STREAMS": 1,
    "INFERENCE_NUM_THREADS": 1,
    "ENABLE_CPU_PINNING": False,
}
_FIRST_USE = threading.Lock()
_Requests = dict[tuple[str, tuple[int, ...]], Any]
"""A request for each net and shape that was met."""


class OpenVinoEngine(OnCanvases):
    """The nets in OpenVINO. Each call uses one core; any number of threads may call at once."""

    name = "openvino"
    device = torch.device("cpu")

    def __init__(self, nets: FoldedNets) -> None:
        self._nets = nets
        self._idle: deque[_Requests] = deque()
        # Some of OpenVINO's bindings set themselves up on first use, and do so holding the
        # interpreter: two threads that come to it at once wait for each other for ever.
        with _FIRST_USE:
            self.refine(torch.zeros(1, 24, 24, 3))

    def propose(self, canvases: Tensor) -> Tensor:
        parts = [self._infer("pnet", canvas[None]) for canvas in canvases.numpy()]
        return torch.from_numpy(np.concatenate(parts) if len(parts) > 1 else parts[0])

    def refine(self, crops: Tensor) -> Tensor:
        return self._in_batches("rnet", crops)

    def decide(self, crops: Tensor) -> Tensor:
        return self._in_batches("onet", crops)

    def _in_batches(self, net: str, crops: Tensor) -> Tensor:
        parts = [self._infer(net, part.numpy()) for part in crops.split(_AT_ONCE[net])]
        return torch.from_numpy(np.concatenate(parts).reshape(len(crops), -1))

    def _infer(self, net: str, pictures: np.ndarray) -> np.ndarray:
        """One call on this thread; the result is a copy of its own."""
        shape = pictures.shape
        # Who calls at once has compiled nets of his own: streams of shared ones wait for each other
        # (measured: 185 photos/s on two cores, 217 with this).
        try:
            requests = self._idle.pop()
        except IndexError:
            requests = {}
        try:
            if (net, shape) not in requests:
                requests[net, shape] = self._compile(net, shape).create_infer_request()
            request = requests[net, shape]
            request.infer({0: np.ascontiguousarray(pictures)}, share_inputs=True)
            return np.array(request.get_output_tensor().data)
        finally:
            self._idle.append(requests)

    def _compile(self, net: str, shape: tuple[int, ...]) -> Any:
        build: Callable[[Any], Any] = {
            "pnet": self._build_pnet,
            "rnet": lambda x: _build(x, self._nets.rnet),
            "onet": lambda x: _build(x, self._nets.onet),
        }[net]
        return _core().compile_model(_channels_last(build, shape), "CPU", _CONFIG)

    def _build_pnet(self, x: Any) -> Any:
        pnet = self._nets.pnet
        x = _conv(x, pnet.first)
        twins = ops.convolution(x, pnet.twins[:, :, None, None], [1, 1], [0, 0], [0, 0], [1, 1])
        x = ops.prelu(ops.maximum(twins, x), pnet.slope)
        return _build(x, pnet.rest)


@cache
def _core() -> Any:
    """One for as long as the process lives.

    The CPU plugin gives the thread that loads it a signal stack, and frees that stack in whichever
    thread lets go of the plugin last: the next Ctrl-C then ended the process without a word
    (OpenVINO 2026.4.1).
    """
    return ov.Core()


def _channels_last(build: Callable[[Any], Any], shape: tuple[int, ...]) -> Any:
    """A model of one static shape that takes and gives channels-last arrays."""
    n, h, w, c = shape
    x = ops.parameter([n, c, h, w], np.float32)
    prepost = PrePostProcessor(ov.Model([ops.result(build(x))], [x]))
    for side in (prepost.input(), prepost.output()):
        side.tensor().set_layout(ov.Layout("NHWC"))
        side.model().set_layout(ov.Layout("NCHW"))
    return prepost.build()


def _build(x: Any, layers: tuple[Conv, ...]) -> Any:
    for layer in layers:
        x = _conv(x, layer)
    return x


def _conv(x: Any, layer: Conv) -> Any:
    x = ops.convolution(x, layer.weight, [1, 1], [0, 0], [0, 0], [1, 1])
    x = ops.add(x, layer.bias.reshape(1, -1, 1, 1))
    if layer.slope is not None:
        x = ops.prelu(x, layer.slope)
    if layer.pool:
        side = [layer.pool, layer.pool]
        x = ops.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], side, "ceil").output(0)
    return x

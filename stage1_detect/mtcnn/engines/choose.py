"""The choice of an engine by name and device."""

from __future__ import annotations

from typing import Literal

import torch

from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.mtcnn.engines.base import Engine, EngineName
from cropfirst.stage1_detect.mtcnn.engines.torch import TorchEngine
from cropfirst.stage1_detect.mtcnn.nets.fused_weights import fold
from cropfirst.stage1_detect.mtcnn.nets.modules import load_tensors


def resolve_engine(name: EngineName, device: str) -> Literal["numba", "torch"]:
    """`auto` is Numba on the CPU, PyTorch elsewhere.

    Raises:
        DetectError: the engine is not installed, or cannot run on that device.
    """
    on_cpu = torch.device(device).type == "cpu"
    if name == "auto":
        return "numba" if on_cpu else "torch"
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
        from cropfirst.stage1_detect.mtcnn.engines.numba.engine import NumbaEngine

        return NumbaEngine(nets)
    return TorchEngine(nets, device=torch.device(device), half=half)

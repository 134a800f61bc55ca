"""The choice of an engine by name and device."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.mtcnn.engines.base import Engine, EngineName, PhotoBatch
from cropfirst.stage1_detect.mtcnn.engines.joined import JoinedEngine
from cropfirst.stage1_detect.mtcnn.engines.numba.available import numba_problem
from cropfirst.stage1_detect.mtcnn.engines.torch import TorchEngine
from cropfirst.stage1_detect.mtcnn.nets.fused_weights import fuse
from cropfirst.stage1_detect.mtcnn.nets.modules import JOINED_PARTS, is_joined, load_tensors
from cropfirst.stage1_detect.mtcnn.pyramid.integral import IntegralImages


def resolve_engine(name: EngineName, device: str) -> Literal["numba", "torch"]:
    """Return the engine that runs: for `auto`, Numba on the CPU where it can run, else PyTorch.

    Raises:
        DetectError: the engine cannot run on that device or in this environment.
    """
    on_cpu = torch.device(device).type == "cpu"
    if name == "auto":
        return "numba" if on_cpu and numba_problem() is None else "torch"
    if name == "numba" and not on_cpu:
        raise DetectError(
            f"--engine numba runs on the CPU, got --device {device}: "
            "use --engine torch there, or --device cpu"
        )
    if name == "numba" and numba_problem() is not None:
        raise DetectError(
            f"--engine numba cannot run here ({numba_problem()}): install a working numba with "
            "pip install --upgrade numba llvmlite, or use --engine torch"
        )
    return name


def slow_engine_note(name: EngineName, device: str) -> str | None:
    """Return a line for the user if `auto` gives PyTorch on the CPU because Numba cannot run."""
    if name != "auto" or torch.device(device).type != "cpu" or numba_problem() is None:
        return None
    return (
        f"Numba cannot run here ({numba_problem()}): faces are detected with PyTorch on the CPU, "
        "which gives the same boxes and takes several times as long"
    )


def make_engine(name: EngineName, *, weights: str, device: str, half: bool = False) -> Engine:
    """Build an engine with its weights.

    Warns where `auto` falls back to PyTorch on the CPU.

    Args:
        weights: `reference`, `masked`, `joined` (both), `auto` (the same) or a .safetensors file.
        half: run the networks in half precision (CUDA only).

    Raises:
        DetectError: no such weights, or the engine cannot run here.
    """
    resolved = resolve_engine(name, device)
    note = slow_engine_note(name, device)
    if note is not None:
        warnings.warn(note, stacklevel=3)
    if is_joined(weights):
        return JoinedEngine(*(_build(resolved, name, device, half) for name in JOINED_PARTS))
    return _build(resolved, weights, device, half)


def _build(name: str, weights: str, device: str, half: bool) -> Engine:
    nets = fuse(load_tensors(weights))
    if name == "numba":
        from cropfirst.stage1_detect.mtcnn.engines.numba.engine import NumbaEngine

        return NumbaEngine(nets)
    return TorchEngine(nets, device=torch.device(device), half=half)


def load_photos(photos: Sequence[np.ndarray], device: torch.device) -> PhotoBatch:
    """Return the photos in the form that is read fastest on the device.

    Args:
        photos: contiguous (H, W, 3) uint8 RGB arrays of any sizes.
    """
    if device.type == "cpu" and numba_problem() is None:
        from cropfirst.stage1_detect.mtcnn.engines.numba.area import RawPhotos

        return RawPhotos.from_photos(photos)
    return IntegralImages.from_photos(photos, device)

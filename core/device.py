"""Choose the device and precision of computations. Knows nothing of models or data.

The functions import torch, so that importing this module does not.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

from cropfirst.core.errors import DeviceError, TrainError

if TYPE_CHECKING:
    import torch

Amp = Literal["auto", "off", "bf16", "fp16"]


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:N` names.

    Raises:
        DeviceError: the machine has no such device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or (index and not index.isdigit()):
        raise DeviceError(f"--device expects auto, cpu, cuda or cuda:N, got {name!r}")
    if not torch.cuda.is_available():
        why = "this torch is built without CUDA" if not torch.version.cuda else "no GPU is visible"
        raise DeviceError(f"--device {name} was asked for but {why}: use --device cpu or auto")
    count = torch.cuda.device_count()
    if index and int(index) >= count:
        raise DeviceError(f"--device {name}: this machine has {count} GPU(s), counted from cuda:0")
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """Describe a device, for example "cuda (NVIDIA H100)" or "cpu (2 threads)"."""
    import torch

    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)"


def resolve_amp(amp: Amp, device: torch.device) -> torch.dtype | None:
    """Return the type to autocast to; None means plain float32.

    Raises:
        TrainError: fp16 on the CPU, or bf16 on a GPU without it.
    """
    import torch

    has_bf16 = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    if amp == "auto":
        return torch.bfloat16 if device.type == "cuda" and has_bf16 else None
    if amp == "fp16" and device.type == "cpu":
        raise TrainError("optim.amp=fp16 needs a GPU: use auto, off or bf16 on the CPU")
    if amp == "bf16" and not has_bf16:
        raise TrainError("optim.amp=bf16: this GPU has no bfloat16; use fp16, off or auto")
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Return a context that autocasts to `dtype` on `device`; None does nothing."""
    import torch

    if dtype is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)

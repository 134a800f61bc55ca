"""AdamW, its learning rate, and its state as plain tensors.

Knows parameters and steps; knows nothing of folds, epochs or files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cropfirst.stage2_classify.models import Classifier


def build_optimizer(model: Classifier, *, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW with no weight decay for norms, biases and what the backbone exempts itself."""
    exempt = {f"backbone.{name}" for name in getattr(model.backbone, "no_weight_decay", set)()}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (plain if parameter.ndim <= 1 or name in exempt else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr)


def cosine_lr(step: int, *, base_lr: float, total_steps: int, warmup_steps: int) -> float:
    """Learning rate of one step, counted from 0: linear up, then half a cosine down to 0."""
    if step < warmup_steps:
        return base_lr * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return base_lr * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as {"<parameter>.<name>": tensor on the CPU}."""
    return {
        f"{index}.{name}": value.detach().to("cpu").contiguous().clone()
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, to the last bit and in the parameters' layout."""
    parameters: list[nn.Parameter] = [p for g in optimizer.param_groups for p in g["params"]]
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        # A moment must lie in memory like its parameter (channels_last), or other kernels would
        # be picked, with other rounding. `step` is a scalar that AdamW keeps on the CPU.
        if value.shape == parameter.shape and name != "step":
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        optimizer.state[parameter][name] = value

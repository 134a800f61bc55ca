"""Optimizers and learning rates from timm's factories, and their state as plain tensors.

Knows parameters and steps; knows nothing of folds, losses or files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import OptimConfig

FUSED = ("adamw", "adam", "sgd")
"""One kernel for a whole step; the others have none."""


def backbones(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What of a classifier is backbone, with the prefix of its parameters' names."""
    for name, child in model.named_children():
        if name == "backbone":
            yield f"{name}.", child
        elif name == "backbones":
            for inner, part in child.named_children():
                yield f"{name}.{inner}.", part


def build_optimizer(model: nn.Module, settings: OptimConfig) -> torch.optim.Optimizer:
    """An optimizer by timm, without weight decay for norms, biases and what a backbone exempts.

    Raises:
        TrainError: layer decay for a backbone that does not know its layers.
    """
    from timm.optim import create_optimizer_v2

    # Fused SGD cannot take in weights that were frozen in its first steps.
    thaws = settings.optimizer == "sgd" and settings.freeze_epochs > 0
    options = {"fused": True} if settings.optimizer in FUSED and not thaws else {}
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        _parameter_groups(model, settings),
        opt=settings.optimizer,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        **options,
    )
    return optimizer


def set_frozen(model: nn.Module, frozen: bool) -> None:
    """Freeze the backbone, or thaw it. A frozen one also keeps the statistics of its batch norm.

    Call after `model.train()`, which would set them going again.
    """
    for _, part in backbones(model):
        part.requires_grad_(not frozen)
        if frozen:
            part.eval()


class Schedule:
    """The learning rate of every update; timm's schedulers, which follow from the update alone.

    timm's plateau is deprecated and cannot be resumed, since it saves its counters nowhere; torch's
    can, and stands in for it.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, settings: OptimConfig, *, updates_per_epoch: int
    ) -> None:
        from timm.scheduler import create_scheduler_v2

        self._optimizer = optimizer
        self._settings = settings
        n_warmup = round(settings.warmup_epochs * updates_per_epoch)
        n_all = settings.epochs * updates_per_epoch
        flat = settings.schedule in ("plateau", "constant")
        self._inner: Any = create_scheduler_v2(
            optimizer,
            sched="constant" if flat else settings.schedule,
            # The warmup comes first and is counted within the epochs.
            num_epochs=max(n_all - n_warmup, 2),
            decay_epochs=settings.decay_epochs * updates_per_epoch,
            decay_rate=settings.decay_rate,
            min_lr=settings.min_lr,
            warmup_epochs=n_warmup,
            warmup_lr=settings.lr / max(n_warmup, 1),
            warmup_prefix=True,
            step_on_epochs=False,
            updates_per_epoch=1,
        )[0]
        self._plateau = _Plateau(settings) if settings.schedule == "plateau" else None
        self.lr = settings.lr

    def set_update(self, update: int) -> None:
        """Set the learning rates for an update, counted from 0 over all epochs."""
        self._inner.step_update(update)
        scales = [float(group.get("lr_scale", 1.0)) for group in self._optimizer.param_groups]
        if self._plateau is not None:
            for group, scale in zip(self._optimizer.param_groups, scales, strict=True):
                least = self._settings.min_lr * scale
                group["lr"] = max(group["lr"] * self._plateau.factor, min(group["lr"], least))
        first = self._optimizer.param_groups[0]
        self.lr = float(first["lr"]) / scales[0]

    def end_epoch(self, metric: float) -> None:
        """Tell how the epoch went; only plateau listens. Higher is better."""
        if self._plateau is not None:
            self._plateau.step(metric)

    def state(self) -> dict[str, float]:
        """What a resumed run must know, JSON-able."""
        return {} if self._plateau is None else self._plateau.state()

    def load_state(self, state: Mapping[str, float]) -> None:
        """Put back what `state` gave."""
        if self._plateau is not None and state:
            self._plateau.load_state(state)


class _Plateau:
    """torch's ReduceLROnPlateau on a learning rate of 1: what the others are multiplied by."""

    KEYS = ("best", "num_bad_epochs", "last_epoch")

    def __init__(self, settings: OptimConfig) -> None:
        self._unit = torch.optim.SGD([torch.zeros(())], lr=1.0)
        self._inner = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._unit, mode="max", factor=settings.decay_rate, patience=settings.patience
        )

    @property
    def factor(self) -> float:
        return float(self._unit.param_groups[0]["lr"])

    def step(self, metric: float) -> None:
        self._inner.step(metric)

    def state(self) -> dict[str, float]:
        values = {key: getattr(self._inner, key) for key in self.KEYS}
        finite = {key: value for key, value in values.items() if math.isfinite(value)}
        return {**finite, "factor": self.factor}

    def load_state(self, state: Mapping[str, float]) -> None:
        for key in self.KEYS:
            if key in state:
                setattr(self._inner, key, state[key])
        self._unit.param_groups[0]["lr"] = state["factor"]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as {"<parameter>.<name>": tensor on the CPU}; `:int` marks a number."""
    tensors = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value.detach().to("cpu").contiguous().clone()
            elif isinstance(value, int):
                tensors[f"{index}.{name}:int"] = torch.tensor(value)
    return tensors


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, to the last bit and in the parameters' layout."""
    parameters: list[nn.Parameter] = []
    fused: list[bool] = []
    for group in optimizer.param_groups:
        parameters += group["params"]
        fused += [bool(group.get("fused"))] * len(group["params"])
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        name, _, number = name.partition(":")
        if number:
            optimizer.state[parameter][name] = int(value)
            continue
        # A moment must lie in memory like its parameter (channels_last), or other kernels would
        # be picked, with other rounding. `step` is a scalar that lies where the kernel wants it.
        if name == "step":
            value = value.to(parameter.device) if fused[int(index)] else value
        elif value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        optimizer.state[parameter][name] = value


def _parameter_groups(model: nn.Module, settings: OptimConfig) -> list[dict[str, Any]]:
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay

    parts = list(backbones(model))
    exempt = {prefix + name for prefix, part in parts for name in _exempt(part)}
    if settings.layer_decay is None:
        groups: list[dict[str, Any]] = param_groups_weight_decay(
            model, settings.weight_decay, no_weight_decay_list=exempt
        )
        return groups
    groups = []
    for _, part in parts:
        if not hasattr(part, "group_matcher"):
            raise TrainError(
                f"optim.layer_decay: a {type(part).__name__} does not say which layers it has; "
                "leave it at null, or take another --backbone"
            )
        groups += param_groups_layer_decay(
            part,
            settings.weight_decay,
            no_weight_decay_list=_exempt(part),
            layer_decay=settings.layer_decay,
        )
    heads = _Others(model)
    top = param_groups_weight_decay(heads, settings.weight_decay)
    return groups + [{**group, "lr_scale": 1.0} for group in top]


class _Others(nn.Module):
    """A classifier's modules but for its backbones, so that timm can group their parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name, child in model.named_children():
            if name not in ("backbone", "backbones"):
                self.add_module(name, child)
        for name, parameter in model.named_parameters(recurse=False):
            self.register_parameter(name, parameter)


def _exempt(backbone: nn.Module) -> set[str]:
    return set(getattr(backbone, "no_weight_decay", set)())

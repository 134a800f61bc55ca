"""Optimizers and schedules from timm's factories, and their state as plain tensors.

Knows parameters and steps; knows nothing of folds, losses or files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import OptimConfig
from cropfirst.stage2_classify.model.models import Classifier

FUSED = ("adamw", "adam", "sgd")
"""Optimizers that have one fused kernel for a step."""


def build_optimizer(model: Classifier, settings: OptimConfig) -> torch.optim.Optimizer:
    """Build timm's optimizer, without weight decay for norms, biases and exempt parameters.

    Raises:
        TrainError: layer decay for a backbone that does not know its layers.
    """
    from timm.optim import create_optimizer_v2

    # Fused SGD fails on weights that were frozen in its first steps.
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


def set_frozen(model: Classifier, frozen: bool) -> None:
    """Freeze or unfreeze the backbone, with the statistics of its batch norm.

    Call it after `model.train()`, which sets batch norm to training mode.
    """
    backbone = model.backbone
    backbone.requires_grad_(not frozen)
    if frozen:
        backbone.eval()


class Schedule:
    """The learning rate of every update, by timm's schedulers, which depend on the update alone.

    Plateau is torch's: that of timm is deprecated and cannot be resumed.
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
        """Set the learning rates of an update, counted from 0 over all epochs."""
        self._inner.step_update(update)
        scales = [float(group.get("lr_scale", 1.0)) for group in self._optimizer.param_groups]
        if self._plateau is not None:
            for group, scale in zip(self._optimizer.param_groups, scales, strict=True):
                least = self._settings.min_lr * scale
                group["lr"] = max(group["lr"] * self._plateau.factor, min(group["lr"], least))
        first = self._optimizer.param_groups[0]
        self.lr = float(first["lr"]) / scales[0]

    def end_epoch(self, metric: float) -> None:
        """Pass an epoch's score to plateau; higher is better."""
        if self._plateau is not None:
            self._plateau.step(metric)

    def state(self) -> dict[str, float]:
        """Return what a resumed run needs, JSON-able."""
        return {} if self._plateau is None else self._plateau.state()

    def load_state(self, state: Mapping[str, float]) -> None:
        """Restore what `state` returned."""
        if self._plateau is not None and state:
            self._plateau.load_state(state)


class _Plateau:
    """torch's ReduceLROnPlateau on a learning rate of 1, as a factor for other learning rates."""

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
    """Return the optimizer's state as {"<parameter>.<name>": CPU tensor}; `:int` marks numbers."""
    tensors = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value.detach().to("cpu").contiguous().clone()
            elif isinstance(value, int):
                tensors[f"{index}.{name}:int"] = torch.tensor(value)
    return tensors


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` returned, bit for bit and in the parameters' layout."""
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
        # A moment must have its parameter's memory layout (channels_last), or kernels with other
        # rounding would be used. `step` is a scalar, on the device if the kernel is fused.
        if name == "step":
            value = value.to(parameter.device) if fused[int(index)] else value
        elif value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        optimizer.state[parameter][name] = value


def _parameter_groups(model: Classifier, settings: OptimConfig) -> list[dict[str, Any]]:
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay

    backbone = model.backbone
    exempt = set(getattr(backbone, "no_weight_decay", set)())
    if settings.layer_decay is None:
        groups: list[dict[str, Any]] = param_groups_weight_decay(
            model,
            settings.weight_decay,
            no_weight_decay_list={f"backbone.{name}" for name in exempt},
        )
        return groups
    if not hasattr(backbone, "group_matcher"):
        raise TrainError(
            f"optim.layer_decay: a {type(backbone).__name__} does not say which layers it has; "
            "leave it at null, or take another --backbone"
        )
    groups = param_groups_layer_decay(
        backbone,
        settings.weight_decay,
        no_weight_decay_list=exempt,
        layer_decay=settings.layer_decay,
    )
    heads = param_groups_weight_decay(model.heads, settings.weight_decay)
    return groups + [{**group, "lr_scale": 1.0} for group in heads]

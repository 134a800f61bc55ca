"""A model in training with its optimizer, schedule and weight average, and their saved state.

Knows tensors and steps; knows nothing of crops, folds or files.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from cropfirst.stage2_classify.config import OptimConfig
from cropfirst.stage2_classify.model.criterion import Criterion
from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.runs.checkpoint import model_state
from cropfirst.stage2_classify.train.distributed import SINGLE_PROCESS, ProcessGroup
from cropfirst.stage2_classify.train.optim import (
    Schedule,
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    set_frozen,
)


@dataclass
class TrainState:
    """One model in training."""

    model: Classifier
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    settings: OptimConfig
    criterion: Criterion
    amp: torch.dtype | None
    updates_per_epoch: int
    ema: Any = None
    """timm's ModelEmaV3, or None."""
    processes: ProcessGroup = SINGLE_PROCESS
    """The processes that train the model together."""
    _ddp: tuple[bool, nn.Module] | None = None
    """Whether the backbone is frozen, and DDP around the other weights; None for one process."""

    @property
    def eval_model(self) -> Classifier:
        """The model that is validated and saved: the weight average (EMA) if there is one."""
        return self.model if self.ema is None else cast("Classifier", self.ema.module)

    @property
    def network(self) -> nn.Module:
        """The module that training calls: the model, or DDP around it."""
        return self.model if self._ddp is None else self._ddp[1]

    def begin_epoch(self, *, frozen: bool) -> None:
        """Switch to training mode; `frozen` trains the heads alone."""
        self.model.train()
        self.criterion.train()
        set_frozen(self.model, frozen)
        if self.processes.size > 1 and (self._ddp is None or self._ddp[0] != frozen):
            wrapped = self.processes.wrap(self.model, image_size=self.model.image_size)
            self._ddp = (frozen, wrapped)

    def accumulate(self, *, last: bool) -> AbstractContextManager[Any]:
        """Return the context of one forward and backward pass of an update.

        Args:
            last: whether this pass is the update's last; before, DDP does not average gradients.
        """
        network = self.network
        if not last and isinstance(network, nn.parallel.DistributedDataParallel):
            return network.no_sync()
        return nullcontext()

    def update(self, number: int) -> None:
        """Make one optimizer step from the accumulated gradients.

        Args:
            number: of the update over all epochs, from 0.
        """
        if self.settings.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update(self.model, step=number + 1)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a resumed run needs as tensors on the CPU."""
        found = {f"model.{key}": value for key, value in model_state(self.model).items()}
        moments = optimizer_tensors(self.optimizer)
        found |= {f"optimizer.{key}": value for key, value in moments.items()}
        if self.ema is not None:
            found |= {f"ema.{key}": value for key, value in model_state(self.ema.module).items()}
        return found

    def numbers(self) -> dict[str, Any]:
        """Return what else a resumed run needs, JSON-able."""
        return {"scaler": self.scaler.state_dict(), "schedule": self.schedule.state()}

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Restore what `tensors` and `numbers` returned."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        load_optimizer_tensors(self.optimizer, part("optimizer."))
        if self.ema is not None:
            self.ema.module.load_state_dict(part("ema."))
        self.scaler.load_state_dict(numbers["scaler"])
        self.schedule.load_state(numbers["schedule"])


def build_train_state(
    model: Classifier,
    settings: OptimConfig,
    *,
    batches_per_epoch: int,
    amp: torch.dtype | None,
    criterion: Criterion,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> TrainState:
    """Build optimizer, schedule, scaler and EMA for a model that is already on its device.

    Raises:
        TrainError: layer decay for a backbone that does not know its layers.
    """
    optimizer = build_optimizer(model, settings)
    device = model.mean.device
    updates_per_epoch = -(-batches_per_epoch // settings.accumulate)
    ema = None
    if settings.ema:
        from timm.utils import ModelEmaV3

        # Its warmup keeps the random initial weights out of the average of a short training.
        ema = ModelEmaV3(model, decay=settings.ema, use_warmup=True)
    if settings.compile:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about its own internals
            model.compile()  # in place: names in checkpoints stay as they are
    return TrainState(
        model=model,
        optimizer=optimizer,
        schedule=Schedule(optimizer, settings, updates_per_epoch=updates_per_epoch),
        scaler=torch.amp.GradScaler(device.type, enabled=amp is torch.float16),
        settings=settings,
        criterion=criterion,
        amp=amp,
        updates_per_epoch=updates_per_epoch,
        ema=ema,
        processes=processes,
    )

"""What learns: a model with its optimizer, schedule, running mean of weights, and their state.

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
class Learner:
    """One model in training."""

    model: Classifier
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    settings: OptimConfig
    criterion: Criterion
    amp: torch.dtype | None
    ema: Any = None
    """timm's ModelEmaV3, or None."""
    processes: ProcessGroup = SINGLE_PROCESS
    """The processes that train it together."""
    _shared: tuple[bool, nn.Module] | None = None
    """Among several processes: whether the backbone is frozen, and DDP around what learns then."""

    @property
    def kept(self) -> Classifier:
        """The model that is validated and saved: the running mean of the weights, if there is."""
        return self.model if self.ema is None else cast("Classifier", self.ema.module)

    def begin_epoch(self, *, frozen: bool) -> None:
        """Make the model ready to learn; with `frozen`, its heads alone."""
        self.model.train()
        self.criterion.train()
        set_frozen(self.model, frozen)
        if self.processes.size > 1 and (self._shared is None or self._shared[0] != frozen):
            wrapped = self.processes.wrap(self.model, image_size=self.model.image_size)
            self._shared = (frozen, wrapped)

    @property
    def network(self) -> nn.Module:
        """What images go through in training."""
        return self.model if self._shared is None else self._shared[1]

    def gathering(self, *, more: bool) -> AbstractContextManager[Any]:
        """Around a forward and backward pass; with `more`, others of the same update follow."""
        network = self.network
        if more and isinstance(network, nn.parallel.DistributedDataParallel):
            return network.no_sync()
        return nullcontext()

    def update(self, number: int) -> None:
        """One step of the optimizer on the gradients there are, counted from 0."""
        if self.settings.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update(self.model, step=number + 1)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, as tensors on the CPU."""
        found = {f"model.{key}": value for key, value in model_state(self.model).items()}
        moments = optimizer_tensors(self.optimizer)
        found |= {f"optimizer.{key}": value for key, value in moments.items()}
        if self.ema is not None:
            found |= {f"ema.{key}": value for key, value in model_state(self.ema.module).items()}
        return found

    def numbers(self) -> dict[str, Any]:
        """The rest of it, JSON-able."""
        return {"scaler": self.scaler.state_dict(), "schedule": self.schedule.state()}

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Put back what `tensors` and `numbers` gave."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        load_optimizer_tensors(self.optimizer, part("optimizer."))
        if self.ema is not None:
            self.ema.module.load_state_dict(part("ema."))
        self.scaler.load_state_dict(numbers["scaler"])
        self.schedule.load_state(numbers["schedule"])


def build_learner(
    model: Classifier,
    settings: OptimConfig,
    *,
    batches_per_epoch: int,
    amp: torch.dtype | None,
    criterion: Criterion,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> Learner:
    """Everything around a model that lies on its device already.

    Raises:
        TrainError: layer decay for a backbone that does not know its layers.
    """
    optimizer = build_optimizer(model, settings)
    device = model.mean.device
    ema = None
    if settings.ema:
        from timm.utils import ModelEmaV3

        # Its warmup keeps the random first weights out of the mean of a short training.
        ema = ModelEmaV3(model, decay=settings.ema, use_warmup=True)
    if settings.compile:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own, about torch's own
            model.compile()  # in place: names in checkpoints stay as they are
    return Learner(
        model=model,
        optimizer=optimizer,
        schedule=Schedule(
            optimizer, settings, updates_per_epoch=-(-batches_per_epoch // settings.accumulate)
        ),
        scaler=torch.amp.GradScaler(device.type, enabled=amp is torch.float16),
        settings=settings,
        criterion=criterion,
        amp=amp,
        ema=ema,
        processes=processes,
    )

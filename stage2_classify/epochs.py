"""One epoch of training, one pass of validation.

Knows a model and a loader of crops; knows nothing of folds, files or persons.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from cropfirst.stage2_classify.config import OptimConfig
from cropfirst.stage2_classify.criterion import Criterion
from cropfirst.stage2_classify.device import autocast
from cropfirst.stage2_classify.metrics import macro_f1_of
from cropfirst.stage2_classify.models import Classifier
from cropfirst.stage2_classify.progress import TrainProgress

SHOW_EVERY = 0.25
"""Seconds between looks at the running numbers: each look makes the CPU wait for the GPU."""


class LossNotFiniteError(ArithmeticError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class TrainResult:
    """Means over one epoch, as the weights went along: loss, and macro F1 over the tasks."""

    loss: float
    f1: float


@dataclass(frozen=True)
class Validation:
    """Loss without label smoothing, and task -> (N, classes) float32 in the loader's order."""

    loss: float
    probs: Mapping[str, NDArray[np.float32]]


class RunningScores:
    """Loss and confusion summed up on the device, read now and then."""

    def __init__(self, device: torch.device) -> None:
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._matrices: dict[str, Tensor] = {}
        self._n = 0

    @torch.no_grad()
    def update(
        self, loss: Tensor, probs: Mapping[str, Tensor], classes: Mapping[str, Tensor]
    ) -> None:
        """Add a batch, of probabilities and true classes by task; waits for nothing."""
        n = len(next(iter(probs.values())))
        self._n += n
        self._loss += loss.detach().double() * n
        for task, table in probs.items():
            n_classes = table.shape[1]
            if task not in self._matrices:
                self._matrices[task] = classes[task].new_zeros(n_classes * n_classes)
            cells = classes[task] * n_classes + table.argmax(1)
            self._matrices[task].scatter_add_(0, cells, torch.ones_like(cells))

    def read(self) -> TrainResult:
        """Means so far.

        Raises:
            LossNotFiniteError: the loss is no number any more.
        """
        loss = float(self._loss) / max(self._n, 1)
        if not math.isfinite(loss):
            raise LossNotFiniteError
        scores = []
        for matrix in self._matrices.values():
            side = math.isqrt(len(matrix))
            scores.append(macro_f1_of(matrix.cpu().numpy().reshape(side, side)))
        return TrainResult(loss, float(np.mean(scores)) if scores else 0.0)


def train_one_epoch(
    model: Classifier,
    loader: DataLoader[Any],
    optimizer: torch.optim.Optimizer,
    *,
    criterion: Criterion,
    lr_at: Callable[[int], float],
    amp: torch.dtype | None,
    scaler: torch.amp.GradScaler,
    settings: OptimConfig,
    progress: TrainProgress,
) -> TrainResult:
    """Go once through the loader.

    Args:
        lr_at: step within this epoch -> learning rate.
        amp: what to autocast to; None is float32.
        scaler: disabled unless `amp` is float16.

    Raises:
        LossNotFiniteError: the loss became NaN or infinite.
    """
    model.train()
    criterion.train()
    device = model.mean.device
    running = RunningScores(device)
    shown = time.monotonic()
    for step, (crops, targets) in enumerate(loader):
        lr = lr_at(step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        targets = targets.to(device, non_blocking=True)
        with autocast(device, amp):
            outputs = model(model.prepare(crops))
        loss = criterion(outputs, targets)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        if settings.clip_grad:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_grad)
        scaler.step(optimizer)
        scaler.update()
        with torch.no_grad():
            running.update(loss, model.probs(outputs), criterion.classes(targets))

        progress.advance(len(targets))
        if time.monotonic() - shown > SHOW_EVERY:
            shown = time.monotonic()
            now = running.read()
            progress.show({"loss": now.loss, "F1": now.f1, "lr": lr})
    return running.read()


@torch.inference_mode()
def validate(
    model: Classifier,
    loader: DataLoader[Any],
    *,
    criterion: Criterion,
    amp: torch.dtype | None,
    progress: TrainProgress,
) -> Validation:
    """Predict every crop of the loader, in its order.

    Raises:
        LossNotFiniteError: the loss is NaN or infinite.
    """
    model.eval()
    criterion.eval()
    device = model.mean.device
    running = RunningScores(device)
    parts: dict[str, list[Tensor]] = {task: [] for task in model.tasks}
    for crops, targets in loader:
        targets = targets.to(device, non_blocking=True)
        with autocast(device, amp):
            outputs = model(model.prepare(crops))
        probs = model.probs(outputs)
        running.update(criterion(outputs, targets), probs, criterion.classes(targets))
        for task, table in probs.items():
            parts[task].append(table)
        progress.advance(len(targets))
    tables = {task: torch.cat(part).cpu().numpy() for task, part in parts.items()}
    return Validation(running.read().loss, tables)

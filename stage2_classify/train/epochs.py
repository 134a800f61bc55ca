"""One epoch of training, and one pass of validation.

Knows a model in training and its batches; knows nothing of folds, files or persons.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cropfirst.core.device import autocast
from cropfirst.stage2_classify.data.prefetcher import Prefetcher
from cropfirst.stage2_classify.metrics.scores import macro_f1_of
from cropfirst.stage2_classify.model.criterion import Criterion
from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.progress import TrainProgress
from cropfirst.stage2_classify.train.distributed import SINGLE_PROCESS, ProcessGroup
from cropfirst.stage2_classify.train.train_state import TrainState

SHOW_EVERY = 0.25
"""Seconds between updates of the running scores; each makes the CPU wait for the GPU."""


class LossNotFiniteError(ArithmeticError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class TrainResult:
    """Mean loss and macro F1 (mean over the tasks) of one epoch, while the weights changed."""

    loss: float
    f1: float


@dataclass(frozen=True)
class Validation:
    """Predictions of the validation part."""

    loss: float
    """Mean loss of the crops that have a target, without label smoothing."""
    probs: Mapping[str, NDArray[np.float32]]
    """Task -> (N, classes) probabilities, in the order of the batches."""


class RunningScores:
    """Loss and confusion matrices, summed on the device and read now and then."""

    def __init__(self, device: torch.device) -> None:
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._matrices: dict[str, Tensor] = {}
        self._n = torch.zeros((), dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(
        self,
        loss: Tensor,
        probs: Mapping[str, Tensor],
        classes: Mapping[str, Tensor],
        *,
        n_labeled: Tensor,
    ) -> None:
        """Add a batch without waiting for the device.

        Args:
            loss: scalar mean over the crops of the batch that have a target.
            probs: task -> (N, classes).
            classes: task -> (N,) int64 true classes.
            n_labeled: scalar int64, the number of crops that have a target.
        """
        self._n += n_labeled
        self._loss += loss.detach().double() * n_labeled
        for task, table in probs.items():
            n_classes = table.shape[1]
            if task not in self._matrices:
                self._matrices[task] = classes[task].new_zeros(n_classes * n_classes)
            cells = classes[task] * n_classes + table.argmax(1)
            self._matrices[task].scatter_add_(0, cells, torch.ones_like(cells))

    def read(self) -> TrainResult:
        """Return the means so far; waits for the device.

        Raises:
            LossNotFiniteError: the loss is NaN or infinite.
        """
        loss = float(self._loss) / max(int(self._n), 1)
        if not math.isfinite(loss):
            raise LossNotFiniteError
        scores = []
        for matrix in self._matrices.values():
            side = math.isqrt(len(matrix))
            scores.append(macro_f1_of(matrix.cpu().numpy().reshape(side, side)))
        return TrainResult(loss, float(np.mean(scores)) if scores else 0.0)


def train_one_epoch(
    state: TrainState,
    batches: Prefetcher,
    *,
    first_update: int,
    frozen: bool = False,
    progress: TrainProgress,
) -> TrainResult:
    """Train on every batch once.

    Args:
        first_update: number of updates made in earlier epochs.
        frozen: train the heads alone.

    Raises:
        LossNotFiniteError: the loss became NaN or infinite.
    """
    model, criterion, processes = state.model, state.criterion, state.processes
    state.begin_epoch(frozen=frozen)
    device = model.mean.device
    running = RunningScores(device)
    shown = time.monotonic()
    accumulate = state.settings.accumulate
    update, n_steps = first_update, len(batches)
    for step, (images, targets, n_total) in enumerate(batches):
        # One update is made of `accumulate` batches, the last one of an epoch perhaps of fewer.
        position = step % accumulate
        n_batches = min(accumulate, n_steps - step + position)
        is_last = position == n_batches - 1
        if position == 0:
            state.schedule.set_update(update)
            state.optimizer.zero_grad(set_to_none=True)

        with state.accumulate(last=is_last):
            with autocast(device, state.amp):
                outputs = state.network(images)
            if processes.size > 1:
                soft = criterion.soften(targets)
                outputs, targets = processes.gather_batch(outputs, soft, n_total)
            loss = criterion(outputs, targets)
            # With several processes, each has the gradients of its own crops, and DDP takes the
            # mean over the processes: times their number, it is the sum.
            state.scaler.scale(loss * processes.size / n_batches).backward()
        if is_last:
            state.update(update)
            update += 1

        with torch.no_grad():
            # A mixed crop counts as the class that most of it has.
            running.update(
                loss,
                model.probs(outputs),
                criterion.classes(targets),
                n_labeled=criterion.count_labeled(targets),
            )
        progress.advance(n_total or len(images))
        if time.monotonic() - shown > SHOW_EVERY:
            shown = time.monotonic()
            now = running.read()
            progress.show({"loss": now.loss, "F1": now.f1, "lr": state.schedule.lr})
    return running.read()


@torch.inference_mode()
def validate(
    model: Classifier,
    batches: Prefetcher,
    criterion: Criterion,
    *,
    amp: torch.dtype | None,
    progress: TrainProgress,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> Validation:
    """Predict every crop, in order; every process gets all predictions.

    Raises:
        LossNotFiniteError: the loss is NaN or infinite.
    """
    model.eval()
    criterion.eval()
    processes.broadcast_buffers(model)
    device = model.mean.device
    running = RunningScores(device)
    parts: dict[str, list[Tensor]] = {task: [] for task in model.tasks}
    for images, targets, n_total in batches:
        with autocast(device, amp):
            outputs = model(images)
        if processes.size > 1:
            outputs, targets = processes.gather_batch(outputs, criterion.soften(targets), n_total)
        probs = model.probs(outputs)
        running.update(
            criterion(outputs, targets),
            probs,
            criterion.classes(targets),
            n_labeled=criterion.count_labeled(targets),
        )
        for task, table in probs.items():
            parts[task].append(table)
        progress.advance(n_total or len(images))
    tables = {task: torch.cat(part).cpu().numpy() for task, part in parts.items()}
    return Validation(running.read().loss, tables)

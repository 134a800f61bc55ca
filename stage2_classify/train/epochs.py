"""One epoch of training, one pass of validation.

Knows a learner and a feed of batches; knows nothing of folds, files or persons.
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
from cropfirst.stage2_classify.data.prefetcher import Feed
from cropfirst.stage2_classify.metrics.scores import macro_f1_of
from cropfirst.stage2_classify.model.criterion import Criterion
from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.progress import TrainProgress
from cropfirst.stage2_classify.train.distributed import SINGLE_PROCESS, ProcessGroup
from cropfirst.stage2_classify.train.train_state import Learner

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
    """Loss without label smoothing, and task -> (N, classes) float32 in the feed's order."""

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
    learner: Learner,
    feed: Feed,
    *,
    first_update: int,
    frozen: bool = False,
    progress: TrainProgress,
) -> TrainResult:
    """Go once through the feed.

    Args:
        first_update: updates made in the epochs before.
        frozen: the backbone stays as it is.

    Raises:
        LossNotFiniteError: the loss became NaN or infinite.
    """
    model, settings, processes = learner.model, learner.settings, learner.processes
    learner.begin_epoch(frozen=frozen)
    device = model.mean.device
    running = RunningScores(device)
    shown = time.monotonic()
    update, n_steps = first_update, len(feed)
    for step, (images, targets, n_all) in enumerate(feed):
        place = step % settings.accumulate
        if place == 0:
            learner.schedule.set_update(update)
            learner.optimizer.zero_grad(set_to_none=True)
        # The last update of an epoch may be made of fewer batches.
        n_batches = min(settings.accumulate, n_steps - step + place)
        with learner.gathering(more=place < n_batches - 1):
            with autocast(device, learner.amp):
                outputs = learner.network(images)
            if processes.size > 1:
                outputs, targets = _of_all(
                    learner.criterion, outputs, targets, n_all, processes=processes
                )
            loss = learner.criterion(outputs, targets)
            learner.scaler.scale(_to_minimise(loss, n_batches, processes)).backward()
        if place == n_batches - 1:
            learner.update(update)
            update += 1
        with torch.no_grad():
            # A mixed crop counts as what most of it is.
            running.update(loss, model.probs(outputs), learner.criterion.classes(targets))

        progress.advance(n_all or len(images))
        if time.monotonic() - shown > SHOW_EVERY:
            shown = time.monotonic()
            now = running.read()
            progress.show({"loss": now.loss, "F1": now.f1, "lr": learner.schedule.lr})
    return running.read()


@torch.inference_mode()
def validate(
    model: Classifier,
    feed: Feed,
    criterion: Criterion,
    *,
    amp: torch.dtype | None,
    progress: TrainProgress,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> Validation:
    """Predict every crop of the feed, in its order; every process gets all of it.

    Raises:
        LossNotFiniteError: the loss is NaN or infinite.
    """
    model.eval()
    criterion.eval()
    processes.broadcast_buffers(model)
    device = model.mean.device
    running = RunningScores(device)
    parts: dict[str, list[Tensor]] = {task: [] for task in model.tasks}
    for images, targets, n_all in feed:
        with autocast(device, amp):
            outputs = model(images)
        if processes.size > 1:
            outputs, targets = _of_all(criterion, outputs, targets, n_all, processes=processes)
        probs = model.probs(outputs)
        running.update(criterion(outputs, targets), probs, criterion.classes(targets))
        for task, table in probs.items():
            parts[task].append(table)
        progress.advance(n_all or len(images))
    tables = {task: torch.cat(part).cpu().numpy() for task, part in parts.items()}
    return Validation(running.read().loss, tables)


def _of_all(
    criterion: Criterion,
    outputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    n_all: int,
    *,
    processes: ProcessGroup,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs and soft targets of the whole batch, of which the processes's processes have parts.

    So each computes the loss of the whole, which no mean of the parts' losses would be: macro F1,
    weights by class, parts of different size.
    """
    return processes.gather_batch(outputs, criterion.soften(targets), n_all)


def _to_minimise(loss: Tensor, n_batches: int, processes: ProcessGroup) -> Tensor:
    """The loss of one of an update's batches, so that gradients add up."""
    if processes.size > 1:  # each has the slopes of its own crops alone, and DDP takes the mean
        loss = loss * processes.size
    return loss / n_batches if n_batches > 1 else loss

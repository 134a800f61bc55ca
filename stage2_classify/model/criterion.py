"""The loss of a run: each task's weighted sum of losses, summed over the tasks.

Knows heads' outputs and training targets; knows nothing of labels, folds or optimisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cropfirst.stage2_classify.config import LossConfig
from cropfirst.stage2_classify.model.heads import Head
from cropfirst.stage2_classify.model.losses import (
    class_weights,
    cross_entropy,
    soft_macro_f1_loss,
    weighted_mean,
)
from cropfirst.stage2_classify.model.ordinal import coral_loss, corn_loss
from cropfirst.stage2_classify.model.targets import TargetSpace

Targets = Mapping[str, Tensor]
"""Task -> (N,) int64 target numbers, -1 = none, or (N, targets) float32 soft targets."""


class TaskLoss(nn.Module):
    """The loss of one task."""

    outputs: Tensor
    classes: Tensor
    numbers: Tensor
    weights: Tensor

    def __init__(
        self, head: Head, space: TargetSpace, settings: LossConfig, *, counts: Sequence[int]
    ) -> None:
        """Build the tables from targets to outputs, classes, numbers and weights.

        Args:
            counts: number of training photos of each class of the schema.
        """
        super().__init__()
        self.settings = settings
        self.spec = space.head
        self.n_targets = space.n_targets
        self._head = [head]  # in a list, so that its parameters are not this module's too
        by_class = class_weights(counts, settings.class_weights, beta=settings.effective_beta)
        values = torch.tensor(space.values) if space.values else torch.zeros(0)
        spec = space.head
        classes = torch.tensor(space.class_of)
        outputs = F.one_hot(torch.tensor(space.output_of), len(spec.class_of)).float()
        tables = {
            "outputs": outputs,
            "classes": F.one_hot(classes, spec.n_classes).float(),
            "numbers": (values - spec.centre) / spec.scale,
            "weights": by_class[classes],
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def soften(self, targets: Tensor) -> Tensor:
        """Return targets as (N, targets) float32, from (N,) int64 numbers or as they are."""
        if targets.is_floating_point():
            return targets
        known = (targets >= 0).float()[:, None]
        return F.one_hot(targets.clamp(min=0), self.n_targets).float() * known

    def forward(self, output: Tensor, soft: Tensor) -> Tensor:
        """Return the weighted sum of the terms, a scalar.

        Args:
            output: (N, width) outputs of the head.
            soft: (N, targets) soft targets.
        """
        weights = soft @ self.weights  # 0 for crops without a target
        total = output.new_zeros((), dtype=torch.float32)
        for term, factor in self.settings.terms.items():
            if term == "f1":
                probs = self._head[0].probs(output) * soft.sum(1, keepdim=True)
                loss = soft_macro_f1_loss(probs, soft @ self.classes)
            else:
                loss = self._likelihood(output.float(), soft, weights, focal=term == "focal")
            total = total + factor * loss
        if self.spec.mse:
            total = total + self.spec.mse * self._squared_error(output, soft, weights)
        return total

    def _likelihood(self, output: Tensor, soft: Tensor, weights: Tensor, *, focal: bool) -> Tensor:
        if self.spec.kind == "regression":
            return self._squared_error(output, soft, weights)
        ranks = soft @ self.outputs
        if self.spec.kind == "coral":
            return coral_loss(output, ranks, weights)
        if self.spec.kind == "corn":
            return corn_loss(output, ranks, weights)
        return cross_entropy(
            output[:, : ranks.shape[1]],
            ranks,
            weights=weights,
            label_smoothing=self.settings.label_smoothing if self.training else 0.0,
            gamma=self.settings.focal_gamma if focal else 0.0,
        )

    def _squared_error(self, output: Tensor, soft: Tensor, weights: Tensor) -> Tensor:
        error = output[:, -1].float() - soft @ self.numbers
        return weighted_mean(error * error, weights)


class Criterion(nn.Module):
    """The sum of the tasks' losses; without label smoothing in eval mode."""

    def __init__(self, losses: Mapping[str, TaskLoss]) -> None:
        super().__init__()
        self.tasks = tuple(losses)
        self.losses = nn.ModuleList(losses.values())

    def forward(self, outputs: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """Return the loss, a scalar float32, of the model's outputs and the training targets."""
        soft = self.soften(targets)
        first, *others = (
            loss(outputs[task], soft[task])
            for task, loss in zip(self.tasks, self.losses, strict=True)
        )
        total: Tensor = sum(others, first)
        return total

    def soften(self, targets: Targets) -> dict[str, Tensor]:
        """Return task -> (N, targets) float32 soft targets."""
        return {
            task: loss.soften(targets[task])  # type: ignore[operator]
            for task, loss in zip(self.tasks, self.losses, strict=True)
        }

    def classes(self, targets: Targets) -> dict[str, Tensor]:
        """Return task -> (N,) int64 classes of the schema, the most probable of soft targets."""
        soft = self.soften(targets)
        return {
            task: (soft[task] @ loss.classes).argmax(1)  # type: ignore[operator]
            for task, loss in zip(self.tasks, self.losses, strict=True)
        }

    def count_labeled(self, targets: Targets) -> Tensor:
        """Return the number of crops that have a target, a scalar int64.

        Those that do not meet a run's condition have none, in any task.
        """
        task = self.tasks[0]
        known = targets[task] >= 0
        if targets[task].is_floating_point():
            known = targets[task].sum(1) > 0
        return known.sum()


def build_criterion(
    heads: Mapping[str, Head],
    spaces: Mapping[str, TargetSpace],
    settings: LossConfig,
    *,
    counts: Mapping[str, Sequence[int]],
) -> Criterion:
    """Build the loss of a run's tasks.

    Args:
        heads: task -> head of the model.
        counts: task -> number of training photos of each class of the schema.
    """
    return Criterion(
        {
            task: TaskLoss(head, spaces[task], settings, counts=counts[task])
            for task, head in heads.items()
        }
    )


def plain_criterion(heads: Mapping[str, Head], settings: LossConfig | None = None) -> Criterion:
    """Build the loss of heads with one logit per class and equal class weights."""
    spaces = {
        task: TargetSpace(task, head.spec, head.spec.class_of) for task, head in heads.items()
    }
    counts = {task: [1] * head.spec.n_classes for task, head in heads.items()}
    return build_criterion(heads, spaces, settings or LossConfig(), counts=counts)

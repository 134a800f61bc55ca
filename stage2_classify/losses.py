"""Losses: pure functions of logits and targets. A leaf."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy in float32, whatever precision the logits have.

    Args:
        logits: (N, classes).
        targets: (N,) int64 class numbers, or (N, classes) float shares of mixed crops.
        label_smoothing: mass spread evenly over the classes (Szegedy et al., CVPR 2016).
    """
    return F.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing)


def summed_cross_entropy(
    outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], *, label_smoothing: float = 0.0
) -> Tensor:
    """Sum of the tasks' cross entropies.

    Args:
        outputs: {task: (N, classes) logits}, one entry at least.
        targets: task -> (N,) int64, or (N, classes) float.
    """
    losses = [
        cross_entropy(logits, targets[task], label_smoothing=label_smoothing)
        for task, logits in outputs.items()
    ]
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total

"""Losses as pure functions of logits or probabilities and soft targets.

Soft targets are (N, C) float32 with rows that sum to 1: one-hot, or mixed by MixUp and CutMix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cross_entropy(
    logits: Tensor,
    soft: Tensor,
    *,
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    gamma: float = 0.0,
) -> Tensor:
    """Return the mean cross entropy, computed in float32.

    Args:
        logits: (N, C).
        soft: (N, C) targets.
        weights: (N,) weights of the crops; None = equal weights.
        label_smoothing: share spread evenly over the classes (Szegedy et al., CVPR 2016).
        gamma: above 0 the loss is focal loss (Lin et al., ICCV 2017): each class is weighted by
            (1 - its probability) ** gamma.
    """
    logs = logits.float().log_softmax(1)
    if label_smoothing:
        soft = soft * (1.0 - label_smoothing) + label_smoothing / soft.shape[1]
    if gamma:
        # The clamp keeps the gradient finite if gamma is below 1.
        soft = soft * (1.0 - logs.exp()).clamp(min=1e-6) ** gamma
    return weighted_mean(-(soft * logs).sum(1), weights)


def soft_macro_f1_loss(probs: Tensor, soft: Tensor) -> Tensor:
    """Return 1 - macro F1 of a batch, with probabilities in place of predicted classes.

    The mean is over the classes that occur in the batch's targets.

    Args:
        probs: (N, C) probabilities.
        soft: (N, C) targets.
    """
    hits = (probs * soft).sum(0)
    f1 = 2.0 * hits / (probs.sum(0) + soft.sum(0)).clamp(min=1e-6)
    present = (soft.sum(0) > 0).float()
    return 1.0 - (f1 * present).sum() / present.sum().clamp(min=1.0)


def weighted_mean(each: Tensor, weights: Tensor | None) -> Tensor:
    """Return the weighted mean of (N,) losses, a scalar."""
    if weights is None:
        return each.mean()
    return (each * weights).sum() / weights.sum().clamp(min=1e-6)


def class_weights(counts: Sequence[int], kind: str, *, beta: float = 0.999) -> Tensor:
    """Return (C,) float32 weights with mean 1 over the classes that occur; others have 0.

    Args:
        counts: number of photos of each class in training.
        kind: none; inverse = 1 / count; effective = (1 - beta) / (1 - beta ** count), by the
            effective number of samples (Cui et al., CVPR 2019).
        beta: in [0, 1).
    """
    n = torch.tensor(counts, dtype=torch.float64)
    present = n > 0
    if kind == "none":
        return torch.ones(len(counts))
    if kind == "inverse":
        weights = 1.0 / n.clamp(min=1.0)
    else:
        weights = (1.0 - beta) / (1.0 - beta ** n.clamp(min=1.0))
    weights = weights * present
    return (weights * present.sum() / weights.sum()).float()

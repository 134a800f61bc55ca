"""Losses and probabilities of ordinal regression: CORAL and CORN, as pure functions of logits.

K ranks have K - 1 logits; the k-th is about "higher than rank k". Targets are soft, (N, K) with
rows that sum to 1, so that mixed images can be learned; one-hot rows give the papers' losses.

CORAL: Cao, Mirjalili, Raschka, "Rank consistent ordinal regression for neural networks", Pattern
Recognition Letters 140 (2020). CORN: Shi, Cao, Raschka, "Deep neural networks for rank-consistent
ordinal regression based on conditional probabilities", Pattern Analysis and Applications 26 (2023).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def exceeds(soft: Tensor) -> Tensor:
    """Return (N, K - 1) probabilities of exceeding rank 0, 1, ... from (N, K) soft ranks."""
    return (1.0 - soft.cumsum(1)[:, :-1]).clamp(0.0, 1.0)


def coral_loss(logits: Tensor, soft: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the binary cross entropy of "higher than k", summed over k: a mean over the crops.

    Args:
        logits: (N, K - 1), of P(y > k).
        soft: (N, K) target ranks.
        weights: (N,) weights of the crops; None = equal weights.
    """
    each = F.binary_cross_entropy_with_logits(logits, exceeds(soft), reduction="none").sum(1)
    if weights is None:
        return each.mean()
    return (each * weights).sum() / weights.sum().clamp(min=1e-6)


def corn_loss(logits: Tensor, soft: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean binary cross entropy of "higher than k, given higher than k - 1".

    Args:
        logits: (N, K - 1), of P(y > k | y > k - 1).
        soft: (N, K) target ranks; the k-th entropy counts by the mass that is higher than k - 1.
        weights: (N,) weights of the crops; None = equal weights.
    """
    higher = exceeds(soft)
    given = torch.cat([torch.ones_like(higher[:, :1]), higher[:, :-1]], dim=1)
    each = higher * F.logsigmoid(logits) + (given - higher) * F.logsigmoid(-logits)
    scale = torch.ones_like(given) if weights is None else weights[:, None].expand_as(given)
    return -(each * scale).sum() / (given * scale).sum().clamp(min=1e-6)


def coral_probs(logits: Tensor) -> Tensor:
    """Return (N, K) probabilities of the ranks from (N, K - 1) CORAL logits.

    CORAL's biases descend along the ranks once trained, not from the start: until then, negative
    differences are set to zero and the row is normalised.
    """
    probs = _between(logits.sigmoid()).clamp(min=0.0)
    return probs / probs.sum(1, keepdim=True)


def corn_probs(logits: Tensor) -> Tensor:
    """Return (N, K) probabilities of the ranks from (N, K - 1) CORN logits."""
    return _between(logits.sigmoid().cumprod(1))


def _between(higher: Tensor) -> Tensor:
    """Return P(y = k) for k = 0..K-1 from P(y > k) for k = 0..K-2."""
    ones, zeros = torch.ones_like(higher[:, :1]), torch.zeros_like(higher[:, :1])
    return torch.cat([ones, higher], dim=1) - torch.cat([higher, zeros], dim=1)

"""Heads: from features to a task's outputs, and from these to probabilities of its classes.

Knows `HeadSpec`; knows nothing of labels, losses or backbones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cropfirst.stage2_classify.model.head_spec import HeadSpec
from cropfirst.stage2_classify.model.ordinal import coral_probs, corn_probs


class RankLinear(nn.Module):
    """CORAL's layer: one score for all ranks, and a bias for each "higher than k"."""

    def __init__(self, features: int, n_ranks: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, features))
        # Descending, so that the ranks are in order from the start.
        self.bias = nn.Parameter(torch.arange(n_ranks - 1, 0, -1).float() / (n_ranks - 1))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, ranks - 1) logits of (N, features)."""
        return features @ self.weight.T + self.bias


class Head(nn.Module):
    """A linear layer, or two with one hidden layer: [linear, norm, ReLU, dropout,] linear."""

    class_of: Tensor
    edges: Tensor

    def __init__(
        self,
        spec: HeadSpec,
        *,
        features: int,
        hidden: int = 0,
        batch_norm: bool = False,
        drop_rate: float = 0.0,
    ) -> None:
        """Build the layers.

        Args:
            hidden: units of the hidden layer; 0 = none.
            batch_norm: normalise the hidden layer, or the features if there is none.
            drop_rate: dropout between hidden layer and outputs; that of the features is in the
                classifier.
        """
        super().__init__()
        self.spec = spec
        layers: list[nn.Module] = []
        if hidden:
            layers.append(nn.Linear(features, hidden))
        if batch_norm:
            layers.append(nn.BatchNorm1d(hidden or features))
        if hidden:
            layers += [nn.ReLU(), nn.Dropout(drop_rate)]
        self.hidden = nn.Sequential(*layers)
        n_outputs = len(spec.class_of)
        inner = hidden or features
        if spec.kind == "coral":
            self.out: nn.Module = RankLinear(inner, n_outputs)
        else:
            self.out = nn.Linear(inner, spec.width)
        if isinstance(self.out, nn.Linear):
            nn.init.trunc_normal_(self.out.weight, std=0.02)
            nn.init.zeros_(self.out.bias)
        one_hot = torch.zeros(n_outputs, spec.n_classes)
        one_hot[torch.arange(n_outputs), torch.tensor(spec.class_of)] = 1.0
        self.register_buffer("class_of", one_hot, persistent=False)
        self.register_buffer("edges", torch.tensor(spec.edges), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, `spec.width`) outputs of (N, features)."""
        out: Tensor = self.out(self.hidden(features))
        return out

    def probs(self, output: Tensor) -> Tensor:
        """Return (N, classes) float32 probabilities of (N, width) outputs; rows sum to 1."""
        return self.fine_probs(output) @ self.class_of

    def fine_probs(self, output: Tensor) -> Tensor:
        """Return (N, output classes) float32 probabilities of the classes, finer bins or ranks."""
        output = output.float()
        if self.spec.kind == "coral":
            return coral_probs(output)
        if self.spec.kind == "corn":
            return corn_probs(output)
        if self.spec.kind == "regression":
            return self._normal_probs(output[:, :1])
        return output[:, : len(self.spec.class_of)].softmax(1)

    def number(self, output: Tensor) -> Tensor:
        """Return the (N,) learned number of (N, width) outputs, if a number is learned."""
        return output[:, -1].float() * self.spec.scale + self.spec.centre

    def _normal_probs(self, output: Tensor) -> Tensor:
        """Return a normal distribution's shares around the number, cut at the schema's edges."""
        number = output * self.spec.scale + self.spec.centre
        below = torch.special.ndtr((self.edges - number) / self.spec.spread)
        zeros, ones = torch.zeros_like(number), torch.ones_like(number)
        return torch.cat([below, ones], dim=1) - torch.cat([zeros, below], dim=1)

"""One net that learns: its losses, its steps, its state. Knows windows; knows no photos or files.

Losses after Zhang et al. (2016): cross-entropy over the hardest 70 % of the labelled windows,
differences of offsets and landmarks (robust ones: Girshick, "Fast R-CNN", 2015). Where nothing is
labelled the teacher's score is the target (Hinton et al., "Distilling the Knowledge in a Neural
Network", 2015), so that what is not taught is not forgotten. The weights that are kept are a
running mean over the steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cropfirst.stage1_detect.harden.config import NetConfig
from cropfirst.stage1_detect.harden.training.jitter import another_look
from cropfirst.stage1_detect.harden.training.mine import (
    BARE,
    KINDS,
    NONE,
    PART,
    PASTED,
    REAL,
    UNSURE,
    Windows,
)

_SHARES = {REAL: 0.20, PASTED: 0.20, BARE: 0.20, PART: 0.06, UNSURE: 0.06, NONE: 0.28}
"""Of each kind in a batch; kinds that do not occur leave theirs to the others."""
_HARDEST = 0.7
_OFFSETS, _LANDMARKS, _TEACHER = 4.0, 4.0, 0.5
"""Weights of the losses beside the cross-entropy's 1."""
_TRUST = {REAL: 0.25, PASTED: 1.0, BARE: 1.0, PART: 0.25, UNSURE: 0.0, NONE: 0.0}
"""In offsets and landmarks: people's boxes are rough, and far windows would outweigh near ones."""
_SMALL = 0.02
"""Fraction of a window up to which differences count by their square, and beyond it as they are."""
_EMA = 0.998
_WARM_UP = 100
_WEIGHT_DECAY = 1e-4


@dataclass(frozen=True)
class Losses:
    """Means over a round."""

    score: float
    offsets: float
    landmarks: float
    teacher: float


class Student:
    """A net with its optimiser and the running mean of its weights.

    Args:
        net: as the teacher left it; trained in place.
        config: of this net; the learning rate falls over all its rounds.
    """

    def __init__(self, net: nn.Module, config: NetConfig, *, device: torch.device) -> None:
        channels_last(net.to(device)).requires_grad_(True).train()
        self.net = net
        self.config, self.device = config, device
        self.mean = {name: value.clone() for name, value in net.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            net.parameters(), lr=config.lr, weight_decay=_WEIGHT_DECAY, betas=(0.9, 0.99)
        )
        self.step_count = 0

    def tensors(self) -> dict[str, Tensor]:
        """All that going on needs beside the net itself and the count of steps."""
        found = {f"mean.{name}": value for name, value in self.mean.items()}
        for index, each in self.optimiser.state_dict()["state"].items():
            found |= {f"adam.{index}.{name}": value for name, value in each.items()}
        return found

    def restore(self, tensors: Mapping[str, Tensor], *, steps: int) -> None:
        """Go on from what `tensors` gave."""
        self.mean = {k: v.to(self.device) for k, v in below("mean.", tensors).items()}
        optimiser = self.optimiser.state_dict()
        for name, value in below("adam.", tensors).items():
            index, part = name.split(".")
            optimiser["state"].setdefault(int(index), {})[part] = value
        self.optimiser.load_state_dict(optimiser)
        self.step_count = steps

    def learn(self, windows: Windows, *, round_number: int, rng: np.random.Generator) -> Losses:
        """One round: go through its windows `epochs` times."""
        steps = max(1, len(windows) * self.config.epochs // self.config.batch_size)
        sums = np.zeros(4)
        batches = _batches(windows.kind, self.config.batch_size, steps, rng)
        for done, batch in enumerate(batches):
            progress = (round_number + done / steps) / self.config.rounds
            warm = min(1.0, (self.step_count + 1) / _WARM_UP)
            for group in self.optimiser.param_groups:
                group["lr"] = self.config.lr * warm * 0.5 * (1 + math.cos(math.pi * progress))
            seen = windows.take(batch)
            sums += self._step(another_look(seen, rng) if self.config.vary else seen)
        return Losses(*(sums / steps).tolist())

    def _step(self, windows: Windows) -> np.ndarray:
        pixels = torch.from_numpy(windows.pixels).to(self.device)
        x = (pixels.permute(0, 3, 1, 2).float() - 127.5) / 128
        kind = torch.from_numpy(windows.kind).to(self.device)
        said = _said(self.net, x)
        parts = _losses(
            said,
            kind,
            torch.from_numpy(windows.offsets).to(self.device),
            torch.from_numpy(windows.landmarks).to(self.device),
            torch.from_numpy(windows.teacher).to(self.device),
            keep=self.config.keep,
        )
        weights = torch.tensor([1.0, _OFFSETS, _LANDMARKS, _TEACHER], device=self.device)
        self.optimiser.zero_grad(set_to_none=True)
        (parts * weights).sum().backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimiser.step()
        self.step_count += 1
        keep = min(_EMA, 1 - 1 / (self.step_count + 1))
        with torch.no_grad():
            for name, value in self.net.state_dict().items():
                self.mean[name].lerp_(value, 1 - keep)
        found: np.ndarray = parts.detach().double().cpu().numpy()
        return found


def channels_last(net: nn.Module) -> nn.Module:
    """Lay a net's weights out as a CPU's convolutions like them, in place."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under a prefix, without it; copies."""
    return {k[len(prefix) :]: v.clone() for k, v in tensors.items() if k.startswith(prefix)}


def _said(net: nn.Module, x: Tensor) -> Tensor:
    """(N, 5 or 15): logit, offsets, landmarks, as an engine gives them."""
    logits, offsets, *landmarks = net.raw(x)  # type: ignore[operator]
    columns = [(logits[:, 1] - logits[:, 0])[:, None], offsets, *landmarks]
    return torch.cat([column.flatten(1) for column in columns], dim=1)


def _losses(
    said: Tensor, kind: Tensor, offsets: Tensor, landmarks: Tensor, teacher: Tensor, *, keep: float
) -> Tensor:
    """(4,): score, offsets, landmarks, teacher."""
    logit, theirs = said[:, 0], teacher[:, 0]
    labelled = (kind <= BARE) | (kind == NONE)
    each = functional.binary_cross_entropy_with_logits(
        logit[labelled], (kind[labelled] <= BARE).float(), reduction="none"
    )
    hardest = each.topk(math.ceil(_HARDEST * len(each))).values
    unsure = functional.binary_cross_entropy_with_logits(logit, theirs.sigmoid(), reduction="none")[
        kind == UNSURE
    ]
    kept = functional.smooth_l1_loss(logit, theirs, reduction="none")
    kept = kept[(kind == BARE) & (theirs > 0)]
    trust = torch.tensor(list(_TRUST.values()), device=said.device)[kind.long()]
    return torch.stack(
        [
            _mean(hardest),
            _differences(said[:, 1:5], offsets, trust),
            _differences(said[:, 5:], landmarks, trust),
            _mean(unsure) + keep * _mean(kept),
        ]
    )


def _differences(said: Tensor, wanted: Tensor, trust: Tensor) -> Tensor:
    """Mean difference where something is wanted."""
    known = wanted.isfinite().all(dim=1) & (trust > 0)
    if not said.shape[1] or not known.any():
        return said.sum() * 0
    each = functional.smooth_l1_loss(said[known], wanted[known], beta=_SMALL, reduction="none")
    return (each.mean(dim=1) * trust[known]).sum() / trust[known].sum()


def _mean(values: Tensor) -> Tensor:
    return values.mean() if len(values) else values.sum()


def _batches(
    kind: np.ndarray, size: int, steps: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Rows of each batch, with the shares of `_SHARES`."""
    rows = {each: np.flatnonzero(kind == each) for each in range(len(KINDS))}
    rows = {each: found for each, found in rows.items() if len(found)}
    shares = np.array([_SHARES[each] for each in rows])
    shares /= shares.sum()
    for _ in range(steps):
        counts = rng.multinomial(size, shares)
        yield np.concatenate(
            [rng.choice(found, n) for (_, found), n in zip(rows.items(), counts, strict=True)]
        )

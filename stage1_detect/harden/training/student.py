"""Training of one net on windows: losses, steps and optimiser state. Knows no photos or files.

The losses follow Zhang et al. (2016): cross-entropy over the hardest 70 % of the labelled windows,
and differences of offsets and landmarks (smooth L1: Girshick, "Fast R-CNN", 2015). Where there is
no label, the teacher's score is the target (Hinton et al., "Distilling the Knowledge in a Neural
Network", 2015), so that the student does not forget. The final weights are a running mean over the
steps.
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
from cropfirst.stage1_detect.harden.training.jitter import jitter_windows
from cropfirst.stage1_detect.harden.training.windows import (
    BARE,
    NONE,
    PART,
    PASTED,
    REAL,
    UNSURE,
    WINDOW_KINDS,
    Windows,
)

_BATCH_SHARES = {REAL: 0.20, PASTED: 0.20, BARE: 0.20, PART: 0.06, UNSURE: 0.06, NONE: 0.28}
"""Share of each kind in a batch; absent kinds leave theirs to the others."""
_HARDEST_SHARE = 0.7
_OFFSETS_WEIGHT, _LANDMARKS_WEIGHT, _TEACHER_WEIGHT = 4.0, 4.0, 0.5
"""Weights of the losses beside the cross-entropy's 1."""
_BOX_WEIGHTS = {REAL: 0.25, PASTED: 1.0, BARE: 1.0, PART: 0.25, UNSURE: 0.0, NONE: 0.0}
"""Weights of each kind in the losses of offsets and landmarks: drawn boxes are rough, and the
offsets of parts are large."""
_SMOOTH_L1_BETA = 0.02
"""Fraction of a window below which the difference is squared."""
_EMA = 0.998
_WARM_UP_STEPS = 100
_WEIGHT_DECAY = 1e-4
_MAX_GRADIENT_NORM = 5.0


@dataclass(frozen=True)
class WindowLosses:
    """Mean losses of a round."""

    score: float
    offsets: float
    landmarks: float
    teacher: float


class Student:
    """A net in training, with its optimiser and the running mean of its weights.

    Args:
        net: the teacher's net, which is trained in place.
        config: settings of this net; the learning rate falls over all its rounds.
        device: device to train on.
    """

    def __init__(self, net: nn.Module, config: NetConfig, *, device: torch.device) -> None:
        net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        net.requires_grad_(True).train()
        self.net = net
        self.config, self.device = config, device
        self.mean = {name: value.clone() for name, value in net.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            net.parameters(), lr=config.lr, weight_decay=_WEIGHT_DECAY, betas=(0.9, 0.99)
        )
        self.step_count = 0

    def tensors(self) -> dict[str, Tensor]:
        """Return what `restore` needs, beside the net's weights and the number of steps."""
        found = {f"mean.{name}": value for name, value in self.mean.items()}
        for index, each in self.optimiser.state_dict()["state"].items():
            found |= {f"adam.{index}.{name}": value for name, value in each.items()}
        return found

    def restore(self, tensors: Mapping[str, Tensor], *, steps: int) -> None:
        """Continue from what `tensors` returned."""
        self.mean = {k: v.to(self.device) for k, v in strip_prefix("mean.", tensors).items()}
        optimiser = self.optimiser.state_dict()
        for name, value in strip_prefix("adam.", tensors).items():
            index, part = name.split(".")
            optimiser["state"].setdefault(int(index), {})[part] = value
        self.optimiser.load_state_dict(optimiser)
        self.step_count = steps

    def learn(
        self, windows: Windows, *, round_number: int, rng: np.random.Generator
    ) -> WindowLosses:
        """Train for one round: `epochs` times on all windows."""
        steps = max(1, len(windows) * self.config.epochs // self.config.batch_size)
        sums = np.zeros(4)
        batches = _batches(windows.kind, self.config.batch_size, steps, rng)
        for done, rows in enumerate(batches):
            progress = (round_number + done / steps) / self.config.rounds
            warm_up = min(1.0, (self.step_count + 1) / _WARM_UP_STEPS)
            for group in self.optimiser.param_groups:
                group["lr"] = self.config.lr * warm_up * 0.5 * (1 + math.cos(math.pi * progress))
            batch = windows.take(rows)
            sums += self._step(jitter_windows(batch, rng) if self.config.vary else batch)
        return WindowLosses(*(sums / steps).tolist())

    def _step(self, windows: Windows) -> np.ndarray:
        """Train on one batch and return its four losses."""
        pixels = torch.from_numpy(windows.pixels).to(self.device)
        x = (pixels.permute(0, 3, 1, 2).float() - 127.5) / 128
        kind = torch.from_numpy(windows.kind).to(self.device)
        losses = _losses(
            _net_output(self.net, x),
            kind,
            torch.from_numpy(windows.offsets).to(self.device),
            torch.from_numpy(windows.landmarks).to(self.device),
            torch.from_numpy(windows.teacher).to(self.device),
            keep=self.config.keep,
        )
        weights = torch.tensor(
            [1.0, _OFFSETS_WEIGHT, _LANDMARKS_WEIGHT, _TEACHER_WEIGHT], device=self.device
        )
        self.optimiser.zero_grad(set_to_none=True)
        (losses * weights).sum().backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), _MAX_GRADIENT_NORM)
        self.optimiser.step()
        self.step_count += 1
        decay = min(_EMA, 1 - 1 / (self.step_count + 1))
        with torch.no_grad():
            for name, value in self.net.state_dict().items():
                self.mean[name].lerp_(value, 1 - decay)
        found: np.ndarray = losses.detach().double().cpu().numpy()
        return found


def strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of the tensors whose names start with a prefix, under the rest of the name."""
    return {k[len(prefix) :]: v.clone() for k, v in tensors.items() if k.startswith(prefix)}


def _net_output(net: nn.Module, x: Tensor) -> Tensor:
    """Return (N, 5 or 15) as an engine does: logit, offsets, landmarks."""
    logits, offsets, *landmarks = net(x)
    columns = [(logits[:, 1] - logits[:, 0])[:, None], offsets, *landmarks]
    return torch.cat([column.flatten(1) for column in columns], dim=1)


def _losses(
    output: Tensor,
    kind: Tensor,
    offsets: Tensor,
    landmarks: Tensor,
    teacher: Tensor,
    *,
    keep: float,
) -> Tensor:
    """Return (4,) losses: score, offsets, landmarks, teacher."""
    logit, teacher_logit = output[:, 0], teacher[:, 0]
    labelled = (kind <= BARE) | (kind == NONE)
    each = functional.binary_cross_entropy_with_logits(
        logit[labelled], (kind[labelled] <= BARE).float(), reduction="none"
    )
    hardest = each.topk(math.ceil(_HARDEST_SHARE * len(each))).values
    unsure = functional.binary_cross_entropy_with_logits(
        logit, teacher_logit.sigmoid(), reduction="none"
    )[kind == UNSURE]
    kept = functional.smooth_l1_loss(logit, teacher_logit, reduction="none")
    kept = kept[(kind == BARE) & (teacher_logit > 0)]
    weights = torch.tensor(list(_BOX_WEIGHTS.values()), device=output.device)[kind.long()]
    return torch.stack(
        [
            _mean(hardest),
            _mean_difference(output[:, 1:5], offsets, weights),
            _mean_difference(output[:, 5:], landmarks, weights),
            _mean(unsure) + keep * _mean(kept),
        ]
    )


def _mean_difference(output: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean difference over the windows that have a target."""
    known = wanted.isfinite().all(dim=1) & (weights > 0)
    if not output.shape[1] or not known.any():
        return output.sum() * 0
    each = functional.smooth_l1_loss(
        output[known], wanted[known], beta=_SMOOTH_L1_BETA, reduction="none"
    )
    return (each.mean(dim=1) * weights[known]).sum() / weights[known].sum()


def _mean(values: Tensor) -> Tensor:
    return values.mean() if len(values) else values.sum()


def _batches(
    kind: np.ndarray, size: int, steps: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Draw the rows of each batch with the shares of `_BATCH_SHARES`."""
    rows = {each: np.flatnonzero(kind == each) for each in range(len(WINDOW_KINDS))}
    rows = {each: found for each, found in rows.items() if len(found)}
    shares = np.array([_BATCH_SHARES[each] for each in rows])
    shares /= shares.sum()
    for _ in range(steps):
        counts = rng.multinomial(size, shares)
        yield np.concatenate(
            [rng.choice(found, n) for (_, found), n in zip(rows.items(), counts, strict=True)]
        )

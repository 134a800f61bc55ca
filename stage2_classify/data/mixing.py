"""MixUp, CutMix and half-CutMix: two crops, and their labels, combined into one.

timm's Mixup has one task, even batches and numpy's global random state; torchvision's has one label
tensor and torch's. Here a batch has several tasks, and everything follows from its seed. Knows
batches on a device; knows nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cropfirst.stage2_classify.config import MixConfig

Targets = Mapping[str, Tensor]
"""Task -> (B,) int64 class numbers, (B, classes) float shares of classes, or (B,) float values."""


@dataclass(frozen=True)
class Mixer:
    """Mixes batches as a config says; the same seed mixes the same way.

    Attributes:
        n_classes: task -> number of classes, for tasks whose targets are class numbers.
    """

    config: MixConfig
    n_classes: Mapping[str, int]

    def __call__(
        self, images: Tensor, targets: Targets, *, n_partners: int, seed: tuple[int, ...]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mix a batch with the configured probability.

        Args:
            images: (B, 3, H, W) float; may be written to.
            targets: B entries each.
            n_partners: number of images at the end that are mixed into the first ones; 0 = each
                image is mixed with its neighbour in the batch.
            seed: (seed, fold, epoch, step).

        Returns:
            B - n_partners images, and their targets, as shares of classes if they were mixed.
        """
        random = np.random.default_rng((*seed, 1))
        if n_partners:
            n = len(images) - n_partners
            first, second = images[:n], images[n:]
            others = {task: (value[:n], value[n:]) for task, value in targets.items()}
        else:
            alone = self.config.rare is not None or len(images) < 2
            if self.config.kind == "none" or alone or random.random() >= self.config.prob:
                return images, dict(targets)
            first, second = images, images.roll(1, 0)
            others = {task: (value, value.roll(1, 0)) for task, value in targets.items()}
        mixed, share = self._mix(first, second, random)
        return mixed, {
            task: mix_targets(*pair, share=share, n_classes=self.n_classes.get(task, 0))
            for task, pair in others.items()
        }

    def _mix(
        self, first: Tensor, second: Tensor, random: np.random.Generator
    ) -> tuple[Tensor, float]:
        kind = self.config.kind
        if kind == "half_cutmix":
            at = float(random.uniform(*self.config.half))
            return join_halves(first, second, at=at, swap=bool(random.random() < 0.5))
        share = self.config.ratio or float(random.beta(self.config.alpha, self.config.alpha))
        if kind == "mixup":
            return torch.lerp(second, first, share), share
        height, width = first.shape[-2:]
        centre = (int(random.integers(height)), int(random.integers(width)))
        return paste_rectangle(first, second, share=share, centre=centre)


def join_halves(
    first: Tensor, second: Tensor, *, at: float, swap: bool = False
) -> tuple[Tensor, float]:
    """Join the left of one image and the right of another.

    Args:
        at: where they meet, from the left, as a share of the width.
        swap: whether the first image is on the right.

    Returns:
        The images, and the first one's share of the width.
    """
    width = first.shape[-1]
    column = min(max(round(at * width), 1), width - 1)
    left, right = (second, first) if swap else (first, second)
    joined = torch.cat([left[..., :column], right[..., column:]], dim=-1)
    share = column / width
    # cat may lose channels_last, which convolutions are fastest with.
    return _like(joined, first), 1 - share if swap else share


def paste_rectangle(
    first: Tensor, second: Tensor, *, share: float, centre: tuple[int, int]
) -> tuple[Tensor, float]:
    """Paste a rectangle of the second image into the first: CutMix (Yun et al., ICCV 2019).

    Args:
        share: wanted share of the first image.
        centre: (row, column) of the rectangle, which the border may cut.

    Returns:
        The images, and the first one's resulting share of the area.
    """
    height, width = first.shape[-2:]
    side = float(np.sqrt(1 - share))
    top, bottom = _span(centre[0], int(height * side), height)
    left, right = _span(centre[1], int(width * side), width)
    mixed = first.clone()
    mixed[..., top:bottom, left:right] = second[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def mix_targets(first: Tensor, second: Tensor, *, share: float, n_classes: int = 0) -> Tensor:
    """Mix targets: class numbers become (B, classes) shares, floats are averaged."""
    if not first.is_floating_point():
        first, second = (F.one_hot(each, n_classes).float() for each in (first, second))
    return first * share + second * (1 - share)


def _span(centre: int, length: int, limit: int) -> tuple[int, int]:
    return max(centre - length // 2, 0), min(centre + (length + 1) // 2, limit)


def _like(images: Tensor, model: Tensor) -> Tensor:
    if model.is_contiguous(memory_format=torch.channels_last):
        return images.contiguous(memory_format=torch.channels_last)
    return images

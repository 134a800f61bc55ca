"""From the loader to what the network takes: moved, gathered, augmented, normalised, mixed.

Knows batches and the device; knows nothing of folds, losses or where crops are stored.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cropfirst.stage2_classify.data.augment import Plan, apply_on_device
from cropfirst.stage2_classify.data.crop_dataset import Batch
from cropfirst.stage2_classify.data.mixing import Mixer
from cropfirst.stage2_classify.model.models import Classifier


class Ready(NamedTuple):
    """One batch as the network takes it."""

    images: Tensor
    """(B, 3, S, S) float32, normalised, on the device."""
    targets: dict[str, Tensor]
    """Task -> (B,) int64 or float32, or (B, classes) float32 where crops are mixed."""
    of: int = 0
    """Crops of the whole batch, where these are one process's part of it; 0 = these are all."""


@dataclass
class Feed:
    """The batches of an epoch, ready for `model`.

    Attributes:
        on_device: (N, S, S, 3) uint8, where the loader gives row numbers only.
        mixer: None mixes nothing.
        reuse: write each batch's images where the last one's were, which are then no more.
        seed: (seed, fold, epoch) of the epoch that is asked for next.
        waited: seconds that the last epoch spent waiting for the loader.
    """

    model: Classifier
    loader: DataLoader[Any]
    on_device: Tensor | None = None
    mixer: Mixer | None = None
    seed: tuple[int, ...] = ()
    reuse: bool = False
    _room: Tensor | None = field(default=None, init=False)
    waited: float = field(default=0.0, init=False)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Ready]:
        self.waited = 0.0
        started = time.perf_counter()
        for batch in self.loader:
            self.waited += time.perf_counter() - started
            yield self.prepare(batch)
            started = time.perf_counter()

    @torch.no_grad()
    def prepare(self, batch: Batch) -> Ready:
        """Do what is left to do to a batch, on the device."""
        device = self.model.mean.device
        targets = {t: each.to(device, non_blocking=True) for t, each in batch.targets.items()}
        crops = batch.crops.to(device, non_blocking=True)
        if self.on_device is not None:
            crops = self.on_device[crops]
        if batch.plan is not None:
            plan = Plan(*(each.to(device, non_blocking=True) for each in batch.plan))
            images = apply_on_device(crops.permute(0, 3, 1, 2).float(), plan)
            crops = images.permute(0, 2, 3, 1)
        if self.reuse and (self._room is None or len(self._room) < crops.numel()):
            self._room = torch.empty(crops.numel(), device=device)
        images = self.model.prepare(crops, lights=batch.lights, room=self._room)
        if self.mixer is None:
            return Ready(images, targets, batch.of)
        seed = (*self.seed, batch.step)
        mixed = self.mixer(images, targets, n_partners=batch.n_partners, seed=seed)
        return Ready(*mixed, batch.of)

"""From the loader to what the network takes: moved to the device, augmented, normalised, mixed.

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

from cropfirst.stage2_classify.data.augment import AugmentParams, apply_on_device
from cropfirst.stage2_classify.data.crop_dataset import Batch
from cropfirst.stage2_classify.data.mixing import Mixer
from cropfirst.stage2_classify.model.models import Classifier


class DeviceBatch(NamedTuple):
    """One batch as the network takes it."""

    images: Tensor
    """(B, 3, S, S) float32, normalised, on the device."""
    targets: dict[str, Tensor]
    """Task -> (B,) int64 or float32, or (B, classes) float32 if crops are mixed."""
    n_total: int = 0
    """Number of crops in the complete batch, if this is one process's part; else 0."""


@dataclass
class Prefetcher:
    """The batches of an epoch, ready for a model.

    Attributes:
        on_device: (N, S, S, 3) uint8 crops, if the loader gives row numbers only.
        mixer: None does not mix.
        seed: (seed, fold, epoch) of the next epoch.
        reuse: write the images of each batch over those of the last one.
        wait_seconds: time that the last epoch spent waiting for the loader.
    """

    model: Classifier
    loader: DataLoader[Any]
    on_device: Tensor | None = None
    mixer: Mixer | None = None
    seed: tuple[int, ...] = ()
    reuse: bool = False
    _buffer: Tensor | None = field(default=None, init=False)
    wait_seconds: float = field(default=0.0, init=False)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[DeviceBatch]:
        self.wait_seconds = 0.0
        started = time.perf_counter()
        for batch in self.loader:
            self.wait_seconds += time.perf_counter() - started
            yield self.prepare(batch)
            started = time.perf_counter()

    @torch.no_grad()
    def prepare(self, batch: Batch) -> DeviceBatch:
        """Move a batch to the device, and augment, normalise and mix it there."""
        device = self.model.mean.device
        targets = {t: each.to(device, non_blocking=True) for t, each in batch.targets.items()}
        crops = batch.crops.to(device, non_blocking=True)
        if self.on_device is not None:
            crops = self.on_device[crops]
        if batch.params is not None:
            params = AugmentParams(*(each.to(device, non_blocking=True) for each in batch.params))
            images = apply_on_device(crops.permute(0, 3, 1, 2).float(), params)
            crops = images.permute(0, 2, 3, 1)
        if self.reuse and (self._buffer is None or len(self._buffer) < crops.numel()):
            self._buffer = torch.empty(crops.numel(), device=device)
        images = self.model.prepare(crops, lights=batch.lights, buffer=self._buffer)
        if self.mixer is None:
            return DeviceBatch(images, targets, batch.n_total)
        seed = (*self.seed, batch.step)
        mixed = self.mixer(images, targets, n_partners=batch.n_partners, seed=seed)
        return DeviceBatch(*mixed, batch.n_total)

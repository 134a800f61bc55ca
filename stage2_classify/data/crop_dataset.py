"""Batches of uint8 crops with their targets, augmented on the CPU, and their loader.

What a batch holds depends on its request and the seed alone, never on loader processes or
preloading. The model normalises the crops, on its device.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cropfirst.core.workers import end_with_parent
from cropfirst.stage2_classify.data.augment import Augmenter, AugmentParams, apply_on_cpu
from cropfirst.stage2_classify.data.crop_source import CropSource, start_method
from cropfirst.stage2_classify.data.sampling import BatchRequest, EpochSampler, Rows

SMALL_SET = 2000
"""Number of photos up to which starting loader processes costs more than it gains."""


class Batch(NamedTuple):
    """One batch as it leaves the loader."""

    crops: Tensor
    """(B, S, S, 3) uint8; or (B,) int64 row numbers if the crops are held on the device."""
    targets: dict[str, Tensor]
    """Task -> (B,) int64 class numbers or float32 values."""
    params: AugmentParams | None
    """The moving and erasing of crops that the device does; None if nothing is left to it."""
    lights: Tensor | None
    """(B, 2) float32 factor and summand of the values 0-255, for the normalisation."""
    n_partners: int
    """Number of crops at the end that are only mixed into the others."""
    step: int
    n_total: int = 0
    """Number of crops in the complete batch, if this is one process's part; else 0."""


class CropDataset(Dataset[Batch]):
    """Batches of crops with their targets."""

    def __init__(
        self,
        source: CropSource,
        targets: Mapping[str, NDArray[Any]],
        *,
        augmenter: Augmenter | None = None,
        seed: tuple[int, ...] = (),
        params_only: bool = False,
        reuse: bool = False,
    ) -> None:
        """Join crops and targets.

        Args:
            targets: task -> (N,) int64 or float32, rows as in `source`.
            augmenter: None does not augment.
            seed: (seed, fold).
            params_only: leave to the device what it can do: moving and erasing.
            reuse: write each batch over the last one. New memory must be mapped page by page,
                which costs more than reading the crops.
        """
        self.source = source
        self.targets = {task: torch.from_numpy(value) for task, value in targets.items()}
        self.augmenter = augmenter or Augmenter()
        self.seed = seed
        self.params_only = params_only
        self.reuse = reuse
        self._buffer = torch.empty(0, dtype=torch.uint8)
        self._crop = np.empty((source.image_size, source.image_size, 3), np.uint8)

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, request: BatchRequest) -> Batch:
        """Load one batch."""
        rows, size = request.rows, self.source.image_size
        seed = (*self.seed, request.epoch, request.step)
        unchanged = self.augmenter.does_nothing
        params = None if unchanged else self.augmenter.draw(rows, size=size, seed=seed)
        # What happens to a crop does not depend on how many processes share its batch, so the
        # parameters are drawn for the complete batch.
        positions: Rows = np.arange(len(rows))
        n_partners, n_total = request.n_partners, 0
        if request.positions is not None:
            positions, n_total = request.positions, len(rows) - n_partners
            n_partners = int((positions >= n_total).sum())
            rows = rows[positions]
            params = None if params is None else AugmentParams(*(x[positions] for x in params))
        index = torch.from_numpy(rows)
        targets = {task: value[index] for task, value in self.targets.items()}
        if self.source.on_device is not None:
            crops = index
        else:
            crops = self._memory(len(rows) * size * size * 3).view(len(rows), size, size, 3)
            on_cpu = None if self.params_only else params
            for i, out in enumerate(crops.numpy()):
                self._fill(out, int(rows[i]), on_cpu, i, seed=(*seed, int(positions[i])))
        on_device = lights = None
        if params is not None:
            lights = torch.from_numpy(params.lights)
            if self.params_only:
                on_device = AugmentParams(*(torch.from_numpy(each) for each in params))
        return Batch(crops, targets, on_device, lights, n_partners, request.step, n_total)

    def _memory(self, n_bytes: int) -> Tensor:
        if not self.reuse:
            return torch.empty(n_bytes, dtype=torch.uint8)
        if len(self._buffer) < n_bytes:
            self._buffer = torch.empty(n_bytes, dtype=torch.uint8)
        return self._buffer[:n_bytes]

    def _fill(
        self,
        out: NDArray[np.uint8],
        row: int,
        params: AugmentParams | None,
        i: int,
        *,
        seed: tuple[int, ...],
    ) -> None:
        """Read and augment the crop of a row, whose parameters are number `i` of the batch."""
        moves = params is not None and (params.moved[i] or params.mirrored[i])
        # A moved crop is read at scattered places: from memory that is in the CPU's cache.
        crop = self._crop if moves else out
        self.source.read(row, crop)
        transforms = self.augmenter.transforms_of(row)
        if transforms is not None:
            crop = transforms(crop, seed=seed)
        if params is not None:
            apply_on_cpu(crop, params, i, out=out)
        elif crop is not out:
            out[...] = crop


def make_loader(
    dataset: CropDataset, sampler: EpochSampler, *, workers: int, device: torch.device
) -> DataLoader[Any]:
    """Build a loader whose worker processes live as long as it does."""
    if start_method() == "forkserver":  # imported once, not by each worker
        multiprocessing.set_forkserver_preload([__name__])
    return DataLoader(
        dataset,
        batch_sampler=sampler,  # type: ignore[arg-type]  # its batches are requests, not lists
        num_workers=workers,
        collate_fn=_identity,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        worker_init_fn=_init_worker,
        # Its own generator, so that making an iterator draws nothing from the training's.
        generator=torch.Generator(),
    )


def choose_workers(
    workers: int | None, *, n_photos: int, device: torch.device, sharers: int = 1
) -> int:
    """Return the number of loader processes.

    Args:
        workers: as the user set it; None = 0 where they gain nothing, and up to 8 beside a GPU.
        sharers: number of processes on this machine that start as many.
    """
    if workers is not None:
        return workers
    if device.type == "cpu" or n_photos < SMALL_SET:
        return 0
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(0, min(8, cores // sharers - 1))


def _identity(batch: Any) -> Any:
    return batch


def _init_worker(worker: int) -> None:
    import cv2

    cv2.setNumThreads(0)
    end_with_parent()  # torch's own check takes the forkserver for the parent

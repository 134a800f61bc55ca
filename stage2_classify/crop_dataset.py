"""Crops from the cache to batches of uint8 tensors.

Knows keys, crops and class numbers; normalisation is the model's, on its device. What a batch
holds depends on (seed, fold, epoch, row) alone, never on workers or preloading.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cropfirst.cache import CropSet
from cropfirst.stage2_classify.augment import Augment

PRELOAD_LIMIT = 2 << 30
"""Bytes of crops that `preload=None` still takes into memory."""
SMALL_SET = 2000
"""Photos up to which starting worker processes costs more than it gains."""

Request = tuple[int, int]
"""(epoch, row): the epoch travels with each row, since workers outlive epochs."""
Batch = tuple[Tensor, Tensor]


def resize_crop(crop: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize an (H, W, 3) uint8 crop to (size, size, 3): area down, linear up."""
    if crop.shape[:2] == (size, size):
        return crop
    import cv2

    shrinks = max(crop.shape[:2]) > size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(crop, (size, size), interpolation=method), np.uint8)


class CropSource:
    """The crops of some photos by row number, from memory or from the cache."""

    def __init__(
        self,
        crops: CropSet,
        keys: Sequence[str],
        *,
        image_size: int | None = None,
        preload: bool | None = None,
    ) -> None:
        """Open the crops of `keys`, all of which must be in the crop set.

        Args:
            image_size: side in pixels; None is that of the first crop.
            preload: read all now; None does so where they fit in `PRELOAD_LIMIT`.

        Raises:
            CacheMissingError: a crop is not there.
        """
        self.keys = tuple(keys)
        self._reader = crops.reader()
        self.image_size = image_size or max(self._reader[self.keys[0]].shape[:2])
        shape = (len(self.keys), self.image_size, self.image_size, 3)
        # Where workers are spawned, not forked, each would get a copy of its own.
        start = multiprocessing.get_start_method(allow_none=True)
        shared = (start or multiprocessing.get_all_start_methods()[0]) == "fork"
        fits = int(np.prod(shape)) <= PRELOAD_LIMIT and shared
        self._pixels: NDArray[np.uint8] | None = None
        if fits if preload is None else preload:
            pixels = np.empty(shape, np.uint8)
            for row in range(len(self.keys)):
                pixels[row] = self[row]
            self._pixels = pixels

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        """(S, S, 3) uint8 RGB; not to be written to."""
        if self._pixels is not None:
            return self._pixels[row]
        return resize_crop(self._reader[self.keys[row]], self.image_size)


class CropDataset(Dataset[Batch]):
    """Batches of crops with their class numbers."""

    def __init__(
        self,
        source: CropSource,
        targets: NDArray[np.int64],
        *,
        augment: Augment,
        seed: tuple[int, ...] = (),
    ) -> None:
        """Targets are (N, tasks), rows as in `source`; `seed` is (seed, fold)."""
        self.source = source
        self.targets = targets
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, requests: Sequence[Request]) -> Batch:
        """(B, S, S, 3) uint8 crops and (B, tasks) int64 class numbers."""
        size = self.source.image_size
        images = np.empty((len(requests), size, size, 3), np.uint8)
        for place, (epoch, row) in enumerate(requests):
            images[place] = self.augment(self.source[row], seed=(*self.seed, epoch, row))
        rows = [row for _, row in requests]
        return torch.from_numpy(images), torch.from_numpy(self.targets[rows])


class EpochSampler(Sampler[list[Request]]):
    """Batches of rows: shuffled by (seed, epoch), or in order where `seed` is None."""

    def __init__(
        self, rows: NDArray[np.int64], *, batch_size: int, seed: tuple[int, ...] | None
    ) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[list[Request]]:
        rows = self.rows
        if self.seed is not None:
            rows = np.random.default_rng((*self.seed, self.epoch)).permutation(rows)
        for start in self._starts():
            yield [(self.epoch, int(row)) for row in rows[start : start + self.batch_size]]

    def _starts(self) -> range:
        # A last batch of one crop would break batch norm, and is left for another epoch.
        drop_one = self.seed is not None and len(self.rows) > 1
        return range(0, len(self.rows) - int(drop_one), self.batch_size)


def make_loader(
    dataset: CropDataset, sampler: EpochSampler, *, workers: int, device: torch.device
) -> DataLoader[Any]:
    """A loader whose worker processes live as long as it does."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_as_is,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
        # Its own generator, so that making an iterator draws nothing from the training's.
        generator=torch.Generator(),
    )


def pick_workers(workers: int | None, *, n_photos: int, device: torch.device) -> int:
    """Worker processes: as asked; else none where they gain nothing, and up to 8 beside a GPU."""
    if workers is not None:
        return workers
    if device.type == "cpu" or n_photos < SMALL_SET:
        return 0
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(0, min(8, cores - 1))


def _as_is(batch: Any) -> Any:
    return batch


def _one_thread(worker: int) -> None:
    import cv2

    cv2.setNumThreads(0)

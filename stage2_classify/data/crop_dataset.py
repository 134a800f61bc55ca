"""Crops from the cache to batches of uint8 tensors.

Knows keys, crops and targets; normalisation is the model's, on its device. What a batch holds
depends on its request and the seed alone, never on workers or preloading.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cropfirst.cache import CropSet
from cropfirst.core.errors import TrainError
from cropfirst.core.workers import end_with_parent
from cropfirst.stage2_classify.data.augment import Augmenter, Plan, apply_on_cpu
from cropfirst.stage2_classify.data.sampling import EpochSampler, Request, Rows

PRELOAD_LIMIT = 2 << 30
"""Bytes of crops that `preload=auto` still takes into RAM."""
SMALL_SET = 2000
"""Photos up to which starting worker processes costs more than it gains."""

Preload = Literal["auto", "none", "ram", "device", "cpu"]
"""As `DataConfig.preload`; cpu = auto, but never the GPU's memory."""


class Batch(NamedTuple):
    """One batch as it leaves the loader."""

    crops: Tensor
    """(B, S, S, 3) uint8; or (B,) int64 row numbers, where the crops lie on the device."""
    targets: dict[str, Tensor]
    """Task -> (B,) int64 class numbers or float32 values."""
    plan: Plan | None
    """Where crops are moved and erased by the device: how."""
    lights: Tensor | None
    """(B, 2) float32, factor and summand of the values 0-255, for the normalisation."""
    n_partners: int
    """How many at the end are there to be mixed in only."""
    step: int
    of: int = 0
    """Crops of the whole batch, where these are one process's part of it; 0 = these are all."""


def resize_crop(crop: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize an (H, W, 3) uint8 crop to (size, size, 3): area down, linear up."""
    if crop.shape[:2] == (size, size):
        return crop
    import cv2

    shrinks = max(crop.shape[:2]) > size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(crop, (size, size), interpolation=method), np.uint8)


class CropSource:
    """The crops of some photos by row number, from the cache, from memory or from the GPU's.

    Attributes:
        on_device: (N, S, S, 3) uint8 on the device, if that is where they are.
    """

    def __init__(
        self,
        crops: CropSet,
        keys: Sequence[str],
        *,
        image_size: int | None = None,
        preload: Preload = "auto",
        device: torch.device | None = None,
        sharers: int = 1,
    ) -> None:
        """Open the crops of `keys`, all of which must be in the crop set.

        Args:
            image_size: side in pixels; None is that of the first crop.
            preload: where to; see `DataConfig.preload`.
            device: where the network is; None is the CPU.
            sharers: processes on this machine that do the same.

        Raises:
            CacheMissingError: a crop is not there.
            TrainError: they do not fit where they were asked to go.
        """
        self.keys = tuple(keys)
        self._reader = crops.reader()
        self.image_size = image_size or max(self._reader[self.keys[0]].shape[:2])
        self._pixels: NDArray[np.uint8] | None = None
        self.on_device: Tensor | None = None
        device = device or torch.device("cpu")
        shape = (len(self.keys), self.image_size, self.image_size, 3)
        n_bytes = int(np.prod(shape))
        place = pick_preload(preload, n_bytes=n_bytes, device=device, sharers=sharers)
        if place == "ram":
            pixels = np.empty(shape, np.uint8)
            for row in range(len(self.keys)):
                self.read(row, pixels[row])
            self._pixels = pixels
        elif place == "device":
            self.on_device = torch.empty(shape, dtype=torch.uint8, device=device)
            for row in range(len(self.keys)):
                self.on_device[row] = torch.from_numpy(self[row])

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        """(S, S, 3) uint8 RGB; not to be written to."""
        if self._pixels is not None:
            return self._pixels[row]
        return resize_crop(self._reader[self.keys[row]], self.image_size)

    def read(self, row: int, out: NDArray[np.uint8]) -> None:
        """Write a crop to `out`, (S, S, 3)."""
        if self._pixels is not None or not self._reader.read_into(self.keys[row], out):
            out[...] = self[row]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "on_device": None}  # workers read none of it


def pick_preload(
    preload: Preload, *, n_bytes: int, device: torch.device, sharers: int = 1
) -> Preload:
    """Where `n_bytes` of crops are held: ram, device or none; in RAM, by each of the sharers.

    Raises:
        TrainError: they do not fit where they were asked to go.
    """
    if preload == "none":
        return "none"
    if preload in ("auto", "device") and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if n_bytes * 2 < free:  # the network and its activations want the other half
            return "device"
        if preload == "device":
            raise _too_large(preload, n_bytes, free // 2, "half of the free memory of the GPU")
    free = _free_memory() // sharers
    if preload in ("ram", "device"):  # without a GPU, the device's memory is this one
        if n_bytes > free:
            raise _too_large(preload, n_bytes, free, "the free memory")
        return "ram"
    # Where workers are spawned, not forked, each would get a copy of its own.
    shared = _start_method() == "fork"
    return "ram" if n_bytes <= min(PRELOAD_LIMIT, free // 2) and shared else "none"


def _start_method() -> str:
    """How this process starts others: as it was told, or the platform's way."""
    told = multiprocessing.get_start_method(allow_none=True)
    return told or multiprocessing.get_all_start_methods()[0]


class CropDataset(Dataset[Batch]):
    """Batches of crops with their targets."""

    def __init__(
        self,
        source: CropSource,
        targets: Mapping[str, NDArray[Any]],
        *,
        augmenter: Augmenter | None = None,
        seed: tuple[int, ...] = (),
        plan_only: bool = False,
        reuse: bool = False,
    ) -> None:
        """Bring crops and targets together.

        Args:
            targets: task -> (N,) int64 or float32, rows as in `source`.
            augmenter: None changes nothing.
            seed: (seed, fold).
            plan_only: leave to the device what the device can do.
            reuse: write each batch where the last one was, which is then no more. New memory must
                be mapped page by page, and that costs more than reading the crops.
        """
        self.source = source
        self.targets = {task: torch.from_numpy(value) for task, value in targets.items()}
        self.augmenter = augmenter or Augmenter()
        self.seed = seed
        self.plan_only = plan_only
        self.reuse = reuse
        self._buffer = torch.empty(0, dtype=torch.uint8)
        self._crop = np.empty((source.image_size, source.image_size, 3), np.uint8)

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, request: Request) -> Batch:
        """One batch."""
        rows, size = request.rows, self.source.image_size
        seed = (*self.seed, request.epoch, request.step)
        nothing = self.augmenter.does_nothing
        plan = None if nothing else self.augmenter.plan(rows, size=size, seed=seed)
        # What becomes of a crop does not depend on how many processes share its batch.
        places: Rows = np.arange(len(rows))
        n_partners, of = request.n_partners, 0
        if request.places is not None:
            places, of = request.places, len(rows) - n_partners
            n_partners = int((places >= of).sum())
            rows = rows[places]
            plan = None if plan is None else Plan(*(each[places] for each in plan))
        index = torch.from_numpy(rows)
        targets = {task: value[index] for task, value in self.targets.items()}
        if self.source.on_device is not None:
            crops = index
        else:
            crops = self._room_for(len(rows) * size * size * 3).view(len(rows), size, size, 3)
            now = None if self.plan_only else plan
            for place, out in enumerate(crops.numpy()):
                self._fill(out, int(rows[place]), now, place, seed=(*seed, int(places[place])))
        left = lights = None
        if plan is not None:
            lights = torch.from_numpy(plan.lights)
            if self.plan_only:
                left = Plan(*(torch.from_numpy(each) for each in plan))
        return Batch(crops, targets, left, lights, n_partners, request.step, of)

    def _room_for(self, n_bytes: int) -> Tensor:
        if not self.reuse:
            return torch.empty(n_bytes, dtype=torch.uint8)
        if len(self._buffer) < n_bytes:
            self._buffer = torch.empty(n_bytes, dtype=torch.uint8)
        return self._buffer[:n_bytes]

    def _fill(
        self,
        out: NDArray[np.uint8],
        row: int,
        plan: Plan | None,
        place: int,
        *,
        seed: tuple[int, ...],
    ) -> None:
        moves = plan is not None and (plan.moved[place] or plan.mirrored[place])
        # Read in order first, and into memory that is used again: moving reads all over the crop.
        crop = self._crop if moves else out
        self.source.read(row, crop)
        transforms = self.augmenter.extra_of(row)
        if transforms is not None:
            crop = transforms(crop, seed=seed)
        if plan is not None:
            apply_on_cpu(crop, plan, place, out=out)
        elif crop is not out:
            out[...] = crop


def make_loader(
    dataset: CropDataset, sampler: EpochSampler, *, workers: int, device: torch.device
) -> DataLoader[Any]:
    """A loader whose worker processes live as long as it does."""
    if _start_method() == "forkserver":  # imported once, not by each worker
        multiprocessing.set_forkserver_preload([__name__])
    return DataLoader(
        dataset,
        batch_sampler=sampler,  # type: ignore[arg-type]  # its batches are requests, not lists
        num_workers=workers,
        collate_fn=_as_is,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        worker_init_fn=_begin_work,
        # Its own generator, so that making an iterator draws nothing from the training's.
        generator=torch.Generator(),
    )


def pick_workers(
    workers: int | None, *, n_photos: int, device: torch.device, sharers: int = 1
) -> int:
    """Worker processes: as asked; else none where they gain nothing, and up to 8 beside a GPU.

    Args:
        sharers: processes on this machine that want as many.
    """
    if workers is not None:
        return workers
    if device.type == "cpu" or n_photos < SMALL_SET:
        return 0
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(0, min(8, cores // sharers - 1))


def _too_large(preload: str, n_bytes: int, limit: int, what: str) -> TrainError:
    return TrainError(
        f"data.preload={preload}: the crops take {n_bytes / 2**30:.1f} GiB, more than {what}, "
        f"{limit / 2**30:.1f} GiB; use auto or none, or a smaller data.image_size"
    )


def _free_memory() -> int:
    """Bytes of RAM that are free, or can be freed at once."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):  # no Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _as_is(batch: Any) -> Any:
    return batch


def _begin_work(worker: int) -> None:
    import cv2

    cv2.setNumThreads(0)
    end_with_parent()  # torch's own watch takes a server of processes for the parent

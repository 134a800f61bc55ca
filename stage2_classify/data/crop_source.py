"""The crops of a run by row number: read from the cache, or held in memory or on the GPU.

Knows keys, pixels and memory; knows nothing of targets or augmentation.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cropfirst.cache import CropSet
from cropfirst.core.errors import TrainError
from cropfirst.core.faces.crop import resize_crop

PRELOAD_LIMIT = 2 << 30
"""Bytes of crops that `preload=auto` loads into RAM at most."""

Preload = Literal["auto", "none", "ram", "device", "cpu"]
"""As `DataConfig.preload`; cpu = auto, but never the GPU's memory."""


class CropSource:
    """The crops of some photos by row number.

    Attributes:
        on_device: (N, S, S, 3) uint8 on the device, if the crops are held there.
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
        more: Sequence[tuple[CropSet, Sequence[str]]] = (),
    ) -> None:
        """Open the crops of `keys`, and load them if `preload` says so.

        Args:
            keys: photos, all of which are in the crop set.
            image_size: side in pixels; None is that of the first crop.
            preload: where to hold the crops; see `DataConfig.preload`.
            device: the network's device; None is the CPU.
            sharers: number of processes on this machine that do the same.
            more: further crop sets and the keys of their crops, whose rows follow.

        Raises:
            CacheMissingError: a crop is missing.
            TrainError: the crops do not fit where they were asked to go.
        """
        parts = [(crops, keys), *more]
        self.keys = tuple(key for _, names in parts for key in names)
        self._readers = [each.reader() for each, _ in parts]
        self._reader_of = np.repeat(np.arange(len(parts)), [len(names) for _, names in parts])
        self.image_size = image_size or max(self._readers[0][self.keys[0]].shape[:2])
        self._pixels: NDArray[np.uint8] | None = None
        self.on_device: Tensor | None = None
        device = device or torch.device("cpu")
        shape = (len(self.keys), self.image_size, self.image_size, 3)
        n_bytes = int(np.prod(shape))
        place = choose_preload(preload, n_bytes=n_bytes, device=device, sharers=sharers)
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
        """Return an (S, S, 3) uint8 RGB crop, which must not be written to."""
        if self._pixels is not None:
            return self._pixels[row]
        reader = self._readers[self._reader_of[row]]
        return resize_crop(reader[self.keys[row]], self.image_size)

    def read(self, row: int, out: NDArray[np.uint8]) -> None:
        """Write a crop to `out`, (S, S, 3) uint8."""
        reader = self._readers[self._reader_of[row]]
        if self._pixels is not None or not reader.read_into(self.keys[row], out):
            out[...] = self[row]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "on_device": None}  # loader processes do not read it


def choose_preload(
    preload: Preload, *, n_bytes: int, device: torch.device, sharers: int = 1
) -> Preload:
    """Decide where `n_bytes` of crops are held: ram, device or none.

    Args:
        sharers: number of processes on this machine, each of which holds the crops.

    Raises:
        TrainError: the crops do not fit where they were asked to go.
    """
    if preload == "none":
        return "none"
    if preload in ("auto", "device") and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if n_bytes * 2 < free:  # the network and its activations need the other half
            return "device"
        if preload == "device":
            raise _too_large(preload, n_bytes, free // 2, "half of the free memory of the GPU")
    free = _free_memory() // sharers
    if preload in ("ram", "device"):  # without a GPU, the device's memory is the RAM
        if n_bytes > free:
            raise _too_large(preload, n_bytes, free, "the free memory")
        return "ram"
    # Loader processes that are spawned, not forked, would each get their own copy.
    shared = start_method() == "fork"
    return "ram" if n_bytes <= min(PRELOAD_LIMIT, free // 2) and shared else "none"


def start_method() -> str:
    """Return how this process starts others: as it was set, or the platform's default."""
    chosen = multiprocessing.get_start_method(allow_none=True)
    return chosen or multiprocessing.get_all_start_methods()[0]


def _too_large(preload: str, n_bytes: int, limit: int, what: str) -> TrainError:
    return TrainError(
        f"data.preload={preload}: the crops take {n_bytes / 2**30:.1f} GiB, more than {what}, "
        f"{limit / 2**30:.1f} GiB; use auto or none, or a smaller data.image_size"
    )


def _free_memory() -> int:
    """Return the bytes of RAM that are free or can be freed at once."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2

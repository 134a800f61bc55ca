"""Divide the memory of the machine among the photos that are processed at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.mtcnn.engines.numba.available import numba_problem

BASE_BYTES = 800_000_000
"""Memory taken before the first photo, by the interpreter, the libraries and the networks."""
BYTES_PER_PIXEL = {"cpu": 12, "cpu without numba": 40, "cuda": 32}
"""Memory per pixel of a photo at work: two decoded copies, a retry's view, and on a GPU or without
Numba its integral image."""


_CROP_SHARE = 8
"""One part in so many of the memory is for crops that wait to be written."""


@dataclass(frozen=True)
class MemoryBudget:
    """Numbers of pixels, and bytes of crops, that the memory allows."""

    photo_pixels: int
    """Largest single photo, and all large photos at work at once."""
    batch_pixels: int
    """Photos that one thread processes together; a larger photo is a batch of its own, which waits
    until there is memory for it."""
    crop_bytes: int
    """Crops that wait to be written."""


class PixelGate:
    """Lets threads hold pixels in memory at once up to a total; the others wait."""

    def __init__(self, total: int) -> None:
        """Set the total; holding more than it waits for all others."""
        self._total, self._held = total, 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for some pixels, and hold them during the block.

        A thread must not hold any when it calls this, or two would wait for each other for ever.
        """
        pixels = min(pixels, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._held + pixels <= self._total)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


def memory_budget(config: DetectConfig, workers: int, *, device: str = "cpu") -> MemoryBudget:
    """Divide the memory: half for batches, one per worker, and half for large photos."""
    kind = torch.device(device).type
    if kind == "cpu" and numba_problem() is not None:
        kind = "cpu without numba"
    free = max(0.0, allowed_memory_gb(config) * 1e9 - BASE_BYTES)
    pixels = free / BYTES_PER_PIXEL[kind]
    batch = min(config.batch_megapixels * 1e6, pixels / 2 / workers)
    return MemoryBudget(int(pixels / 2), max(1, int(batch)), int(free / _CROP_SHARE))


def allowed_memory_gb(config: DetectConfig) -> float:
    """Return the memory that the run may take, in GB: as configured, or half of the machine's."""
    return config.memory_gb or machine_memory() / 2e9


def machine_memory() -> int:
    """Return the memory of the machine, or of its container, in bytes."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no cgroup, or "max"
        return total
    return min(total, limit)

"""Divide the memory of the machine among the photos that are processed at once."""

from __future__ import annotations

import os
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


@dataclass(frozen=True)
class MemoryBudget:
    """Numbers of pixels that the memory allows."""

    photo_pixels: int
    """Largest single photo."""
    batch_pixels: int
    """Photos that one thread processes together; a single photo may be larger."""


def memory_budget(config: DetectConfig, workers: int, *, device: str = "cpu") -> MemoryBudget:
    """Divide the memory: half for batches, one per worker, and half for one large photo."""
    kind = torch.device(device).type
    if kind == "cpu" and numba_problem() is not None:
        kind = "cpu without numba"
    pixels = max(0.0, allowed_memory_gb(config) * 1e9 - BASE_BYTES) / BYTES_PER_PIXEL[kind]
    batch = min(config.batch_megapixels * 1e6, pixels / 2 / workers)
    return MemoryBudget(int(pixels / 2), max(1, int(batch)))


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

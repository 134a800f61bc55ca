"""Assign a GPU to each worker process. Knows device numbers and locks; needs no torch."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

_locks: list[IO[str]] = []
"""The lock of the GPU that this process has claimed, held for as long as the process lives."""


def visible_gpus(count: Callable[[], int]) -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES spells them.

    Args:
        count: returns the number of GPUs; called where the environment does not say.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each.strip() for each in named.split(",") if each.strip() not in {"", "-1"}]
    return [str(index) for index in range(count())]


def claim_gpu(count: Callable[[], int], *, number: int = 0) -> None:
    """Give this worker process a GPU of its own, before anything touches CUDA.

    Processes outlive tasks, and CUDA reads CUDA_VISIBLE_DEVICES once per process: so the GPU
    belongs to the process. The system frees the lock when the process dies.

    Args:
        count: returns the number of GPUs; called where the environment does not say.
        number: number of the task; selects the GPU to share where there are more processes.
    """
    gpus = visible_gpus(count)
    if _locks or len(gpus) < 2:
        return
    folder = Path(tempfile.gettempdir()) / f"cropfirst-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True, mode=0o700)
    for gpu in gpus:
        file = (folder / gpu.replace("/", "_")).open("a")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        _locks.append(file)
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        return
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]

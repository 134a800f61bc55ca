"""Detect and recrop in other processes, on this machine or on a cluster.

A process reads, detects, crops, and writes the crops into a shard of its own. It hands back rows,
which the dispatching process writes after the crops. Tasks are made of complete chunks, so that
photos are detected in the same batches as in a single process.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cropfirst.cache import CropSet, CropWriter
from cropfirst.cache.store import shard_paths
from cropfirst.core.errors import DeviceError
from cropfirst.core.gpus import claim_gpu
from cropfirst.core.prefetch import available_cores, in_slices
from cropfirst.core.workers import CLUSTER_BACKENDS, end_with_parent, run_all
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.mtcnn.retry import RetryingDetector
from cropfirst.stage1_detect.photos.read import PhotoRef
from cropfirst.stage1_detect.pipeline.detect_batches import (
    DetectionResult,
    PendingPhoto,
    chunk_size,
    detect_batches,
    load_detector,
)
from cropfirst.stage1_detect.pipeline.memory import allowed_memory_gb
from cropfirst.stage1_detect.pipeline.recrop import RecropItem, RecropResult, recrop

TASKS_PER_PROCESS = 4
"""Smallest number of tasks per process, so that processes end at about the same time."""


@dataclass(frozen=True)
class WorkerOptions:
    """The processes that do the work."""

    backend: str
    """`loky`, `dask` or `ray`."""
    jobs: int = -1
    """Number of processes; -1 means one per core or GPU of this machine, or all of a cluster."""


@dataclass(frozen=True)
class ShardPlace:
    """The place where a task writes its crops."""

    crops: Path
    """Folder of the crop set."""
    older: tuple[Path, ...]
    """Shards that no process writes to during this run."""
    written: int
    """Time of the crops by the clock of the dispatching process, in ns since 1970."""
    run: str
    """Name of the run; a process begins a new shard for each."""
    parent: int
    """Process id of the dispatching process; -1 if it may be on another machine."""


@dataclass(frozen=True)
class DetectTask:
    """Photos to detect in one task."""

    place: ShardPlace
    photos: tuple[PendingPhoto, ...]
    config: DetectConfig
    device: str


@dataclass(frozen=True)
class RecropTask:
    """Photos to recrop in one task."""

    place: ShardPlace
    items: tuple[RecropItem, ...]
    config: DetectConfig


def dispatch_detection(
    photos: Sequence[PendingPhoto],
    crops: CropSet,
    config: DetectConfig,
    workers: WorkerOptions,
    *,
    device: str,
) -> Generator[list[DetectionResult], None, None]:
    """Run `detect_batches` in other processes; lists come in any order, their crops are written.

    Args:
        device: as in `detect_batches`; `auto` lets each process use what it has.

    Raises:
        BackendError: the backend cannot be used, or its processes keep dying.
    """
    jobs = _count_jobs(workers, device)
    config = _share_memory(_absolute_weights(config), workers, jobs)
    chunk = chunk_size(config)
    most = max(config.commit_photos, chunk)
    size = _photos_per_task(len(photos), jobs, at_most=most, multiple_of=chunk)
    absolute = [replace(photo, ref=_absolute_path(photo.ref)) for photo in photos]
    place = _make_place(crops, workers)
    tasks = [
        DetectTask(replace(place, written=place.written + number), tuple(part), config, device)
        for number, part in enumerate(in_slices(absolute, size))
    ]
    gpus = not device.startswith("cpu")
    yield from run_all(_detect, tasks, backend=workers.backend, jobs=jobs, gpus=gpus)


def dispatch_recrop(
    items: Sequence[RecropItem], crops: CropSet, config: DetectConfig, workers: WorkerOptions
) -> Generator[list[RecropResult], None, None]:
    """Run `recrop` in other processes; lists come in any order, their crops are written.

    Raises:
        BackendError: the backend cannot be used, or its processes keep dying.
    """
    config = _absolute_weights(config)
    jobs = _count_jobs(workers, "cpu")
    size = _photos_per_task(len(items), jobs, at_most=config.commit_photos, multiple_of=1)
    absolute = [replace(item, ref=_absolute_path(item.ref)) for item in items]
    place = _make_place(crops, workers)
    tasks = [
        RecropTask(replace(place, written=place.written + number), tuple(part), config)
        for number, part in enumerate(in_slices(absolute, size))
    ]
    yield from run_all(_recrop, tasks, backend=workers.backend, jobs=jobs)


# In the other processes


_shard_names: dict[str, str] = {}
"""Run -> name of this process's shard of it."""
_detectors: dict[str, RetryingDetector] = {}
"""The detector that this process has loaded, by its config and device."""
_one_task = threading.RLock()
"""A dask worker may have several threads, which would share the shard and the detector."""


def _detect(task: DetectTask) -> list[DetectionResult]:
    with _one_task:
        _prepare_process(task.place)
        device = _choose_device(task.device)
        threads = task.config.workers or (1 if device == "cpu" else available_cores())
        config = task.config.model_copy(update={"workers": threads})
        detector = _cached_detector(config, device)
        results = []
        with _open_shard(task.place) as writer:
            for batch in detect_batches(task.photos, config, device=device, detector=detector):
                for result in batch:
                    if result.crop is not None:
                        crop_hash = writer.put(result.ref.key, result.crop)
                        result = replace(result, crop=None, crop_hash=crop_hash)
                    results.append(result)
        return results


def _recrop(task: RecropTask) -> list[RecropResult]:
    with _one_task:
        _prepare_process(task.place)
        config = task.config.model_copy(update={"workers": task.config.workers or 1})
        with _open_shard(task.place) as writer:
            return list(recrop(task.items, config, put=writer.put))


def _prepare_process(place: ShardPlace) -> None:
    """Claim a GPU, and end this process when a dispatching process on this machine ends."""
    if place.parent not in (-1, os.getpid()):
        end_with_parent()
    if place.parent != os.getpid():
        claim_gpu(torch.cuda.device_count, number=os.getpid())


def _choose_device(name: str) -> str:
    """Return the device that this process detects on."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise DeviceError(
            f"--device {name} was asked for, but a process on {socket.gethostname()} sees no GPU: "
            "start workers where there are some, or use --device auto or cpu"
        )
    # A process sees only the GPU that it has claimed.
    return "cuda" if name == "auto" or torch.cuda.device_count() == 1 else name


def _cached_detector(config: DetectConfig, device: str) -> RetryingDetector:
    key = config.model_dump_json(include={"detector", "retry", "engine", "half", "workers"})
    if f"{device} {key}" not in _detectors:
        _detectors.clear()
        _detectors[f"{device} {key}"] = load_detector(config, device=device)
    return _detectors[f"{device} {key}"]


def _open_shard(place: ShardPlace) -> CropWriter:
    """Open this process's own shard: no other process writes to it, or reads it during the run."""
    if place.run not in _shard_names:
        _shard_names.clear()
        host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
        _shard_names[place.run] = f"{host}-{os.getpid()}-{os.urandom(4).hex()}"
    name = _shard_names[place.run]
    return CropWriter(place.crops, name, older=place.older, written=place.written)


# In the dispatching process


def _make_place(crops: CropSet, workers: WorkerOptions) -> ShardPlace:
    folder = crops.folder.resolve()
    parent = -1 if workers.backend in CLUSTER_BACKENDS else os.getpid()
    shards = tuple(shard_paths(folder))
    return ShardPlace(folder, shards, time.time_ns(), os.urandom(8).hex(), parent)


def _absolute_weights(config: DetectConfig) -> DetectConfig:
    """Make the path of the weights absolute, for processes in other folders."""
    weights = config.detector.weights
    if not os.path.isfile(weights):
        return config
    detector = config.detector.model_copy(update={"weights": os.path.abspath(weights)})
    return config.model_copy(update={"detector": detector})


def _share_memory(config: DetectConfig, workers: WorkerOptions, jobs: int) -> DetectConfig:
    """Divide this machine's memory among its processes; those of a cluster are told their own."""
    if workers.backend in CLUSTER_BACKENDS:
        return config
    return config.model_copy(update={"memory_gb": allowed_memory_gb(config) / max(jobs, 1)})


def _absolute_path(ref: PhotoRef) -> PhotoRef:
    return replace(ref, path=Path(os.path.abspath(ref.path)))


def _count_jobs(workers: WorkerOptions, device: str) -> int:
    if workers.jobs > 0 or workers.backend in CLUSTER_BACKENDS:
        return workers.jobs
    gpus = 0 if device == "cpu" else torch.cuda.device_count()
    return gpus or available_cores()


def _photos_per_task(count: int, jobs: int, *, at_most: int, multiple_of: int) -> int:
    """Return a number of photos that gives every process enough tasks."""
    share = -(-count // (TASKS_PER_PROCESS * jobs)) if jobs > 0 else at_most
    return max(min(share, at_most) // multiple_of, 1) * multiple_of

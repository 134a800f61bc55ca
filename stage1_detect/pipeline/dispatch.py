"""The work of looking and cutting, dealt to other processes here or on a cluster.

A process reads, looks, cuts, and writes crops into a shard of its own; the rows it hands back, and
the one that dealt writes them: crops first, rows after. Photos are dealt in whole turns, so that
they are looked at in the same batches as in one process.
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
    Look,
    New,
    look_at_all,
    make_finder,
    memory_gb_of,
    turn_size,
)
from cropfirst.stage1_detect.pipeline.recrop import Cut, ToCut, cut_all

PIECES_A_PROCESS = 4
"""At the least, so that processes end at about the same time."""


@dataclass(frozen=True)
class Workers:
    """Who works."""

    backend: str
    """loky, dask or ray."""
    jobs: int = -1
    """Pieces of work at once; -1 = a process a core or GPU here, all processes of a cluster."""


@dataclass(frozen=True)
class Place:
    """Where a piece of work is done, and into what."""

    crops: Path
    """The crop set's folder."""
    older: tuple[Path, ...]
    """Shards that nobody writes to."""
    written: int
    """The date of the crops, by the clock of the one that deals."""
    run: str
    """Names the run: a process begins a new shard for each."""
    parent: int
    """The process that deals; -1 where it may be on another machine."""


@dataclass(frozen=True)
class Looking:
    """A piece of the first pass."""

    place: Place
    new: tuple[New, ...]
    config: DetectConfig
    device: str


@dataclass(frozen=True)
class Cutting:
    """A piece of the last pass."""

    place: Place
    todo: tuple[ToCut, ...]
    config: DetectConfig


def look_at_all_dealt(
    new: Sequence[New], crops: CropSet, config: DetectConfig, workers: Workers, *, device: str
) -> Generator[list[Look], None, None]:
    """As `look_at_all`, by other processes, in any order, with the crops written already.

    Args:
        device: as there; `auto` lets each process take what it has.

    Raises:
        BackendError: the backend cannot be used, or its processes keep dying.
    """
    jobs = _jobs(workers, device)
    place, config = _place(crops, workers), _share_memory(_anywhere(config), workers, jobs)
    turn = turn_size(config)
    size = _piece(len(new), jobs, at_most=max(config.commit_photos, turn), multiple_of=turn)
    pieces = [
        Looking(replace(place, written=place.written + number), tuple(part), config, device)
        for number, part in enumerate(in_slices(_absolute(new), size))
    ]
    yield from run_all(
        _look, pieces, backend=workers.backend, jobs=jobs, gpus=not device.startswith("cpu")
    )


def cut_all_dealt(
    todo: Sequence[ToCut], crops: CropSet, config: DetectConfig, workers: Workers
) -> Generator[list[Cut], None, None]:
    """Cut what is known where, by other processes, in any order; the crops are written already.

    Raises:
        BackendError: the backend cannot be used, or its processes keep dying.
    """
    place, config = _place(crops, workers), _anywhere(config)
    jobs = _jobs(workers, "cpu")
    size = _piece(len(todo), jobs, at_most=config.commit_photos, multiple_of=1)
    absolute = [replace(item, ref=_absolute_ref(item.ref)) for item in todo]
    pieces = [
        Cutting(replace(place, written=place.written + number), tuple(part), config)
        for number, part in enumerate(in_slices(absolute, size))
    ]
    yield from run_all(_cut, pieces, backend=workers.backend, jobs=jobs)


# In the other processes


_shard: dict[str, str] = {}
"""Run -> name of this process's shard of it."""
_finder: dict[str, RetryingDetector] = {}
"""The one that this process has loaded, by its config and device."""
_one_at_a_time = threading.RLock()
"""A dask worker may have several threads; more processes is what helps."""


def _look(piece: Looking) -> list[Look]:
    with _one_at_a_time:
        _settle(piece.place)
        device = _device(piece.device)
        cpu = device == "cpu"
        config = piece.config.model_copy(
            update={"workers": piece.config.workers or (1 if cpu else available_cores())}
        )
        finder = _cached_finder(config, device)
        looks = []
        with _writer(piece.place) as writer:
            for some in look_at_all(piece.new, config, device=device, finder=finder):
                for look in some:
                    if look.crop is not None:
                        crop_hash = writer.put(look.ref.key, look.crop)
                        look = replace(look, crop=None, crop_hash=crop_hash)
                    looks.append(look)
        return looks


def _cut(piece: Cutting) -> list[Cut]:
    with _one_at_a_time:
        _settle(piece.place)
        config = piece.config.model_copy(update={"workers": piece.config.workers or 1})
        with _writer(piece.place) as writer:
            return list(cut_all(piece.todo, config, put=writer.put))


def _settle(place: Place) -> None:
    """Once a process: claim a GPU, and end with who deals where that is on this machine."""
    if place.parent not in (-1, os.getpid()):
        end_with_parent()
    if place.parent != os.getpid():
        claim_gpu(torch.cuda.device_count, number=os.getpid())


def _device(name: str) -> str:
    """What this process looks with."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise DeviceError(
            f"--device {name} was asked for, but a process on {socket.gethostname()} sees no GPU: "
            "start workers where there are some, or use --device auto or cpu"
        )
    # A process sees the one that it has claimed.
    return "cuda" if name == "auto" or torch.cuda.device_count() == 1 else name


def _cached_finder(config: DetectConfig, device: str) -> RetryingDetector:
    key = config.model_dump_json(include={"detector", "retry", "engine", "half", "workers"})
    if f"{device} {key}" not in _finder:
        _finder.clear()
        _finder[f"{device} {key}"] = make_finder(config, device=device)
    return _finder[f"{device} {key}"]


def _writer(place: Place) -> CropWriter:
    """This process's own shard, open for the length of a piece of work: nobody else ever writes to
    it, and nobody reads it before the run has ended."""
    if place.run not in _shard:
        _shard.clear()
        host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
        _shard[place.run] = f"{host}-{os.getpid()}-{os.urandom(4).hex()}"
    return CropWriter(place.crops, _shard[place.run], older=place.older, written=place.written)


# Before it is dealt


def _place(crops: CropSet, workers: Workers) -> Place:
    folder = crops.folder.resolve()
    local = workers.backend not in CLUSTER_BACKENDS
    return Place(
        folder,
        tuple(shard_paths(folder)),
        time.time_ns(),
        os.urandom(8).hex(),
        os.getpid() if local else -1,
    )


def _anywhere(config: DetectConfig) -> DetectConfig:
    """The config with a path to the weights that holds in any folder."""
    weights = config.detector.weights
    if not os.path.isfile(weights):
        return config
    detector = config.detector.model_copy(update={"weights": os.path.abspath(weights)})
    return config.model_copy(update={"detector": detector})


def _share_memory(config: DetectConfig, workers: Workers, jobs: int) -> DetectConfig:
    """Processes of one machine share its memory; on a cluster each is told what it may take."""
    if workers.backend in CLUSTER_BACKENDS:
        return config
    return config.model_copy(update={"memory_gb": memory_gb_of(config) / max(jobs, 1)})


def _absolute(new: Sequence[New]) -> list[New]:
    return [(_absolute_ref(ref), stat) for ref, stat in new]


def _absolute_ref(ref: PhotoRef) -> PhotoRef:
    return replace(ref, path=Path(os.path.abspath(ref.path)))


def _jobs(workers: Workers, device: str) -> int:
    if workers.jobs > 0 or workers.backend in CLUSTER_BACKENDS:
        return workers.jobs
    gpus = 0 if device == "cpu" else torch.cuda.device_count()
    return gpus or available_cores()


def _piece(count: int, jobs: int, *, at_most: int, multiple_of: int) -> int:
    """Photos of one piece of work: a whole number of turns, and pieces for everybody."""
    share = -(-count // (PIECES_A_PROCESS * jobs)) if jobs > 0 else at_most
    return max(min(share, at_most) // multiple_of, 1) * multiple_of

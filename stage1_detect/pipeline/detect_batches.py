"""New photos to detection rows and crops, as fast as the machine allows. Writes nothing.

On the CPU each core takes photos from file to crop by itself, with kernels of one thread: nets,
reads and decoding then never wait for each other. A GPU is fed by threads that decode ahead and cut
behind.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch

from cropfirst.cache import Encoded, encode_crop
from cropfirst.core.prefetch import available_cores, in_batches, in_slices, run_ahead
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.crops.crop import Window, make_crop
from cropfirst.stage1_detect.mtcnn.detector import PHOTOS_PER_BATCH
from cropfirst.stage1_detect.mtcnn.engines.numba.available import numba_problem
from cropfirst.stage1_detect.mtcnn.retry import RetryingDetector, RetryResult
from cropfirst.stage1_detect.photos.read import FileStat, Photo, PhotoRef, ReadError, read_photo
from cropfirst.stage1_detect.pipeline.resolve import Face, own_face
from cropfirst.stage1_detect.pipeline.rows import detection_row, unreadable_row

BASE_BYTES = 800_000_000
"""Taken before the first photo: the interpreter, the libraries, the nets."""
BYTES_PER_PIXEL = {"cpu": 12, "cpu without numba": 40, "cuda": 32}
"""Taken by each pixel of a photo that is looked at: decoded twice over for a moment, a retry's view
of it, and on a device, or without Numba, its integral image."""

_BATCHES_HELD = 3
"""Of a device: one that it looks at, one that waits, one whose looks are being written."""
New = tuple[PhotoRef, FileStat]


@dataclass(frozen=True)
class Read:
    """What came of reading one photo: either the photo or the fault."""

    photo: Photo | None
    error: ReadError | None

    @property
    def nbytes(self) -> int:
        return 0 if self.photo is None else self.photo.image.nbytes


@dataclass(frozen=True)
class Budget:
    """What the memory allows."""

    photo_pixels: int
    """Of one photo, alone."""
    batch_pixels: int
    """Of what one thread looks at together; a single photo may be more."""


def budget_of(config: DetectConfig, workers: int, *, device: str = "cpu") -> Budget:
    """Divide the memory: half of it for batches, one a worker, the rest for one large photo."""
    kind = torch.device(device).type
    if kind == "cpu" and numba_problem() is not None:
        kind = "cpu without numba"
    pixels = max(0.0, memory_gb_of(config) * 1e9 - BASE_BYTES) / BYTES_PER_PIXEL[kind]
    batch = min(config.batch_megapixels * 1e6, pixels / 2 / workers)
    return Budget(int(pixels / 2), max(1, int(batch)))


def memory_gb_of(config: DetectConfig) -> float:
    """What the run may take: as configured, or half of the machine's."""
    return config.memory_gb or machine_memory() / 2e9


def machine_memory() -> int:
    """Bytes of memory of the machine, or of what the container may use of it."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no cgroup, or "max"
        return total
    return min(total, limit)


def read(photo: PhotoRef, config: DetectConfig, budget: Budget | None = None) -> Read:
    """Read a photo; a fault is a result, not an error."""
    room = None if budget is None else budget.photo_pixels
    try:
        return Read(read_photo(photo.path, config.decode, room=room), None)
    except ReadError as error:
        return Read(None, error)


@dataclass(frozen=True)
class Look:
    """What is known of a photo once it has been looked at."""

    ref: PhotoRef
    row: dict[str, Any]
    """Its detection row."""
    face: Face | None = None
    """Its main face; None where there is none to be sure of yet."""
    crop: Encoded | None = None
    """Where there is a face and it is not written yet."""
    window: Window | None = None
    """What the crop was cut from."""
    crop_hash: str | None = None
    """Of the crop where it is written already."""

    @property
    def nbytes(self) -> int:
        return 0 if self.crop is None else self.crop.nbytes


def turn_size(config: DetectConfig) -> int:
    """Photos of one turn."""
    return min(PHOTOS_PER_BATCH, config.commit_photos)


def make_finder(config: DetectConfig, *, device: str) -> RetryingDetector:
    """The finder for `look_at_all`."""
    cpu = torch.device(device).type == "cpu"
    workers = config.workers or available_cores()
    return RetryingDetector(config, device=device, threads=workers if cpu else 0)


def look_at_all(
    new: Sequence[New], config: DetectConfig, *, device: str, finder: RetryingDetector | None = None
) -> Generator[list[Look], None, None]:
    """Look at every photo, in order, some at a time.

    A run that goes on after any of these lists comes to the same batches, and so to the same last
    bits, as one that was not disturbed.

    Args:
        device: `cpu`, `cuda` or `cuda:N`.
        finder: of `make_finder`, with this config and device; None makes one.
    """
    workers = config.workers or available_cores()
    budget = budget_of(config, workers, device=device)
    found = finder or make_finder(config, device=device)
    each = _on_cores if torch.device(device).type == "cpu" else _on_device
    yield from each(new, config, found, budget, workers)


def _on_cores(
    new: Sequence[New], config: DetectConfig, finder: RetryingDetector, budget: Budget, workers: int
) -> Iterator[list[Look]]:
    """Each core takes photos from file to crop by itself."""
    one_large = threading.Lock()

    def take_turn(turn: Sequence[New]) -> list[Look]:
        reads = ((item, read(item[0], config, budget)) for item in turn)
        looks: list[Look] = []
        for batch in _batches(reads, budget.batch_pixels, PHOTOS_PER_BATCH):
            # Those beyond a batch's share wait for each other, whatever the number of cores.
            large = sum(got.nbytes for _, got in batch) // 3 > budget.batch_pixels
            with one_large if large else nullcontext():
                looks += look_at(batch, finder, config)
        return looks

    turns = in_slices(new, turn_size(config))
    with one_thread_a_kernel():
        for _, looks in run_ahead(turns, take_turn, workers=workers, size_of=_held):
            yield looks


def _on_device(
    new: Sequence[New], config: DetectConfig, finder: RetryingDetector, budget: Budget, workers: int
) -> Iterator[list[Look]]:
    """Threads decode ahead and cut behind; the device looks at a batch while the one before it is
    written by whoever asked."""
    ahead = run_ahead(
        new,
        lambda item: read(item[0], config, budget),
        workers=workers,
        size_of=lambda got: got.nbytes,
    )
    batches = _batches(ahead, max(1, budget.batch_pixels * workers // _BATCHES_HELD), 1024)
    with ThreadPoolExecutor(workers, thread_name_prefix="cut") as pool:
        for _, looks in run_ahead(
            batches,
            lambda batch: look_at(batch, finder, config, spread=pool.map),
            workers=1,
            size_of=_held,
        ):
            yield looks


def _held(looks: Sequence[Look]) -> int:
    return sum(look.nbytes for look in looks)


def _batches(
    reads: Iterable[tuple[New, Read]], max_pixels: int, max_count: int
) -> Iterator[list[tuple[New, Read]]]:
    return in_batches(
        reads,
        size_of=lambda pair: pair[1].nbytes // 3,
        max_size=max_pixels,
        max_count=max_count,
    )


def look_at(
    batch: Sequence[tuple[New, Read]],
    finder: RetryingDetector,
    config: DetectConfig,
    *,
    spread: Callable[..., Iterable[Look]] = map,
) -> list[Look]:
    """Detect one batch, and cut the crops where the face is the photo's own.

    Args:
        spread: a `map` that cuts; a GPU's photos are cut by threads.
    """
    photos = [got.photo.image for _, got in batch if got.photo is not None]
    found = iter(finder.detect(photos))
    faces = [None if got.photo is None else next(found) for _, got in batch]

    def finish(pair: tuple[New, Read], seen: RetryResult | None) -> Look:
        (ref, stat), got = pair
        if got.photo is None or seen is None:
            assert got.error is not None
            return Look(ref, unreadable_row(ref.key, stat, got.error))
        row = detection_row(ref.key, stat, got.photo, seen)
        face = own_face(row, config.crop.select)
        # What a retry found is only believed once all rows are known (see Resolver), and where the
        # typical box is, too.
        if face is None or face.status != "detected" or config.crop.background == "mean_box":
            return Look(ref, row)
        assert face.box is not None
        crop, window = make_crop(got.photo.image, face.box, face.landmarks, config.crop)
        return Look(ref, row, face, encode_crop(crop), window)

    return list(spread(finish, batch, faces))


@contextmanager
def one_thread_a_kernel() -> Iterator[None]:
    """While this holds, cores work side by side, not together on one kernel.

    They also hand the interpreter over sooner than every 5 ms, Python's default, which is how long
    one batch's small steps would wait for another's.
    """
    before = torch.get_num_threads(), cv2.getNumThreads(), sys.getswitchinterval()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    sys.setswitchinterval(2e-4)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
        sys.setswitchinterval(before[2])

"""Detect faces in many photos and cut their crops, in batches. Writes nothing.

On the CPU each core takes its photos from file to crop by itself, with single-threaded kernels, so
that networks, decoding and reading never wait for each other. A GPU is fed by threads that decode
ahead of it and crop behind it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import torch

from cropfirst.cache import Encoded, encode_crop
from cropfirst.core.faces.crop import Window, make_crop
from cropfirst.core.prefetch import available_cores, in_batches, in_slices, prefetch
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.mtcnn.detector import PHOTOS_PER_BATCH
from cropfirst.stage1_detect.mtcnn.retry import RetryingDetector, RetryResult
from cropfirst.stage1_detect.photos.read import FileStat, PhotoRef
from cropfirst.stage1_detect.pipeline.memory import MemoryBudget, memory_budget
from cropfirst.stage1_detect.pipeline.photo_reads import PhotoReads, ReadResult
from cropfirst.stage1_detect.pipeline.resolve import MainFace, own_face
from cropfirst.stage1_detect.pipeline.rows import detection_row, unreadable_row

_CHUNK_BYTES = 32_000_000
"""Size of the crops of the photos that a thread takes at a time."""
_BATCHES_HELD = 3
"""Number of batches that a GPU needs in memory: one at work, one waiting, one being written."""


@dataclass(frozen=True)
class PendingPhoto:
    """A photo without an up-to-date detection row."""

    ref: PhotoRef
    stat: FileStat
    """Size and time of its file, as they were before it was read."""


@dataclass(frozen=True)
class DetectionResult:
    """The faces found in one photo, and its crop if the main face is certain."""

    ref: PhotoRef
    row: dict[str, Any]
    """Detection row of the photo."""
    face: MainFace | None = None
    """Main face; None if it can only be decided once all rows are known."""
    crop: Encoded | None = None
    """Crop of the main face; None without one, or if the crop is written already."""
    window: Window | None = None
    """Part of the photo that the crop was cut from."""
    crop_hash: str | None = None
    """Hash of a crop that is written already."""

    @property
    def nbytes(self) -> int:
        """Size of the crop in bytes; 0 without one."""
        return 0 if self.crop is None else self.crop.nbytes


def crop_bytes(config: DetectConfig) -> int:
    """Return the size of one crop in bytes."""
    return 3 * config.crop.image_size**2


def chunk_size(config: DetectConfig) -> int:
    """Return the number of photos that a thread takes at a time: fewer where crops are large."""
    most = max(1, _CHUNK_BYTES // crop_bytes(config))
    return min(PHOTOS_PER_BATCH, config.commit_photos, most)


def load_detector(config: DetectConfig, *, device: str) -> RetryingDetector:
    """Load the detector that `detect_batches` uses for a config and device."""
    cpu = torch.device(device).type == "cpu"
    workers = config.workers or available_cores()
    return RetryingDetector(config, device=device, threads=workers if cpu else 0)


def detect_batches(
    photos: Sequence[PendingPhoto],
    config: DetectConfig,
    *,
    device: str,
    detector: RetryingDetector | None = None,
) -> Generator[list[DetectionResult], None, None]:
    """Detect faces in every photo, and yield the results a batch at a time, in the photos' order.

    A run that continues after any of the yielded lists forms the same batches, and so gets the same
    results to the last bit, as one that was not interrupted.

    Args:
        device: `cpu`, `cuda` or `cuda:N`.
        detector: a detector from `load_detector` with this config and device; None loads one.
    """
    workers = config.workers or available_cores()
    budget = memory_budget(config, workers, device=device)
    detector = detector or load_detector(config, device=device)
    run = _detect_on_cpu if torch.device(device).type == "cpu" else _detect_on_gpu
    yield from run(photos, config, detector, budget, workers)


def _detect_on_cpu(
    photos: Sequence[PendingPhoto],
    config: DetectConfig,
    detector: RetryingDetector,
    budget: MemoryBudget,
    workers: int,
) -> Iterator[list[DetectionResult]]:
    """Let each core take chunks of photos from file to crop by itself."""
    photo_reads = PhotoReads(config.decode, budget, ahead=budget.batch_pixels)

    def run_chunk(chunk: Sequence[PendingPhoto]) -> list[DetectionResult]:
        reads = ((photo, photo_reads.read_ahead(photo.ref.path)) for photo in chunk)
        results: list[DetectionResult] = []
        for batch in _batches(reads, budget.batch_pixels, PHOTOS_PER_BATCH):
            results += _detect_all(batch, photo_reads, detector, config)
        return results

    chunks = in_slices(photos, chunk_size(config))
    with single_threaded_kernels():
        for _, results in prefetch(
            chunks,
            run_chunk,
            workers=workers,
            size_of=_total_bytes,
            max_bytes=budget.crop_bytes,
            expected=chunk_size(config) * crop_bytes(config),
        ):
            yield results


def _detect_on_gpu(
    photos: Sequence[PendingPhoto],
    config: DetectConfig,
    detector: RetryingDetector,
    budget: MemoryBudget,
    workers: int,
) -> Iterator[list[DetectionResult]]:
    """Let threads decode ahead and crop behind, while the caller writes the batch before."""
    # Each thread may hold two photos that it has read ahead.
    photo_reads = PhotoReads(config.decode, budget, ahead=2 * budget.photo_pixels // workers)
    reads = prefetch(
        photos,
        lambda photo: photo_reads.read_ahead(photo.ref.path),
        workers=workers,
        size_of=lambda read: read.nbytes,
    )
    batches = _batches(reads, max(1, budget.batch_pixels * workers // _BATCHES_HELD), 1024)
    with ThreadPoolExecutor(workers, thread_name_prefix="crop") as pool:
        for _, results in prefetch(
            batches,
            lambda batch: _detect_all(batch, photo_reads, detector, config, map_function=pool.map),
            workers=1,
            size_of=_total_bytes,
        ):
            yield results


def _detect_all(
    batch: Sequence[tuple[PendingPhoto, ReadResult]],
    photo_reads: PhotoReads,
    detector: RetryingDetector,
    config: DetectConfig,
    *,
    map_function: Callable[..., Iterable[DetectionResult]] = map,
) -> list[DetectionResult]:
    """Run `detect_batch` on a batch, after reading the large photos in it."""
    photos = [pending for pending, _ in batch]
    paths = [pending.ref.path for pending in photos]
    with photo_reads.read_rest(paths, [read for _, read in batch]) as reads:
        whole = list(zip(photos, reads, strict=True))
        return detect_batch(whole, detector, config, map_function=map_function)


def _total_bytes(results: Sequence[DetectionResult]) -> int:
    return sum(result.nbytes for result in results)


def _batches(
    reads: Iterable[tuple[PendingPhoto, ReadResult]], max_pixels: int, max_count: int
) -> Iterator[list[tuple[PendingPhoto, ReadResult]]]:
    return in_batches(
        reads,
        size_of=lambda pair: pair[1].pixels,
        max_size=max_pixels,
        max_count=max_count,
    )


def detect_batch(
    batch: Sequence[tuple[PendingPhoto, ReadResult]],
    detector: RetryingDetector,
    config: DetectConfig,
    *,
    map_function: Callable[..., Iterable[DetectionResult]] = map,
) -> list[DetectionResult]:
    """Detect faces in one batch, and cut the crops of the photos whose main face is certain.

    Args:
        map_function: applies the cropping to each photo; the `map` of a thread pool for a GPU.
    """
    images = [read.photo.image for _, read in batch if read.photo is not None]
    found = iter(detector.detect(images))
    faces = [None if read.photo is None else next(found) for _, read in batch]

    def finish(pair: tuple[PendingPhoto, ReadResult], found: RetryResult | None) -> DetectionResult:
        pending, read = pair
        ref = pending.ref
        if read.photo is None or found is None:
            assert read.error is not None
            return DetectionResult(ref, unreadable_row(ref.key, pending.stat, read.error))
        row = detection_row(ref.key, pending.stat, read.photo, found)
        face = own_face(row, config.crop.select)
        # A retry's face is accepted, and the typical box known, once all rows are: FaceResolver.
        if face is None or face.status != "detected" or config.crop.background == "mean_box":
            return DetectionResult(ref, row)
        assert face.box is not None
        crop, window = make_crop(read.photo.image, face.box, face.landmarks, config.crop)
        return DetectionResult(ref, row, face, encode_crop(crop), window)

    return list(map_function(finish, batch, faces))


@contextmanager
def single_threaded_kernels() -> Iterator[None]:
    """Run kernels of PyTorch and OpenCV on one thread each, for callers with a thread per core.

    Threads also hand the interpreter over sooner than after Python's default of 5 ms, which is how
    long the small steps of one batch would wait for another's.
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

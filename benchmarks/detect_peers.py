"""The detectors that benchmarks/detect.py compares: cropfirst's and its peers, behind one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from facenet_pytorch import MTCNN as Reference  # noqa: N811

from cropfirst.core.prefetch import in_slices, prefetch
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, PHOTOS_PER_BATCH, Detections
from cropfirst.stage1_detect.photos.read import read_photo
from cropfirst.stage1_detect.pipeline.detect_batches import single_threaded_kernels

Run = Callable[[Sequence[Path]], list[Detections]]
"""Decodes photos and finds their faces."""
BATCH = 16
"""Number of photos in a batch of facenet-pytorch, and of a measurement of single steps."""


def decode(path: Path) -> np.ndarray:
    """Read a photo as (H, W, 3) uint8 RGB."""
    return read_photo(path).image


def ours(config: DetectorConfig, device: str, threads: int, **options: Any) -> Run:
    """Return cropfirst's MTCNN: on the CPU each thread decodes and detects photos of its own."""
    on_cpu = device == "cpu"
    detector = MTCNN(config, device=device, threads=threads if on_cpu else 1, **options)

    def detect(files: Sequence[Path]) -> list[Detections]:
        return detector.detect_batch([decode(file) for file in files])

    def on_cores(files: Sequence[Path]) -> list[Detections]:
        batches = in_slices(files, PHOTOS_PER_BATCH)
        with single_threaded_kernels():
            results = prefetch(batches, detect, workers=threads, size_of=lambda faces: 0)
            return [faces for _, found in results for faces in found]

    def on_gpu(files: Sequence[Path]) -> list[Detections]:
        found: list[Detections] = []
        batch: list[np.ndarray] = []
        for _, photo in prefetch(files, decode, workers=threads, size_of=lambda p: p.nbytes):
            batch.append(photo)
            if len(batch) == 256:
                found += detector.detect_batch(batch)
                batch = []
        return found + detector.detect_batch(batch)

    return on_cores if on_cpu else on_gpu


def facenet(config: DetectorConfig, device: str, *, batched: bool, peer: Any = Reference) -> Run:
    """Return facenet-pytorch's MTCNN, one photo at a time or in batches.

    Args:
        peer: the class; cropfirst's class of the same arguments goes here, too.
    """
    detector = peer(
        keep_all=True,
        min_face_size=config.min_face_size,
        thresholds=list(config.thresholds),
        factor=config.factor,
        device=device,
    )

    def one(files: Sequence[Path]) -> list[Detections]:
        return [_faces(*detector.detect(decode(path), landmarks=True)) for path in files]

    def many(files: Sequence[Path]) -> list[Detections]:
        """Detect neighbours of equal shape together: a batch must have one size."""
        found: list[Detections] = []
        group: list[np.ndarray] = []
        for photo in [decode(path) for path in files] + [None]:
            if group and (photo is None or photo.shape != group[0].shape or len(group) == BATCH):
                boxes, probs, landmarks = detector.detect(np.stack(group), landmarks=True)
                found += [_faces(*each) for each in zip(boxes, probs, landmarks, strict=True)]
                group = []
            if photo is not None:
                group.append(photo)
        return found

    return many if batched else one


def _faces(boxes: Any, probs: Any, landmarks: Any) -> Detections:
    if boxes is None:
        boxes, probs, landmarks = np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2))
    return Detections(*(np.asarray(part, dtype=np.float32) for part in (boxes, probs, landmarks)))


def haar(config: DetectorConfig) -> Run:
    """Return OpenCV's cascade of 2001, which gives no score and no landmarks."""
    detector = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    smallest = (config.min_face_size, config.min_face_size)

    def run(files: Sequence[Path]) -> list[Detections]:
        found = []
        for file in files:
            grey = cv2.cvtColor(decode(file), cv2.COLOR_RGB2GRAY)
            rects = np.asarray(detector.detectMultiScale(grey, 1.1, 5, minSize=smallest))
            rects = rects.reshape(-1, 4).astype(np.float32)
            boxes = np.concatenate([rects[:, :2], rects[:, :2] + rects[:, 2:]], axis=1)
            none = np.zeros((len(boxes), 5, 2), dtype=np.float32)
            found.append(Detections(boxes, np.ones(len(boxes), dtype=np.float32), none))
        return found

    return run


def tensorflow_mtcnn(config: DetectorConfig) -> Run:
    """Return the MTCNN of the `mtcnn` package (pip install "cropfirst[bench]")."""
    from mtcnn import MTCNN as Peer  # noqa: N811

    detector = Peer()

    def run(files: Sequence[Path]) -> list[Detections]:
        found = []
        for file in files:
            faces = detector.detect_faces(decode(file), min_face_size=config.min_face_size)
            boxes = np.array([face["box"] for face in faces], dtype=np.float32).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            probs = np.array([face["confidence"] for face in faces], dtype=np.float32)
            found.append(Detections(boxes, probs, np.zeros((len(boxes), 5, 2), np.float32)))
        return found

    return run

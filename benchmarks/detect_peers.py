"""The detectors that benchmarks/detect.py compares: cropfirst's and its peers, behind one call."""

from __future__ import annotations

import threading
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


class YuNet:
    """OpenCV's FaceDetectorYN with a file of YuNet (Wu et al. 2023); one photo at a time.

    Args:
        file: the ONNX file, such as yunet_n_640_640.onnx.
        least: score from which on a face is given.
    """

    def __init__(self, file: str, least: float = 0.01) -> None:
        self.file, self.least = file, least
        self._own = threading.local()

    def __call__(self, photo: np.ndarray) -> Detections:
        """Find the faces of a (H, W, 3) uint8 RGB photo."""
        if not hasattr(self._own, "net"):  # a network must not be used by two threads
            self._own.net = cv2.FaceDetectorYN.create(
                self.file, "", (320, 320), self.least, 0.3, 5000
            )
        height, width = photo.shape[:2]
        self._own.net.setInputSize((width, height))
        rows = self._own.net.detect(cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))[1]
        rows = np.zeros((0, 15), np.float32) if rows is None else rows
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        return Detections(boxes, rows[:, 14], rows[:, 4:14].reshape(-1, 5, 2))


def yunet_run(file: str, threads: int, *, photo_per_thread: bool) -> Run:
    """Return YuNet at its usual score of 0.9, with all threads for each photo or one for each."""
    detector = YuNet(file, 0.9)

    def one(files: Sequence[Path]) -> list[Detections]:
        return [detector(decode(path)) for path in files]

    def several(files: Sequence[Path]) -> list[Detections]:
        with single_threaded_kernels():
            results = prefetch(
                files, lambda path: detector(decode(path)), workers=threads, size_of=lambda _: 0
            )
            return [faces for _, faces in results]

    return several if photo_per_thread else one


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

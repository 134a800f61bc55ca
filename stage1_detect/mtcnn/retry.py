"""The detector with its retries.

A retry looks again only at photos in which every step before found nothing; its boxes and landmarks
come back in the photo's own pixels. It knows one photo at a time, not the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cropfirst.stage1_detect.config import DetectConfig, RetryStep
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections

# Left and right are exchanged in a mirror image: eyes (0, 1) and corners of the mouth (3, 4).
_MIRRORED = [1, 0, 2, 4, 3]
_MAX_ENLARGED_PIXELS = 16_000_000
"""Photos that an enlarging step would make larger than this are left out of it."""


@dataclass(frozen=True)
class RetryResult:
    """The faces of one photo, and the step that found them."""

    status: str
    """`detected`, `retried` or `missed`."""
    policy: str
    """Name of the retry step that found the faces, "" otherwise."""
    faces: Detections


class RetryingDetector:
    """MTCNN followed by the retry steps of a config.

    Args:
        config: detector and retry settings.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: number of threads that may call `detect` at once; 0 = one per core on the CPU.
    """

    def __init__(self, config: DetectConfig, *, device: str = "cpu", threads: int = 0) -> None:
        self.retry = config.retry
        self.detector = MTCNN(
            config.detector,
            device=device,
            engine=config.engine,
            half=config.half,
            threads=threads,
        )

    def detect(self, photos: Sequence[np.ndarray]) -> list[RetryResult]:
        """Find the faces of each photo, in the calling thread.

        Args:
            photos: (H, W, 3) uint8 RGB arrays of any sizes.
        """
        results = [
            RetryResult("detected" if len(faces) else "missed", "", faces)
            for faces in self.detector.detect_batch(photos)
        ]
        for step in self.retry:
            missed = [
                index
                for index, result in enumerate(results)
                if result.status == "missed" and _is_small_enough(photos[index], step)
            ]
            if not missed:
                continue
            views = [_view(photos[index], step) for index in missed]
            for index, faces in zip(
                missed, self.detector.detect_batch(views, thresholds=step.thresholds), strict=True
            ):
                if len(faces):
                    faces = _map_back(faces, step, width=photos[index].shape[1])
                    results[index] = RetryResult("retried", step.name, faces)
        return results


def _is_small_enough(photo: np.ndarray, step: RetryStep) -> bool:
    """Return whether a step may look at the photo: enlarging a huge one would take gigabytes."""
    return step.scale <= 1 or photo.size / 3 * step.scale**2 <= _MAX_ENLARGED_PIXELS


def _view(photo: np.ndarray, step: RetryStep) -> np.ndarray:
    """Return the photo as a retry step looks at it: contrast, size, then mirror."""
    if step.contrast:
        lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB)
        lab[..., 0] = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply(lab[..., 0])
        photo = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    if step.scale != 1.0:
        size = tuple(max(1, round(side * step.scale)) for side in photo.shape[1::-1])
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_LINEAR)
    return photo[:, ::-1] if step.flip else photo


def _map_back(faces: Detections, step: RetryStep, *, width: int) -> Detections:
    """Map boxes and landmarks of a step's view to the pixels of a photo of that width."""
    boxes, landmarks = faces.boxes / step.scale, faces.landmarks / step.scale
    if step.flip:
        boxes = boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (width, 0, width, 0)
        landmarks = landmarks[:, _MIRRORED] * (-1, 1) + (width, 0)
    return Detections(boxes.astype(np.float32), faces.probs, landmarks.astype(np.float32))

"""The detector with its retries.

A retry looks again only at photos in which every step before found nothing; its boxes and landmarks
come back in the photo's own pixels. It knows one photo at a time, not the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cropfirst.core.faces.views import is_small_enough, map_back, retry_view
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections


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
                if result.status == "missed" and is_small_enough(photos[index], step)
            ]
            if not missed:
                continue
            views = [retry_view(photos[index], step) for index in missed]
            for index, faces in zip(
                missed, self.detector.detect_batch(views, thresholds=step.thresholds), strict=True
            ):
                if len(faces):
                    faces = map_back(faces, step, width=photos[index].shape[1])
                    results[index] = RetryResult("retried", step.name, faces)
        return results

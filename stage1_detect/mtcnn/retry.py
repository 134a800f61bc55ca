"""The detector with its retries: photos in, faces and the step that found them out.

A retry looks again only at photos in which every step before found nothing; its boxes and landmarks
come back in the photo's own pixels. Knows one photo at a time, not the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cropfirst.stage1_detect.config import DetectConfig, RetryStep
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections

# Left and right change places in a mirror: eyes (0, 1) and corners of the mouth (3, 4).
_MIRRORED = [1, 0, 2, 4, 3]
_MAX_ENLARGED_PIXELS = 16_000_000


@dataclass(frozen=True)
class Found:
    """What the detector and its retries made of one photo."""

    status: str
    """`detected`, `retried` or `missed`."""
    policy: str
    """Name of the retry step that found the faces, "" otherwise."""
    faces: Detections


class FaceFinder:
    """MTCNN and the retry steps of a config.

    Args:
        config: detector and retry settings.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: that may call `find` at once; 0 = one a core on the CPU.
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

    def find(self, photos: Sequence[np.ndarray]) -> list[Found]:
        """Find the faces of each photo, in this thread.

        Args:
            photos: (H, W, 3) uint8 RGB arrays of any sizes.
        """
        results = [
            Found("detected" if len(faces) else "missed", "", faces)
            for faces in self.detector.detect_here(photos)
        ]
        for step in self.retry:
            missed = [
                index
                for index, found in enumerate(results)
                if found.status == "missed" and _is_sane(photos[index], step)
            ]
            if not missed:
                continue
            views = [_view(photos[index], step) for index in missed]
            for index, faces in zip(
                missed, self.detector.detect_here(views, thresholds=step.thresholds), strict=True
            ):
                if len(faces):
                    back = _map_back(faces, step, width=photos[index].shape[1])
                    results[index] = Found("retried", step.name, back)
        return results


def _is_sane(photo: np.ndarray, step: RetryStep) -> bool:
    """Enlarging is for small photos; a huge one would take memory by the gigabyte."""
    return step.scale <= 1 or photo.size / 3 * step.scale**2 <= _MAX_ENLARGED_PIXELS


def _view(photo: np.ndarray, step: RetryStep) -> np.ndarray:
    """The photo as a retry step looks at it."""
    if step.contrast:
        lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB)
        lab[..., 0] = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply(lab[..., 0])
        photo = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    if step.scale != 1.0:
        size = tuple(max(1, round(side * step.scale)) for side in photo.shape[1::-1])
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_LINEAR)
    return photo[:, ::-1] if step.flip else photo


def _map_back(faces: Detections, step: RetryStep, *, width: int) -> Detections:
    """Boxes and landmarks of a view, in the photo's own pixels."""
    boxes, landmarks = faces.boxes / step.scale, faces.landmarks / step.scale
    if step.flip:
        boxes = boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (width, 0, width, 0)
        landmarks = landmarks[:, _MIRRORED] * (-1, 1) + (width, 0)
    return Detections(boxes.astype(np.float32), faces.probs, landmarks.astype(np.float32))

"""Retries look at changed photos; what they find comes back in the photo's own pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from cropfirst.core.faces import views
from cropfirst.core.faces.boxes import iou
from cropfirst.stage1_detect.config import DetectConfig, RetryStep
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.mtcnn.retry import RetryingDetector

STEPS = [
    RetryStep(name="relaxed"),
    RetryStep(name="upscaled", scale=1.5),
    RetryStep(name="flipped", flip=True),
    RetryStep(name="contrast", contrast=True),
    RetryStep(name="all", scale=2.0, flip=True, contrast=True),
]
EMPTY = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))


class BlindAtFirst:
    """MTCNN that finds nothing with the config's thresholds, which only retries replace."""

    def __init__(self) -> None:
        self.mtcnn = MTCNN(threads=1)
        self.views: list[np.ndarray] = []

    def detect_batch(
        self,
        photos: Sequence[np.ndarray],
        *,
        thresholds: tuple[float, float, float] | None = None,
    ) -> list[Detections]:
        if thresholds is None:
            return [EMPTY for _ in photos]
        self.views += photos
        return self.mtcnn.detect_batch(photos, thresholds=thresholds)


def _detector(*steps: RetryStep, detector: object) -> RetryingDetector:
    made = RetryingDetector(DetectConfig(retry=steps))
    made.detector = detector  # type: ignore[assignment]
    return made


@pytest.fixture
def off_centre(face_photo: np.ndarray) -> np.ndarray:
    """The face left of the middle: a mirror image has it elsewhere."""
    return np.ascontiguousarray(face_photo[:, 90:])


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_retried_face_is_where_it_is_in_the_photo(
    off_centre: np.ndarray, step: RetryStep
) -> None:
    (plain,) = MTCNN(threads=1).detect_batch([off_centre])
    detector = BlindAtFirst()
    (result,) = _detector(step, detector=detector).detect([off_centre])
    assert (result.status, result.policy) == ("retried", step.name)
    height, width = off_centre.shape[:2]
    assert detector.views[0].shape[:2] == (round(height * step.scale), round(width * step.scale))
    best = result.faces.probs.argmax()
    assert iou(result.faces.boxes[[best]], plain.boxes)[0, 0] > 0.7
    # Eyes are some 0.4 of the box apart: an exchanged one would be far off.
    apart = np.linalg.norm(result.faces.landmarks[best] - plain.landmarks[0], axis=1)
    assert apart.max() < 0.15 * (plain.boxes[0, 2] - plain.boxes[0, 0]), apart
    assert result.faces.boxes.dtype == result.faces.landmarks.dtype == np.float32


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_boxes_and_landmarks_map_back_exactly(step: RetryStep) -> None:
    """A face at known places of a 200 x 100 photo, found at the same places of the step's view."""
    box = np.array([[20, 10, 60, 58]], np.float32)
    points = np.array([[[30, 25], [50, 26], [41, 35], [33, 45], [47, 46]]], np.float32)

    class InTheView:
        def detect_batch(
            self, photos: Sequence[np.ndarray], *, thresholds: object = None
        ) -> list[Detections]:
            if thresholds is None:
                return [EMPTY for _ in photos]
            width = photos[0].shape[1]
            boxes, marks = box * step.scale, points * step.scale
            if step.flip:
                boxes = np.stack(
                    [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1
                )
                # The left eye of the mirror image is the photo's right eye.
                marks = np.stack([width - marks[..., 0], marks[..., 1]], axis=-1)
                marks = marks[:, [1, 0, 2, 4, 3]]
            return [Detections(boxes, np.ones(1, np.float32), marks)]

    photo = np.zeros((100, 200, 3), np.uint8)
    (result,) = _detector(step, detector=InTheView()).detect([photo])
    np.testing.assert_allclose(result.faces.boxes, box, atol=1e-4)
    np.testing.assert_allclose(result.faces.landmarks, points, atol=1e-4)


def test_only_photos_without_a_face_are_tried_again_step_by_step(face_photo: np.ndarray) -> None:
    black = np.zeros_like(face_photo)
    found = RetryingDetector(DetectConfig(retry=tuple(STEPS)), threads=1).detect(
        [black, face_photo, black]
    )
    assert [each.status for each in found] == ["missed", "detected", "missed"]
    assert [each.policy for each in found] == ["", "", ""]
    first, later = RetryStep(name="first"), RetryStep(name="later", flip=True)
    detector = BlindAtFirst()
    (result,) = _detector(first, later, detector=detector).detect([face_photo])
    assert result.policy == "first" and len(detector.views) == 1


def test_a_huge_photo_is_not_enlarged(
    face_photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    height, width = face_photo.shape[:2]
    monkeypatch.setattr(views, "_MAX_ENLARGED_PIXELS", 4 * height * width - 1)
    steps = RetryStep(name="upscaled", scale=2.0), RetryStep(name="flipped", flip=True)
    detector = BlindAtFirst()
    (result,) = _detector(*steps, detector=detector).detect([face_photo])
    assert result.policy == "flipped"
    assert [view.shape for view in detector.views] == [face_photo.shape]

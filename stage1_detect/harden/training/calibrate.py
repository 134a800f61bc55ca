"""Calibration of a trained net's scores, so that the thresholds keep their meaning.

As many windows without a face reach R-Net and O-Net as with the teacher, so the student is hardly
slower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import nn

from cropfirst.core.faces.boxes import iou
from cropfirst.core.prefetch import prefetch
from cropfirst.stage1_detect.mtcnn.candidates import NetName
from cropfirst.stage1_detect.mtcnn.detector import MTCNN

NEXT_NET: dict[NetName, NetName] = {"pnet": "rnet", "rnet": "onet"}
"""Net whose input shows what a net passes on."""
_SCORE_LAYERS: dict[NetName, str] = {"pnet": "conv4_1", "rnet": "dense5_1", "onet": "dense6_1"}
_LOW_THRESHOLD = 0.05
_FACE_IOU = 0.2
"""IoU above which a candidate counts as one of a face."""


def calibration_shift(
    images: Sequence[np.ndarray],
    faces: Sequence[np.ndarray],
    net: NetName,
    student: MTCNN,
    teacher: MTCNN,
    *,
    workers: int,
) -> float:
    """Return what to add to a net's logit so that it passes as many non-faces as the teacher's.

    NMS keeps the highest scores, so the candidates kept at a low threshold contain those that would
    be kept at a higher one.

    Args:
        images: (H, W, 3) uint8 RGB arrays.
        faces: (N, 4) known faces of each image; candidates on them are not counted.
        net: `pnet` or `rnet`.
        student: detector with this net and those before it as trained.
    """
    place = {"pnet": 0, "rnet": 1}[net]
    thresholds = list(teacher.config.thresholds)
    jobs = list(zip(images, faces, strict=True))
    wanted = sum(len(each) for each in _non_face_scores(jobs, net, teacher, thresholds, workers))
    low = [*thresholds]
    low[place] = _LOW_THRESHOLD
    scores = np.concatenate(_non_face_scores(jobs, net, student, low, workers))
    scores = np.sort(scores)[::-1]
    if not wanted or len(scores) < wanted:
        return 0.0
    # Halfway between the last score that is to pass and the first that is not.
    edge = [_logit(float(score)) for score in scores[wanted - 1 : wanted + 1]]
    return _logit(thresholds[place]) - sum(edge) / len(edge)


def shift_scores(net: nn.Module, name: NetName, shift: float) -> None:
    """Add `shift` to the logit of a face, in place."""
    bias = getattr(net, _SCORE_LAYERS[name]).bias
    bias.data[1] += shift


def _non_face_scores(
    jobs: Sequence[tuple[np.ndarray, np.ndarray]],
    net: NetName,
    detector: MTCNN,
    thresholds: Sequence[float],
    workers: int,
) -> list[np.ndarray]:
    """Return the scores of the candidates off the faces that reach the next net, per image."""
    first, second, third = thresholds

    def scores(job: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        image, faces = job
        boxes, found = detector.candidates(
            [image], net=NEXT_NET[net], thresholds=(first, second, third)
        )[0]
        return found[~(iou(boxes, faces) > _FACE_IOU).any(axis=1)]

    return [
        found for _, found in prefetch(jobs, scores, workers=workers, size_of=lambda a: a.nbytes)
    ]


def _logit(score: float) -> float:
    score = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(score / (1 - score))

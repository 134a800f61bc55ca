"""Scores moved so that the thresholds go on to mean what they meant: of what is no face, as much
comes to R-Net and to O-Net as with the teacher. So the student is hardly slower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import nn

from cropfirst.core.prefetch import prefetch
from cropfirst.stage1_detect.mtcnn.boxes import iou
from cropfirst.stage1_detect.mtcnn.candidates import NetName
from cropfirst.stage1_detect.mtcnn.detector import MTCNN

_LOW = 0.05
_ON_A_FACE = 0.2
"""IoU from which on a candidate is some face's."""
_SCORES: dict[NetName, str] = {"pnet": "conv4_1", "rnet": "dense5_1", "onet": "dense6_1"}
NEXT: dict[NetName, NetName] = {"pnet": "rnet", "rnet": "onet"}
"""Whose input shows what a net lets through."""


def same_traffic(
    photos: Sequence[np.ndarray],
    net: NetName,
    student: MTCNN,
    teacher: MTCNN,
    *,
    workers: int,
    faces: Sequence[np.ndarray] | None = None,
) -> float:
    """What to add to a net's logit so that it lets through as many as the teacher's does of what is
    no face.

    NMS keeps the best first, so that what is kept at a low threshold holds, at its top, what would
    be kept at a higher one.

    Args:
        photos: (H, W, 3) uint8 RGB arrays.
        net: `pnet` or `rnet`.
        student: with that net, and those before it, as trained.
        faces: (N, 4) known faces of each photo: what lies on them is not counted.
    """
    place = {"pnet": 0, "rnet": 1}[net]
    usual = list(teacher.config.thresholds)
    known = faces if faces is not None else [np.zeros((0, 4), np.float32)] * len(photos)
    both = list(zip(photos, known, strict=True))
    wanted = sum(len(each) for each in _scores(both, net, teacher, usual, workers))
    low = [*usual]
    low[place] = _LOW
    scores = np.sort(np.concatenate(_scores(both, net, student, low, workers)))[::-1]
    if not wanted or len(scores) < wanted:
        return 0.0
    # Between the last that is to come through and the first that is not.
    edge = [_logit(float(score)) for score in scores[wanted - 1 : wanted + 1]]
    return _logit(usual[place]) - sum(edge) / len(edge)


def add_to_score(net: nn.Module, name: NetName, shift: float) -> None:
    """Move the logit of a face by `shift`, in place."""
    bias = getattr(net, _SCORES[name]).bias
    bias.data[1] += shift


def _scores(
    photos: Sequence[tuple[np.ndarray, np.ndarray]],
    net: NetName,
    detector: MTCNN,
    thresholds: Sequence[float],
    workers: int,
) -> list[np.ndarray]:
    """Scores of what each photo, given with its faces, sends on to the next net off the faces."""
    first, second, third = thresholds

    def scores(job: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        photo, faces = job
        boxes, found = detector.candidates(
            [photo], net=NEXT[net], thresholds=(first, second, third)
        )[0]
        return found[~(iou(boxes, faces) > _ON_A_FACE).any(axis=1)]

    return [
        found for _, found in prefetch(photos, scores, workers=workers, size_of=lambda a: a.nbytes)
    ]


def _logit(score: float) -> float:
    score = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(score / (1 - score))

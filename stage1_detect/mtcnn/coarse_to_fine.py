"""The search for the largest face of each photo: large faces first, smaller ones where needed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from cropfirst.stage1_detect.mtcnn.candidates import OutputCache, Proposals
from cropfirst.stage1_detect.mtcnn.cascade import Cascade, Detections, Thresholds
from cropfirst.stage1_detect.mtcnn.engines.base import PhotoBatch
from cropfirst.stage1_detect.mtcnn.pyramid.levels import PyramidLevel

_FIRST_FACE_SIZE = 0.25
"""Smallest face of the first search, as a fraction of the photo's shorter side."""
_SURE_SCORE = 0.9
"""Score from which on a face may end the search."""
_MAX_GROWTH = 2.5
"""A level's faces are at most this many times as large as its `face_size`. On 809 web photos of
crowds the largest face is then another one, or its box another (IoU < 0.9), once; with 2.0 twelve
times."""


def detect_coarse_to_fine(
    cascade: Cascade,
    images: PhotoBatch,
    levels: Sequence[Sequence[PyramidLevel]],
    thresholds: Thresholds,
) -> list[Detections]:
    """Detect large faces, then smaller ones in photos where those could outgrow every sure face.

    Args:
        levels: the levels of each photo, finest first.
    """
    results: dict[int, Detections] = {}
    proposals = cascade.propose(images, [], thresholds[0])
    cache = OutputCache(cascade.device)
    shorter = [min(shape) for shape in images.shapes]
    todo = list(range(len(levels)))
    above, below = math.inf, _FIRST_FACE_SIZE
    while todo:
        fresh = [
            level
            for photo in todo
            for level in levels[photo]
            if below <= level.face_size / shorter[photo] < above
        ]
        proposals = Proposals.concat([proposals, cascade.propose(images, fresh, thresholds[0])])
        remaining = torch.tensor(todo, device=cascade.device)
        proposals = proposals.select(torch.isin(proposals.photo, remaining))
        proposals = proposals.select(proposals.position.argsort())
        faces = cascade.detect(images, proposals, thresholds, cache)
        results |= {photo: faces[photo] for photo in todo}
        todo = [
            photo
            for photo in todo
            if _may_be_outgrown(faces[photo], levels[photo], below * shorter[photo])
        ]
        above, below = below, below / 2
    return [results[photo] for photo in range(len(levels))]


def _may_be_outgrown(faces: Detections, levels: Sequence[PyramidLevel], searched: float) -> bool:
    """Return whether levels not searched yet could hold a larger face than every sure one.

    Args:
        searched: face size, in pixels, down to which levels have been searched.
    """
    finer = [level.face_size for level in levels if level.face_size < searched]
    if not finer:
        return False
    sure = faces.boxes[faces.probs >= _SURE_SCORE]
    if not len(sure):
        return True
    sides = (sure[:, 2:] - sure[:, :2]).max(axis=1)
    return bool(sides.max() < _MAX_GROWTH * max(finer))

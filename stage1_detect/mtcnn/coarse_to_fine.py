"""The search for the largest face of each photo: large faces first, smaller ones where needed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from cropfirst.core.faces.coarse_to_fine import FIRST_FACE_SIZE, may_be_outgrown
from cropfirst.core.faces.detections import Detections
from cropfirst.stage1_detect.mtcnn.candidates import OutputCache, Proposals
from cropfirst.stage1_detect.mtcnn.cascade import Cascade, Thresholds
from cropfirst.stage1_detect.mtcnn.engines.base import PhotoBatch
from cropfirst.stage1_detect.mtcnn.pyramid.levels import PyramidLevel


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
    sizes = [[level.face_size for level in each] for each in levels]
    todo = list(range(len(levels)))
    above, below = math.inf, FIRST_FACE_SIZE
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
            if may_be_outgrown(faces[photo], sizes[photo], below * shorter[photo])
        ]
        above, below = below, below / 2
    return [results[photo] for photo in range(len(levels))]

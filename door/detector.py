"""MTCNN over one photo with ONNX Runtime, and its retry steps.

Candidates, rules and order are those of stage 1 (`stage1_detect/mtcnn/cascade.py`, `retry.py`), so
that both find the same faces. It knows nothing of crops or classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from cropfirst.core.faces.boxes import (
    apply_offsets,
    cut_by_edge,
    make_square,
    nms_iou,
    nms_min,
    pixel_windows,
    unstretch,
    vote,
)
from cropfirst.core.faces.coarse_to_fine import FIRST_FACE_SIZE, may_be_outgrown
from cropfirst.core.faces.detections import Detections
from cropfirst.core.faces.pyramid import STRIDE, WINDOW, pyramid_scales
from cropfirst.core.faces.views import is_small_enough, map_back, retry_view
from cropfirst.door.area import IntegralImage
from cropfirst.door.manifest import DetectorEntry

MIN_OVERLAP = 0.7
"""Intersection over the smaller area from which on a better face removes another one."""
WINDOWS_AT_ONCE = 256
"""Number of windows that go through a network at once: bounds the memory in crowds."""
Thresholds = tuple[float, float, float]


class Network(Protocol):
    """An ONNX file that is ready to run."""

    def run(self, array: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the outputs of a batch, in the order that docs/bundle.md gives."""


@dataclass(frozen=True)
class Networks:
    """The detector's networks."""

    pnet: Network
    rnet: Network
    onet: Network
    localiser: Network | None = None


@dataclass(frozen=True)
class Found:
    """The faces of one photo."""

    faces: Detections
    status: Literal["detected", "retried"]


@dataclass(frozen=True)
class Proposals:
    """Windows of one level, in the order of their place in it."""

    boxes: np.ndarray
    """(N, 4) float32 xyxy in photo pixels, before P-Net's offsets."""
    scores: np.ndarray
    """(N,) float32 in [0, 1]."""
    offsets: np.ndarray
    """(N, 4) float32 offsets of the sides as fractions of the box."""


class Detector:
    """MTCNN followed by retry steps."""

    def __init__(self, networks: Networks, settings: DetectorEntry) -> None:
        self._networks, self._settings = networks, settings

    def detect(self, photo: np.ndarray) -> Found:
        """Find all faces of a photo, (H, W, 3) uint8 RGB."""
        faces = self._search(photo, self._settings.thresholds)
        if len(faces):
            return Found(faces, "detected")
        for step in self._settings.retry:
            if not is_small_enough(photo, step):
                continue
            view = np.ascontiguousarray(retry_view(photo, step))
            faces = self._search(view, step.thresholds)
            if len(faces):
                break
        else:
            return Found(faces, "detected")
        return Found(map_back(faces, step, width=photo.shape[1]), "retried")

    def _search(self, photo: np.ndarray, thresholds: Thresholds) -> Detections:
        """Run P-, R- and O-Net with NMS between them, on all levels or until a face is sure."""
        image = IntegralImage(photo)
        scales = pyramid_scales(
            image.height, image.width,
            min_face_size=self._settings.min_face_size, factor=self._settings.factor,
        )  # fmt: skip
        sizes = [WINDOW / scale for scale in scales]
        shorter, above, below = min(image.height, image.width), math.inf, 0.0
        if self._settings.search == "largest":
            below = FIRST_FACE_SIZE
        found: dict[int, Proposals] = {}
        while True:
            for index, size in enumerate(sizes):
                if below <= size / shorter < above:
                    found[index] = self._propose(image, scales[index], thresholds[0])
            squares = _join_levels([found[index] for index in sorted(found)])
            faces = self._finish(image, self._refine(image, squares, thresholds[1]), thresholds[2])
            if below == 0 or not may_be_outgrown(faces, sizes, below * shorter):
                return faces
            above, below = below, below / 2

    def _propose(self, image: IntegralImage, scale: float, threshold: float) -> Proposals:
        """Return the windows of one level that P-Net takes for a face, after NMS among them."""
        level = image.resize(int(image.height * scale + 1), int(image.width * scale + 1))
        logit, offsets = self._networks.pnet.run(level)
        score = _sigmoid(logit[0])
        row, col = np.nonzero(score >= np.float32(threshold))
        corner = np.stack([col, row], axis=1).astype(np.float32) * STRIDE
        ends = [(corner + end) / np.float32(scale) for end in (1, WINDOW)]
        boxes = np.floor(np.concatenate(ends, axis=1))
        kept = np.sort(nms_iou(boxes, score[row, col], np.zeros(len(row), np.int64), 0.5))
        row, col = row[kept], col[kept]
        return Proposals(boxes[kept], score[row, col], offsets[0][:, row, col].T)

    def _refine(self, image: IntegralImage, boxes: np.ndarray, threshold: float) -> np.ndarray:
        """Return the squares, (N, 4), that R-Net takes for faces, best first."""
        boxes, (logit, offsets) = _run(self._networks.rnet, image, boxes, 24)
        scores = _sigmoid(logit)
        passed = np.flatnonzero(scores > np.float32(threshold))
        boxes, scores, offsets = boxes[passed], scores[passed], offsets[passed]
        group = np.zeros(len(boxes), np.int64)
        keep = nms_iou(boxes, scores, group, self._settings.rnet_overlap)
        return make_square(apply_offsets(boxes[keep], offsets[keep], inclusive=True))

    def _finish(self, image: IntegralImage, boxes: np.ndarray, threshold: float) -> Detections:
        """Return the faces that O-Net accepts, best first."""
        boxes, (logit, offsets, points) = _run(self._networks.onet, image, boxes, 48)
        scores = _sigmoid(logit)
        passed = np.flatnonzero(scores > np.float32(threshold))
        boxes, scores = boxes[passed], scores[passed]
        landmarks = _place_landmarks(boxes, points[passed])
        boxes = apply_offsets(boxes, offsets[passed], inclusive=True)
        group = np.zeros(len(boxes), np.int64)
        if self._networks.localiser is not None:
            kept = nms_min(boxes, scores, group, MIN_OVERLAP)
            boxes, scores, landmarks = vote(boxes, group, kept), scores[kept], landmarks[kept]
            localiser, every = self._networks.localiser, np.arange(len(boxes))
            cut = _look_again(localiser, image, boxes, landmarks, every)
            _look_again(localiser, image, boxes, landmarks, cut)  # these boxes move far
        kept = nms_min(boxes, scores, np.zeros(len(boxes), np.int64), MIN_OVERLAP)
        return Detections(boxes[kept], scores[kept], landmarks[kept])


def _look_again(
    localiser: Network,
    image: IntegralImage,
    boxes: np.ndarray,
    landmarks: np.ndarray,
    faces: np.ndarray,
) -> np.ndarray:
    """Run the localiser on the squares of faces, and change their boxes in place.

    A square that the photo's edge cuts is put right by `unstretch`, and the face's landmarks are
    changed too. A square that misses the photo is left out.

    Args:
        boxes: (N, 4).
        landmarks: (N, 5, 2).
        faces: (K,) indices of the faces to look at.

    Returns:
        Indices of those that the edge cuts.
    """
    squares, is_cut = make_square(boxes), np.zeros(len(boxes), dtype=bool)
    windows = pixel_windows(squares, image.height, image.width)
    seen = faces[_overlaps(windows[faces])]
    for at in range(0, len(seen), WINDOWS_AT_ONCE):
        rows = seen[at : at + WINDOWS_AT_ONCE]
        crops = image.crops(windows[rows], 48)
        cut = cut_by_edge(squares[rows], windows[rows])
        if len(cut):
            is_cut[rows[cut]] = True
            put_right = unstretch(
                crops[cut].transpose(0, 2, 3, 1), squares[rows[cut]], windows[rows[cut]]
            )
            crops[cut] = put_right.transpose(0, 3, 1, 2)
        _, offsets, points = localiser.run(crops)
        boxes[rows] = apply_offsets(squares[rows], offsets, inclusive=True)
        landmarks[rows[cut]] = _place_landmarks(squares[rows], points)[cut]
    return np.flatnonzero(is_cut)


def _place_landmarks(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the landmarks, (N, 5, 2), that O-Net's (N, 10) fractions of boxes say."""
    size = boxes[:, 2:] - boxes[:, :2] + np.float32(1)
    placed = points.reshape(-1, 2, 5) * size[:, :, None] + boxes[:, :2, None] - 1
    return np.asarray(placed.transpose(0, 2, 1))


def _run(
    network: Network, image: IntegralImage, boxes: np.ndarray, size: int
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return the boxes that overlap the photo, and a network's outputs for them."""
    windows = pixel_windows(boxes, image.height, image.width)
    seen = _overlaps(windows)
    starts = range(0, max(1, len(seen)), WINDOWS_AT_ONCE)
    parts = [
        network.run(image.crops(windows[seen[at : at + WINDOWS_AT_ONCE]], size)) for at in starts
    ]
    return boxes[seen], tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def _overlaps(windows: np.ndarray) -> np.ndarray:
    """Return the indices of the windows that are not empty."""
    return np.flatnonzero((windows[:, 2] > windows[:, 0]) & (windows[:, 3] > windows[:, 1]))


def _join_levels(levels: Sequence[Proposals]) -> np.ndarray:
    """Return the squares, (N, 4), of some levels' proposals after NMS among all, best first."""
    if not levels:
        return np.zeros((0, 4), np.float32)
    boxes, scores, offsets = (
        np.concatenate([getattr(each, name) for each in levels])
        for name in ("boxes", "scores", "offsets")
    )
    kept = nms_iou(boxes, scores, np.zeros(len(boxes), np.int64), 0.7)
    return make_square(apply_offsets(boxes[kept], offsets[kept], inclusive=False))


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    """Return float32 scores; P-Net's tie at exactly 1, which decides what NMS keeps."""
    one = np.float32(1)
    with np.errstate(over="ignore"):
        return np.asarray(one / (one + np.exp(-logit)), np.float32)

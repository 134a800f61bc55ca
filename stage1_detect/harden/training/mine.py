"""Hard example mining: windows of a training view with what a net is to output for them.

The windows are the student's own proposals, which are the hard ones, windows around every face,
which it may have missed, and random ones. Labels follow Zhang et al. (2016), but overlap is
measured with the face's bounding square, since candidates are squares: a face from 0.65 on, none
below 0.3, box offsets from 0.4 on.
"""

from __future__ import annotations

import numpy as np
import torch

from cropfirst.core.faces.boxes import iou
from cropfirst.stage1_detect.harden.training.training_view import TrainingView
from cropfirst.stage1_detect.harden.training.windows import (
    BARE,
    NONE,
    PART,
    PASTED,
    REAL,
    UNSURE,
    WINDOW_KINDS,
    WINDOW_SIZES,
    Windows,
)
from cropfirst.stage1_detect.mtcnn.candidates import NetName
from cropfirst.stage1_detect.mtcnn.detector import MTCNN

_LEFT_OUT = -1
_FACE_IOU, _PART_IOU, _NO_FACE_IOU = 0.65, 0.4, 0.3
_MIN_SIDE = {"pnet": 14, "rnet": 16, "onet": 18}
"""Shorter side of a face in pixels below which its windows are left out."""
_PER_FACE = {"pnet": 10, "rnet": 5, "onet": 5}
"""Number of windows around each face."""
_HARD_NEGATIVES = {"pnet": 24, "rnet": 12, "onet": 8}
"""Number of the highest-scoring proposals without a face."""
_RANDOM = {"pnet": 8, "rnet": 4, "onet": 2}
"""Number of random windows."""
_MOST = {REAL: 24, PASTED: 16, BARE: 16, PART: 8, UNSURE: 5}
"""Most windows of each other kind per view."""
_THRESHOLDS = {"pnet": (0.3, 0.7, 0.7), "rnet": (0.45, 0.7, 0.7), "onet": (0.5, 0.35, 0.7)}
"""Thresholds at which the nets before pass windows on during the training of each net."""


def mine(
    view: TrainingView, net: NetName, student: MTCNN, teacher: MTCNN, rng: np.random.Generator
) -> Windows | None:
    """Choose the windows of one view for one net; None if there are none.

    Args:
        student: cascade as far as it is trained, whose proposals are used.
        teacher: detector whose output is kept for every window.
    """
    height, width = view.image.shape[:2]
    if min(height, width) < WINDOW_SIZES["pnet"]:
        return None
    squares = _squares(view.boxes)
    proposals, scores = student.candidates([view.image], net=net, thresholds=_THRESHOLDS[net])[0]
    boxes = np.concatenate(
        [
            _windows_around(squares, _PER_FACE[net], rng),
            _random_windows(height, width, _RANDOM[net], rng),
            proposals,
        ]
    )
    scores = np.concatenate([np.ones(len(boxes) - len(proposals)), scores])
    inside = _is_inside(boxes, height, width)
    boxes, scores = boxes[inside].astype(np.float32), scores[inside]
    kind, face = _label(boxes, view, squares, net)
    chosen = _choose(kind, scores, _HARD_NEGATIVES[net] + _RANDOM[net], rng)
    boxes, kind, face = boxes[chosen], kind[chosen], face[chosen]
    if not len(boxes):
        return None
    pixels = teacher.network_inputs(
        view.image, _pnet_fields(boxes) if net == "pnet" else boxes, WINDOW_SIZES[net]
    )
    output = _net_output(teacher, net, pixels)
    kind = np.where((kind == NONE) & (not view.complete) & (output[:, 0] > 0), UNSURE, kind)
    offsets, landmarks = _box_targets(boxes, kind, face, view, net)
    # The box of a bare face is to stay where the teacher puts it from this very window.
    stay = (kind == BARE) & (output[:, 0] > 0)
    offsets[stay] = output[stay, 1:5]
    if net == "onet":
        landmarks[stay] = output[stay, 5:]
    return Windows(
        boxes, (pixels * 128 + 127.5).round().clip(0, 255).astype(np.uint8),
        kind.astype(np.int8), offsets, landmarks, output,
    )  # fmt: skip


def _net_output(detector: MTCNN, net: NetName, pixels: np.ndarray) -> np.ndarray:
    """Return (N, 5 or 15): logit, offsets, landmarks."""
    engine = detector.engine
    run = {
        "pnet": engine.run_pnet_on_windows,
        "rnet": engine.run_rnet,
        "onet": engine.run_onet,
    }[net]
    return run(torch.from_numpy(pixels)).numpy()


def _squares(boxes: np.ndarray) -> np.ndarray:
    """Grow (N, 4) boxes to squares about their centres."""
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    half = side[:, None] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _pnet_fields(boxes: np.ndarray) -> np.ndarray:
    """Return the pixels that a P-Net cell sees: its box starts one of its 12 pixels further in."""
    pixel = (boxes[:, 2:] - boxes[:, :2]) / 11
    return np.concatenate([boxes[:, :2] - pixel + 1, boxes[:, 2:]], axis=1)


def _windows_around(squares: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw windows that show each face or a part of it."""
    many = np.repeat(squares, count, axis=0)
    side = many[:, 2:] - many[:, :2]
    centre = (many[:, :2] + many[:, 2:]) / 2 + side * rng.uniform(-0.22, 0.22, (len(many), 2))
    half = side / 2 * 2 ** rng.uniform(-0.45, 0.45, (len(many), 1))
    return np.concatenate([centre - half, centre + half], axis=1)


def _random_windows(height: int, width: int, count: int, rng: np.random.Generator) -> np.ndarray:
    least, most = 12.0, max(13.0, 0.7 * min(height, width))
    side = np.exp(rng.uniform(np.log(least), np.log(most), (count, 1)))
    corner = rng.random((count, 2)) * np.maximum([width, height] - side, 0)
    return np.concatenate([corner, corner + side], axis=1)


def _is_inside(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return whether at least a quarter of each window, and three pixels each way, is inside."""
    low = np.maximum(boxes[:, :2], 0)
    visible = np.minimum(boxes[:, 2:], [width, height]) - low
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    inside: np.ndarray = (visible > 3).all(axis=1) & (np.prod(visible, axis=1) > area / 4)
    return inside


def _label(
    boxes: np.ndarray, view: TrainingView, squares: np.ndarray, net: NetName
) -> tuple[np.ndarray, np.ndarray]:
    """Return the kind of each window and the index of its face."""
    kind = np.full(len(boxes), NONE)
    face = np.zeros(len(boxes), dtype=np.int64)
    if len(squares):
        overlap = iou(boxes, squares)
        face, best = overlap.argmax(axis=1), overlap.max(axis=1)
        of_face = np.where(view.pasted, PASTED, np.where(view.hidden, REAL, BARE))
        kind[best >= _NO_FACE_IOU] = UNSURE
        # The teacher's output on a covered face is what the student is to unlearn.
        kind[(best >= _NO_FACE_IOU) & view.hidden[face]] = _LEFT_OUT
        kind[best >= _PART_IOU] = PART
        kind[best >= _FACE_IOU] = of_face[face[best >= _FACE_IOU]]
        small = (view.boxes[:, 2:] - view.boxes[:, :2]).min(axis=1) < _MIN_SIDE[net]
        kind[(best >= 0.1) & small[face]] = _LEFT_OUT
        # A window inside a much larger face may still look like one.
        kind[(kind == NONE) & (_share_in_face(boxes, squares) > 0.8)] = UNSURE
    if len(view.doubtful):
        kind[(iou(boxes, view.doubtful).max(axis=1) > 0.2) & (kind == NONE)] = UNSURE
    return kind, face


def _share_in_face(boxes: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Return the largest share of each window's area that lies in one face's square."""
    low = np.maximum(boxes[:, None, :2], squares[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], squares[None, :, 2:])
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    share: np.ndarray = np.prod(np.clip(high - low, 0, None), axis=2).max(axis=1) / area
    return share


def _choose(
    kind: np.ndarray, scores: np.ndarray, negatives: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the rows of the highest-scoring negatives, and of random windows of other kinds."""
    chosen = []
    for each in range(len(WINDOW_KINDS)):
        rows = np.flatnonzero(kind == each)
        if each == NONE:
            rows = rows[np.argsort(-scores[rows], kind="stable")][:negatives]
        elif len(rows) > _MOST[each]:
            rows = rng.choice(rows, _MOST[each], replace=False)
        chosen.append(rows)
    return np.concatenate(chosen)


def _box_targets(
    boxes: np.ndarray, kind: np.ndarray, face: np.ndarray, view: TrainingView, net: NetName
) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets and landmarks as fractions of the window, in the nets' own convention."""
    offsets = np.full((len(boxes), 4), np.nan, dtype=np.float32)
    landmarks = np.full((len(boxes), 10), np.nan, dtype=np.float32)
    rows = np.flatnonzero(kind <= PART)
    if not len(view.boxes) or not len(rows):
        return offsets, landmarks
    size = boxes[rows, 2:] - boxes[rows, :2] + (0.0 if net == "pnet" else 1.0)
    offsets[rows] = (view.boxes[face[rows]] - boxes[rows]) / np.tile(size, 2)
    points = (view.landmarks[face[rows]] - boxes[rows, None, :2] + 1) / size[:, None]
    landmarks[rows] = points.transpose(0, 2, 1).reshape(-1, 10)
    landmarks[kind == PART] = np.nan
    return offsets, landmarks

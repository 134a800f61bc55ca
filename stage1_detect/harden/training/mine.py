"""Windows of a lesson as a net is shown them, with what it is to say: its own proposals, which are
the hard ones, and windows around every face that it may have lost.

Labels follow Zhang et al. (2016), but that overlap is counted with the face's square, since
candidates are squares: a face from 0.65 on, none below 0.3, offsets from 0.4 on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cropfirst.stage1_detect.harden.training.training_view import Lesson
from cropfirst.stage1_detect.mtcnn.boxes import iou
from cropfirst.stage1_detect.mtcnn.candidates import NetName
from cropfirst.stage1_detect.mtcnn.detector import MTCNN

SIZES: dict[NetName, int] = {"pnet": 12, "rnet": 24, "onet": 48}
KINDS = ("real", "pasted", "bare", "part", "unsure", "none")
"""Of windows: on a face hidden by nature, by paste, on a bare one; on a part of one; where only the
teacher can say; on none."""
REAL, PASTED, BARE, PART, UNSURE, NONE = range(6)
_FACE, _PART, _NO_FACE = 0.65, 0.4, 0.3
_SMALLEST = {"pnet": 14, "rnet": 16, "onet": 18}
"""Pixels of a face's shorter side below which it is left alone."""
_NEAR = {"pnet": 10, "rnet": 5, "onet": 5}
"""Windows a face, of each lesson."""
_HARD = {"pnet": 24, "rnet": 12, "onet": 8}
"""Proposals that are no face."""
_ANY = {"pnet": 8, "rnet": 4, "onet": 2}
"""Random places."""
_MOST = {REAL: 24, PASTED: 16, BARE: 16, PART: 8, UNSURE: 5}
"""Windows of each other kind, of each lesson."""
_EARLY = {"pnet": (0.3, 0.7, 0.7), "rnet": (0.45, 0.7, 0.7), "onet": (0.5, 0.35, 0.7)}
"""Thresholds at which the nets before let windows through while training."""


@dataclass(frozen=True)
class Windows:
    """N windows with what is to be said of them."""

    boxes: np.ndarray
    """(N, 4) float32 xyxy in the lesson's pixels."""
    pixels: np.ndarray
    """(N, S, S, 3) uint8."""
    kind: np.ndarray
    """(N,) int8, place in `KINDS`."""
    offsets: np.ndarray
    """(N, 4) float32 fractions of the window; NaN where not taught."""
    landmarks: np.ndarray
    """(N, 10) float32 fractions of the window, five x and five y; NaN where not taught."""
    teacher: np.ndarray
    """(N, 5 or 15) float32: what the teacher says of the same pixels."""

    @staticmethod
    def join(parts: list[Windows]) -> Windows:
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Windows(*(np.concatenate(column) for column in columns))

    def take(self, rows: np.ndarray) -> Windows:
        """Some of them, copied."""
        return Windows(*(column[rows] for column in vars(self).values()))

    def __len__(self) -> int:
        return len(self.kind)


def mine(
    lesson: Lesson, net: NetName, student: MTCNN, teacher: MTCNN, rng: np.random.Generator
) -> Windows | None:
    """The windows of one lesson; None where it has none.

    Args:
        student: the cascade as far as it is trained, whose proposals are looked at.
        teacher: its word is kept for every window.
    """
    height, width = lesson.image.shape[:2]
    if min(height, width) < SIZES["pnet"]:
        return None
    squares = _squares(lesson.boxes)
    proposals, scores = student.candidates([lesson.image], net=net, thresholds=_EARLY[net])[0]
    boxes = np.concatenate(
        [_around(squares, _NEAR[net], rng), _anywhere(height, width, _ANY[net], rng), proposals]
    )
    hard = np.concatenate([np.ones(len(boxes) - len(proposals)), scores])
    inside = _inside(boxes, height, width)
    boxes, hard = boxes[inside].astype(np.float32), hard[inside]
    kind, face = _label(boxes, lesson, squares, net)
    chosen = _choose(kind, hard, _HARD[net] + _ANY[net], rng)
    boxes, kind, face = boxes[chosen], kind[chosen], face[chosen]
    if not len(boxes):
        return None
    shown = _cells(boxes) if net == "pnet" else boxes
    pixels = teacher.network_inputs(lesson.image, shown, SIZES[net])
    theirs = _ask(teacher, net, pixels)
    kind = np.where((kind == NONE) & (not lesson.complete) & (theirs[:, 0] > 0), UNSURE, kind)
    offsets, landmarks = _targets(boxes, kind, face, lesson, net)
    # A bare face's box is to stay where the teacher puts it from this very window.
    stay = (kind == BARE) & (theirs[:, 0] > 0)
    offsets[stay] = theirs[stay, 1:5]
    if net == "onet":
        landmarks[stay] = theirs[stay, 5:]
    return Windows(
        boxes, (pixels * 128 + 127.5).round().clip(0, 255).astype(np.uint8),
        kind.astype(np.int8), offsets, landmarks, theirs,
    )  # fmt: skip


def _ask(teacher: MTCNN, net: NetName, pixels: np.ndarray) -> np.ndarray:
    """(N, 5 or 15): logit, offsets, landmarks."""
    import torch

    engine = teacher.engine
    run = {
        "pnet": engine.run_pnet_on_windows,
        "rnet": engine.run_rnet,
        "onet": engine.run_onet,
    }[net]
    return run(torch.from_numpy(pixels)).numpy()


def _squares(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) grown to squares about their centres."""
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    half = side[:, None] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _cells(boxes: np.ndarray) -> np.ndarray:
    """The pixels that a P-Net cell sees: its box starts one of its twelve pixels in."""
    pixel = (boxes[:, 2:] - boxes[:, :2]) / 11
    return np.concatenate([boxes[:, :2] - pixel + 1, boxes[:, 2:]], axis=1)


def _around(squares: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Windows around each face, near enough to be one or a part of one."""
    many = np.repeat(squares, count, axis=0)
    side = many[:, 2:] - many[:, :2]
    centre = (many[:, :2] + many[:, 2:]) / 2 + side * rng.uniform(-0.22, 0.22, (len(many), 2))
    half = side / 2 * 2 ** rng.uniform(-0.45, 0.45, (len(many), 1))
    return np.concatenate([centre - half, centre + half], axis=1)


def _anywhere(height: int, width: int, count: int, rng: np.random.Generator) -> np.ndarray:
    least, most = 12.0, max(13.0, 0.7 * min(height, width))
    side = np.exp(rng.uniform(np.log(least), np.log(most), (count, 1)))
    corner = rng.random((count, 2)) * np.maximum([width, height] - side, 0)
    return np.concatenate([corner, corner + side], axis=1)


def _inside(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Where at least a quarter of a window lies in the photo, and three pixels each way."""
    low = np.maximum(boxes[:, :2], 0)
    shown = np.minimum(boxes[:, 2:], [width, height]) - low
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    inside: np.ndarray = (shown > 3).all(axis=1) & (np.prod(shown, axis=1) > area / 4)
    return inside


def _label(
    boxes: np.ndarray, lesson: Lesson, squares: np.ndarray, net: NetName
) -> tuple[np.ndarray, np.ndarray]:
    """Kind of each window, -1 where it is left out, and its face."""
    kind = np.full(len(boxes), NONE)
    face = np.zeros(len(boxes), dtype=np.int64)
    if len(squares):
        overlap = iou(boxes, squares)
        face, best = overlap.argmax(axis=1), overlap.max(axis=1)
        on = np.where(lesson.pasted, PASTED, np.where(lesson.hidden, REAL, BARE))
        kind[best >= _NO_FACE] = UNSURE
        # The teacher's word on a hidden face is just what is not wanted.
        kind[(best >= _NO_FACE) & lesson.hidden[face]] = -1
        kind[best >= _PART] = PART
        kind[best >= _FACE] = on[face[best >= _FACE]]
        small = (lesson.boxes[:, 2:] - lesson.boxes[:, :2]).min(axis=1) < _SMALLEST[net]
        kind[(best >= 0.1) & small[face]] = -1
        # A part of a face inside a large window, or all of it in a small corner of one.
        kind[(kind == NONE) & (_covered(boxes, squares) > 0.8)] = UNSURE
    if len(lesson.doubtful):
        kind[(iou(boxes, lesson.doubtful).max(axis=1) > 0.2) & (kind == NONE)] = UNSURE
    return kind, face


def _covered(boxes: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """(N,) largest share of a window that lies in one face's square."""
    low = np.maximum(boxes[:, None, :2], squares[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], squares[None, :, 2:])
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    covered: np.ndarray = np.prod(np.clip(high - low, 0, None), axis=2).max(axis=1) / area
    return covered


def _choose(kind: np.ndarray, hard: np.ndarray, none: int, rng: np.random.Generator) -> np.ndarray:
    """The hardest windows without a face, and of those with one no more than are looked for."""
    chosen = []
    for each in range(len(KINDS)):
        rows = np.flatnonzero(kind == each)
        if each == NONE:
            rows = rows[np.argsort(-hard[rows], kind="stable")][:none]
        elif len(rows) > _MOST[each]:
            rows = rng.choice(rows, _MOST[each], replace=False)
        chosen.append(rows)
    return np.concatenate(chosen)


def _targets(
    boxes: np.ndarray, kind: np.ndarray, face: np.ndarray, lesson: Lesson, net: NetName
) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and landmarks as fractions of the window, in the nets' own convention."""
    offsets = np.full((len(boxes), 4), np.nan, dtype=np.float32)
    landmarks = np.full((len(boxes), 10), np.nan, dtype=np.float32)
    taught = np.flatnonzero(kind <= PART)
    if not len(lesson.boxes) or not len(taught):
        return offsets, landmarks
    size = boxes[taught, 2:] - boxes[taught, :2] + (0.0 if net == "pnet" else 1.0)
    offsets[taught] = (lesson.boxes[face[taught]] - boxes[taught]) / np.tile(size, 2)
    points = lesson.landmarks[face[taught]]
    points = (points - boxes[taught, None, :2] + 1) / size[:, None]
    landmarks[taught] = points.transpose(0, 2, 1).reshape(-1, 10)
    landmarks[kind == PART] = np.nan
    return offsets, landmarks

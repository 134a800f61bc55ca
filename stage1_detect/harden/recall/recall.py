"""How well a detector finds known faces: recall by mask state, false positives, and how sure both
are. Knows boxes and scores; knows no photo, net or file.

A face counts when its shorter side is `min_size` pixels or more: that is what `min_face_size`
means. Detections take faces one to one, best score first, each the free face that it overlaps most
(as in the PASCAL VOC challenge, Everingham et al., IJCV 2010). A detection on a face too small to
count is neither right nor wrong, like a "difficult" face there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.core.bootstrap import Floats, Interval, Ints, resampled
from cropfirst.stage1_detect.harden.training.truth import STATES, KnownFaces
from cropfirst.stage1_detect.mtcnn.boxes import iou
from cropfirst.stage1_detect.mtcnn.detector import Detections

COLUMNS = (*STATES, "")
"""What faces are counted by; "" is a face of unknown state."""
ALL = "all"
"""Every face, whatever its state."""


@dataclass(frozen=True)
class Measured:
    """What was counted in each of P photos; sums and intervals follow from it."""

    faces: Ints
    """(P, 4) faces that count, by `COLUMNS`."""
    found: Ints
    """(P, 4) those that were found."""
    false: Ints
    """(P,) detections on no face, or on one that a surer detection has."""

    def counts(self) -> dict[str, tuple[int, int]]:
        """Faces found and faces, by the states that occur ("" = unknown) and `all`."""
        found, faces = _with_all(self.found.sum(0)), _with_all(self.faces.sum(0))
        return {
            name: (int(found[i]), int(faces[i]))
            for i, name in enumerate((*COLUMNS, ALL))
            if faces[i]
        }

    def recall(self, *, resamples: int = 2000, seed: int = 0) -> dict[str, Interval]:
        """Recall in [0, 1] with its 95 % interval over photos, by state and `all`."""
        return self._named(resampled(self._rates, len(self.false), resamples=resamples, seed=seed))

    def false_a_photo(self, *, resamples: int = 2000, seed: int = 0) -> Interval:
        """False positives a photo with the 95 % interval over photos."""
        return resampled(self._false_rate, len(self.false), resamples=resamples, seed=seed)[0]

    def _rates(self, weights: Ints) -> Floats:
        """(B, P) draws to (5, B) recalls; NaN where no face was drawn."""
        faces = _with_all(weights @ self.faces)
        found = _with_all(weights @ self.found)
        return np.divide(found, faces, out=np.full(faces.shape, np.nan), where=faces > 0).T

    def _false_rate(self, weights: Ints) -> Floats:
        return (weights @ self.false / weights.sum(1))[None]

    def _named(self, values: Sequence[Interval]) -> dict[str, Interval]:
        wanted = self.counts()
        return {
            name: value
            for name, value in zip((*COLUMNS, ALL), values, strict=True)
            if name in wanted
        }


def measure(
    found: Sequence[Detections],
    truth: Sequence[KnownFaces],
    *,
    min_size: float = 40,
    min_iou: float = 0.4,
) -> Measured:
    """Count a detector's hits and false positives, photo by photo.

    Counted so, facenet-pytorch's defaults (min_face_size 20) find 84 % of the worn, 70 % of the
    wrongly worn and 95 % of the bare faces of 853 web photos, as others report of them; counted by
    height, 90 % of the bare ones.

    Args:
        found: the detector's faces.
        truth: the known faces of the same photos in the same order: all of them, small ones too.
        min_size: shorter side of a known face, in pixels, from which on it counts.
        min_iou: overlap from which on a detection is that face.

    Raises:
        ValueError: no photos, or unequally many.
    """
    seen = _look_at_all(found, truth, min_size=min_size, min_iou=min_iou)
    return Measured(
        faces=np.stack([_by_state(one.columns, one.counts) for one in seen]),
        found=np.stack([_by_state(one.columns, one.counts & one.is_found) for one in seen]),
        false=np.array([one.is_false.sum() for one in seen], dtype=np.int64),
    )


@dataclass(frozen=True)
class Looked:
    """One photo's N detections against its K known faces."""

    face: Ints
    """(N,) the known face that each detection has, -1 = none."""
    is_false: npt.NDArray[np.bool_]
    """(N,) on no face, or on one that a surer detection has."""
    counts: npt.NDArray[np.bool_]
    """(K,) large enough to count."""
    is_found: npt.NDArray[np.bool_]
    """(K,)."""
    columns: Ints
    """(K,) place of each face's state in `COLUMNS`."""


def look(
    found: Detections, known: KnownFaces, *, min_size: float = 40, min_iou: float = 0.4
) -> Looked:
    """Match one photo's detections with its known faces; arguments as `measure`'s."""
    overlap = iou(found.boxes, known.boxes)
    sides = np.asarray(known.boxes, np.float64).reshape(-1, 4)
    counts = (sides[:, 2:] - sides[:, :2]).min(axis=1, initial=np.inf) >= min_size
    face = np.full(len(found), -1, dtype=np.int64)
    is_free = np.ones(len(known), dtype=bool)
    for row in np.argsort(-found.probs, kind="stable") if len(known) else ():
        free = np.where(is_free, overlap[row], -1.0)
        best = int(free.argmax())
        if free[best] >= min_iou:
            face[row], is_free[best] = best, False
    on_small = ((overlap >= min_iou) & ~counts).any(axis=1)
    columns = np.array([COLUMNS.index(state) for state in known.states], dtype=np.int64)
    return Looked(face, (face < 0) & ~on_small, counts, ~is_free, columns)


def compare(
    before: Measured, after: Measured, *, resamples: int = 2000, seed: int = 0
) -> tuple[dict[str, Interval], Interval]:
    """Second minus first of two detectors on the same photos: a paired bootstrap over photos.

    The detectors stay as they are: the interval says what other photos would change, and nothing of
    another seed of training.

    Returns:
        Differences of recall by state and `all`, and of false positives a photo.

    Raises:
        ValueError: not the same photos.
    """
    if not np.array_equal(before.faces, after.faces):
        raise ValueError("wanted two detectors measured on the same photos in the same order")

    def gaps(weights: Ints) -> Floats:
        recall = after._rates(weights) - before._rates(weights)
        false = after._false_rate(weights) - before._false_rate(weights)
        return np.concatenate([recall, false])

    values = resampled(gaps, len(before.false), resamples=resamples, seed=seed)
    return before._named(values[:-1]), values[-1]


def _look_at_all(
    found: Sequence[Detections], truth: Sequence[KnownFaces], *, min_size: float, min_iou: float
) -> list[Looked]:
    if not len(truth) or len(found) != len(truth):
        raise ValueError(
            "wanted the detections and the known faces of the same photos, at least one, got "
            f"{len(found)} and {len(truth)}"
        )
    return [
        look(faces, known, min_size=min_size, min_iou=min_iou)
        for faces, known in zip(found, truth, strict=True)
    ]


def _by_state(columns: Ints, wanted: npt.NDArray[np.bool_]) -> Ints:
    return np.bincount(columns[wanted], minlength=len(COLUMNS))


def _with_all(counts: Ints) -> Ints:
    """(..., 4) counts by state and, last, their sum."""
    return np.concatenate([counts, counts.sum(-1, keepdims=True)], axis=-1)


@dataclass(frozen=True)
class Curve:
    """What a detector would be with each of T O-Net thresholds, the highest first."""

    scores: Floats
    """(T,) falling: everything with this score or a better one is taken for a face."""
    recall: dict[str, Floats]
    """(T,) each, by the states that occur ("" = unknown) and `all`; never falls along the curve."""
    precision: Floats
    """(T,) share of right ones among the detections that count, of every state."""
    false_a_photo: Floats
    """(T,) false positives a photo; never falls along the curve."""

    def at_false(self, most: float) -> dict[str, float]:
        """Recall by state with the lowest threshold that keeps to `most` false positives a
        photo."""
        kept = int((self.false_a_photo <= most).sum())
        return {name: float(line[kept - 1]) if kept else 0.0 for name, line in self.recall.items()}


def curve(
    found: Sequence[Detections],
    truth: Sequence[KnownFaces],
    *,
    min_size: float = 40,
    min_iou: float = 0.4,
) -> Curve:
    """Recall of each state against precision, and against false positives a photo.

    A false positive has no mask state, so no state has a precision of its own: divided by the false
    positives of all photos, a rare state would look imprecise for being rare. Precision is
    therefore that of the whole detector, over every state; false positives a photo, the second
    measure, does not depend on how common the states are, and compares across data sets too.

    Args:
        found: faces at a low O-Net threshold, with the P- and R-Net thresholds of use: matching and
            suppression run down the scores, so a cut at t gives what the detector gives with t.
        truth: the known faces of the same photos; other arguments as `measure`'s.

    Raises:
        ValueError: no photos, or unequally many.
    """
    seen = _look_at_all(found, truth, min_size=min_size, min_iou=min_iou)
    totals = _with_all(np.sum([_by_state(one.columns, one.counts) for one in seen], axis=0))
    events = [_events(faces, one) for faces, one in zip(found, seen, strict=True)]
    scores = np.concatenate([part[0] for part in events]).astype(np.float64)
    gained = np.concatenate([part[1] for part in events])
    order = np.argsort(-scores, kind="stable")
    scores, sums = scores[order], gained[order].cumsum(axis=0)
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # equal scores pass together
    hits, false = _with_all(sums[last, :-1]), sums[last, -1]
    recall = {name: hits[:, i] / totals[i] for i, name in enumerate((*COLUMNS, ALL)) if totals[i]}
    precision = hits[:, -1] / np.maximum(hits[:, -1] + false, 1)
    return Curve(scores[last], recall, precision, false / len(truth))


def _events(found: Detections, seen: Looked) -> tuple[Floats, Ints]:
    """Scores of the M detections that count, and (M, 5): a hit of which state, or a false one."""
    rows = np.zeros((len(found), len(COLUMNS) + 1), dtype=np.int64)
    hit = np.flatnonzero(seen.face >= 0)
    hit = hit[seen.counts[seen.face[hit]]]
    rows[hit, seen.columns[seen.face[hit]]] = 1
    rows[seen.is_false, -1] = 1
    matter = rows.any(axis=1)
    return np.asarray(found.probs[matter], np.float64), rows[matter]

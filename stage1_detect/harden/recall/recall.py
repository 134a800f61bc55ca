"""Recall by mask state and false positives of a detector, with bootstrap intervals over photos.

Knows boxes and scores; knows no photo, net or file. A known face counts if its shorter side is
`MIN_SIZE` pixels or more, which is what `min_face_size` means. Each detection, the highest score
first, is matched with the unmatched face that it overlaps most (as in the PASCAL VOC challenge,
Everingham et al., IJCV 2010). A detection on a face too small to count is neither right nor wrong,
like a "difficult" face there.

Counted so, facenet-pytorch's defaults (min_face_size 20) find 84 % of the worn, 70 % of the wrongly
worn and 95 % of the bare faces of 853 web photos, as others report; counted by height, 90 % of the
bare ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.core.bootstrap import Floats, Interval, Ints, bootstrap_intervals
from cropfirst.core.faces.boxes import iou
from cropfirst.stage1_detect.harden.training.known_faces import MASK_STATES, KnownFaces
from cropfirst.stage1_detect.mtcnn.detector import Detections

MIN_SIZE = 40
"""Shorter side in pixels from which on a known face counts."""
MIN_IOU = 0.4
"""Overlap from which on a detection matches a known face."""
ALL_STATES = "all"
"""Name of the column that sums up all states."""
_STATES = (*MASK_STATES, "")
"""States in the order of the columns; "" means unknown."""
_COLUMNS = (*_STATES, ALL_STATES)


@dataclass(frozen=True)
class FaceMatches:
    """One photo's N detections matched with its K known faces."""

    face: Ints
    """(N,) index of the known face that each detection matches; -1 means none."""
    is_false: npt.NDArray[np.bool_]
    """(N,) whether a detection matches no face, or one that a higher score has matched already."""
    counts: npt.NDArray[np.bool_]
    """(K,) whether a face is large enough to count."""
    is_found: npt.NDArray[np.bool_]
    """(K,) whether a detection matches the face."""
    states: Ints
    """(K,) index of each face's state among the columns."""


def match_faces(found: Detections, known: KnownFaces, *, min_iou: float = MIN_IOU) -> FaceMatches:
    """Match the detections of one photo with its known faces, from an overlap of `min_iou` on."""
    overlap = iou(found.boxes, known.boxes)
    boxes = np.asarray(known.boxes, np.float64).reshape(-1, 4)
    counts = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= MIN_SIZE
    face = np.full(len(found), -1, dtype=np.int64)
    is_free = np.ones(len(known), dtype=bool)
    for row in np.argsort(-found.probs, kind="stable") if len(known) else ():
        free = np.where(is_free, overlap[row], -1.0)
        best = int(free.argmax())
        if free[best] >= min_iou:
            face[row], is_free[best] = best, False
    on_small = ((overlap >= min_iou) & ~counts).any(axis=1)
    states = np.array([_STATES.index(state) for state in known.states], dtype=np.int64)
    return FaceMatches(face, (face < 0) & ~on_small, counts, ~is_free, states)


@dataclass(frozen=True)
class DetectionCounts:
    """Faces, found faces and false positives in each of P photos."""

    faces: Ints
    """(P, 4) number of faces that count, by state."""
    found: Ints
    """(P, 4) number of those that were found."""
    false: Ints
    """(P,) number of false positives."""

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return the numbers of found and of all faces, by the states that occur and `all`."""
        found, faces = _with_all(self.found.sum(0)), _with_all(self.faces.sum(0))
        return {name: (int(found[i]), int(faces[i])) for i, name in enumerate(_COLUMNS) if faces[i]}

    def recall(self) -> dict[str, Interval]:
        """Return recall in [0, 1] by the states that occur and `all`, with 95 % intervals."""
        return self._by_state(bootstrap_intervals(self._recalls, len(self.false)))

    def false_per_photo(self) -> Interval:
        """Return the false positives per photo with their 95 % interval."""
        return bootstrap_intervals(self._false_rate, len(self.false))[0]

    def gain_over(self, other: DetectionCounts) -> tuple[dict[str, Interval], Interval]:
        """Compare two detectors on the same photos by a paired bootstrap over photos.

        The detectors are held fixed: the interval says what other photos would change, not what
        another seed of training would.

        Returns:
            Differences from `other`: of recall by state and `all`, and of false positives per
            photo.

        Raises:
            ValueError: the photos are not the same.
        """
        if not np.array_equal(self.faces, other.faces):
            raise ValueError("wanted two detectors measured on the same photos in the same order")

        def differences(weights: Ints) -> Floats:
            recall = self._recalls(weights) - other._recalls(weights)
            false = self._false_rate(weights) - other._false_rate(weights)
            return np.concatenate([recall, false])

        values = bootstrap_intervals(differences, len(self.false))
        return self._by_state(values[:-1]), values[-1]

    def _recalls(self, weights: Ints) -> Floats:
        """Map (B, P) draws to (5, B) recalls; NaN where no face was drawn."""
        faces = _with_all(weights @ self.faces)
        found = _with_all(weights @ self.found)
        return np.divide(found, faces, out=np.full(faces.shape, np.nan), where=faces > 0).T

    def _false_rate(self, weights: Ints) -> Floats:
        return (weights @ self.false / weights.sum(1))[None]

    def _by_state(self, values: Sequence[Interval]) -> dict[str, Interval]:
        occurring = self.totals()
        return {
            name: value for name, value in zip(_COLUMNS, values, strict=True) if name in occurring
        }


def count_detections(
    found: Sequence[Detections], known: Sequence[KnownFaces], *, min_iou: float = MIN_IOU
) -> DetectionCounts:
    """Count a detector's hits and false positives, photo by photo.

    Args:
        found: the detector's faces.
        known: all known faces of the same photos in the same order, small ones too.
        min_iou: overlap from which on a detection matches a known face.

    Raises:
        ValueError: there are no photos, or unequal numbers of them.
    """
    matches = _match_all(found, known, min_iou)
    return DetectionCounts(
        faces=np.stack([_count_states(each.states[each.counts]) for each in matches]),
        found=np.stack(
            [_count_states(each.states[each.counts & each.is_found]) for each in matches]
        ),
        false=np.array([each.is_false.sum() for each in matches], dtype=np.int64),
    )


def recall_at_false(
    found: Sequence[Detections], known: Sequence[KnownFaces], most: int
) -> dict[str, float]:
    """Return recall by state with the lowest O-Net threshold that makes few false positives.

    Args:
        found: faces at a low O-Net threshold, with the P- and R-Net thresholds in use. Matching and
            suppression go down the scores, so the faces above t are those that a threshold of t
            gives.
        known: all known faces of the same photos in the same order.
        most: highest number of false positives in all photos together.

    Raises:
        ValueError: there are no photos, or unequal numbers of them.
    """
    matches = _match_all(found, known)
    faces = _with_all(np.sum([_count_states(each.states[each.counts]) for each in matches], axis=0))
    rows = [_count_each(detections, each) for detections, each in zip(found, matches, strict=True)]
    scores = np.concatenate([detections.probs for detections in found]).astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    sums = np.concatenate(rows)[order].cumsum(axis=0)
    # Equal scores pass a threshold together.
    sums = sums[np.flatnonzero(np.diff(scores[order], append=-np.inf))]
    passing = int((sums[:, -1] <= most).sum())
    hits = _with_all(sums[passing - 1, :-1] if passing else np.zeros(len(_STATES), np.int64))
    return {name: float(hits[i] / faces[i]) for i, name in enumerate(_COLUMNS) if faces[i]}


def _match_all(
    found: Sequence[Detections], known: Sequence[KnownFaces], min_iou: float = MIN_IOU
) -> list[FaceMatches]:
    if not len(known) or len(found) != len(known):
        raise ValueError(
            "wanted the detections and the known faces of the same photos, at least one, got "
            f"{len(found)} and {len(known)}"
        )
    return [match_faces(*pair, min_iou=min_iou) for pair in zip(found, known, strict=True)]


def _count_each(found: Detections, matches: FaceMatches) -> Ints:
    """Return (N, 5): for each detection a 1 under the state that it hits, or in the last column if
    it is a false positive."""
    rows = np.zeros((len(found), len(_STATES) + 1), dtype=np.int64)
    hit = np.flatnonzero(matches.face >= 0)
    hit = hit[matches.counts[matches.face[hit]]]
    rows[hit, matches.states[matches.face[hit]]] = 1
    rows[matches.is_false, -1] = 1
    return rows


def _count_states(states: Ints) -> Ints:
    return np.bincount(states, minlength=len(_STATES))


def _with_all(counts: Ints) -> Ints:
    """Append the sum over the states: (..., 4) -> (..., 5)."""
    return np.concatenate([counts, counts.sum(-1, keepdims=True)], axis=-1)

"""How well a detector finds known faces: recall by mask state, false positives, and how sure both
are. Knows boxes and scores; knows no photo, net or file.

A face counts when its shorter side is `min_size` pixels or more: that is what `min_face_size`
means. Detections take faces one to one, best score first, each the free face that it overlaps most
(as in the PASCAL VOC challenge, Everingham et al., IJCV 2010). A detection on a face too small to
count is neither right nor wrong, like a "difficult" face there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.stage1_detect.boxes import iou
from cropfirst.stage1_detect.harden.truth import STATES, KnownFaces
from cropfirst.stage1_detect.mtcnn import Detections

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

COLUMNS = (*STATES, "")
"""What faces are counted by; "" is a face of unknown state."""
ALL = "all"
"""Every face, whatever its state."""
CELLS_AT_ONCE = 1 << 22
"""Drawn photos in one block: 32 MiB of counts."""


@dataclass(frozen=True)
class Interval:
    """A value with the percentile interval of the resamples."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0: of interest where this is a difference."""
        return self.low > 0 or self.high < 0


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
        return self._named(_resampled(self._rates, len(self.false), resamples, seed))

    def false_a_photo(self, *, resamples: int = 2000, seed: int = 0) -> Interval:
        """False positives a photo with the 95 % interval over photos."""
        return _resampled(self._false_rate, len(self.false), resamples, seed)[0]

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

    Args:
        found: the detector's faces.
        truth: the known faces of the same photos in the same order: all of them, small ones too.
        min_size: shorter side of a known face, in pixels, from which on it counts.
        min_iou: overlap from which on a detection is that face.

    Raises:
        ValueError: no photos, or unequally many.
    """
    if not len(truth) or len(found) != len(truth):
        raise ValueError(
            "wanted the detections and the known faces of the same photos, at least one, got "
            f"{len(found)} and {len(truth)}"
        )
    seen = [
        look(faces, known, min_size=min_size, min_iou=min_iou)
        for faces, known in zip(found, truth, strict=True)
    ]
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

    values = _resampled(gaps, len(before.false), resamples, seed)
    return before._named(values[:-1]), values[-1]


def _by_state(columns: Ints, wanted: npt.NDArray[np.bool_]) -> Ints:
    return np.bincount(columns[wanted], minlength=len(COLUMNS))


def _with_all(counts: Ints) -> Ints:
    """(..., 4) counts by state and, last, their sum."""
    return np.concatenate([counts, counts.sum(-1, keepdims=True)], axis=-1)


def _resampled(
    score: Callable[[Ints], Floats], photos: int, resamples: int, seed: int
) -> list[Interval]:
    """`score` maps (B, photos) draws to (K, B) values; 95 % percentile intervals (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13)."""
    values = score(np.ones((1, photos), np.int64))[:, 0]
    drawn = np.concatenate([score(w) for w in _draw(photos, resamples, seed)], axis=1)
    intervals = []
    for value, row in zip(values, drawn, strict=True):
        known = row[~np.isnan(row)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
        intervals.append(Interval(float(value), float(low), float(high)))
    return intervals


def _draw(photos: int, resamples: int, seed: int) -> Iterator[Ints]:
    """Blocks of (B, photos): how often each photo is drawn."""
    rng = np.random.default_rng(seed)
    block = max(CELLS_AT_ONCE // photos, 1)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, photos, (rows, photos)) + np.arange(rows)[:, None] * photos
        yield np.bincount(drawn.ravel(), minlength=rows * photos).reshape(rows, photos)

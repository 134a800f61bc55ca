"""Several detectors on the same photos: each one's figures, and what it gains on the first.

Knows detections and known faces; knows nothing of photos or of how it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from cropfirst.core.bootstrap import Interval
from cropfirst.stage1_detect.harden.recall.recall import (
    Curve,
    Measured,
    compare,
    curve,
    look,
    measure,
)
from cropfirst.stage1_detect.harden.training.truth import KnownFaces
from cropfirst.stage1_detect.mtcnn.boxes import iou
from cropfirst.stage1_detect.mtcnn.detector import Detections


@dataclass(frozen=True)
class Scored:
    """One detector's figures; intervals are 95 %, over photos."""

    name: str
    threshold: float
    """O-Net score that a face must pass."""
    counts: dict[str, tuple[int, int]]
    """Faces found and faces, by the states that occur ("" = unknown) and `all`."""
    recall: dict[str, Interval]
    false_a_photo: Interval
    curve: Curve
    recall_at_false: dict[str, float]
    """Recall with the lowest threshold that makes no more false positives than the first
    detector."""
    gain: dict[str, Interval]
    """Recall minus the first detector's; paired, so 0 for the first itself."""
    more_false: Interval
    """False positives a photo minus the first detector's."""


def score_detectors(
    detectors: Mapping[str, Sequence[Detections]],
    truth: Sequence[KnownFaces],
    *,
    thresholds: Mapping[str, float] | None = None,
    min_size: float = 40,
    min_iou: float = 0.4,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Scored]:
    """Measure detectors against the first of them.

    Args:
        detectors: name -> faces of each photo, at the P- and R-Net thresholds of use and a low
            O-Net threshold, which the curves want (0.01, say).
        truth: all known faces of the same photos.
        thresholds: name -> O-Net threshold of use; MTCNN's 0.7 where it is not named.
        min_size: shorter side from which on a face counts, in pixels.
        min_iou: overlap from which on a detection is a face.

    Raises:
        ValueError: no detector or no photo, unequally many photos, or a threshold for a detector
            that is not there.
    """
    unknown = set(thresholds or {}) - set(detectors)
    if not detectors or unknown:
        raise ValueError(
            "wanted at least one detector, and thresholds of these alone, got detectors "
            f"{list(detectors)} and thresholds of {sorted(unknown) or 'no others'}"
        )
    settings = {"min_size": min_size, "min_iou": min_iou}
    draws = {"resamples": resamples, "seed": seed}
    scored: list[Scored] = []
    first: Measured | None = None
    for name, found in detectors.items():
        threshold = (thresholds or {}).get(name, 0.7)
        now = measure([above(faces, threshold) for faces in found], truth, **settings)
        first = first or now
        gain, more_false = compare(first, now, **draws)
        line = curve(found, truth, **settings)
        scored.append(
            Scored(
                name=name,
                threshold=threshold,
                counts=now.counts(),
                recall=now.recall(**draws),
                false_a_photo=now.false_a_photo(**draws),
                curve=line,
                recall_at_false=line.at_false(float(first.false.mean())),
                gain=gain,
                more_false=more_false,
            )
        )
    return scored


def above(faces: Detections, threshold: float) -> Detections:
    """The faces whose score passes an O-Net threshold."""
    kept = faces.probs > threshold
    return Detections(faces.boxes[kept], faces.probs[kept], faces.landmarks[kept])


def figures(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """All figures but the curves, for JSON; what is not a number is None."""
    rows = []
    for one in scored:
        states = {
            name or "unknown": {
                "faces": faces,
                "found": found,
                "recall": _plain(one.recall[name]),
                "gain": _plain(one.gain[name]),
                "recall_at_first_false": one.recall_at_false[name],
            }
            for name, (found, faces) in one.counts.items()
        }
        rows.append(
            {
                "name": one.name,
                "threshold": one.threshold,
                "states": states,
                "false_a_photo": _plain(one.false_a_photo),
                "more_false_a_photo": _plain(one.more_false),
            }
        )
    return rows


def curve_table(scored: Sequence[Scored]) -> pl.DataFrame:
    """One row a detector, state and threshold."""
    rows: dict[str, list[Any]] = {name: [] for name in _CURVE_SCHEMA}
    for one in scored:
        for name, line in one.curve.recall.items():
            rows["detector"] += [one.name] * len(line)
            rows["state"] += [name or "unknown"] * len(line)
            rows["score"] += one.curve.scores.tolist()
            rows["recall"] += line.tolist()
            rows["precision"] += one.curve.precision.tolist()
            rows["false_a_photo"] += one.curve.false_a_photo.tolist()
    return pl.DataFrame(rows, schema=_CURVE_SCHEMA)


def face_table(
    detectors: Mapping[str, Sequence[Detections]],
    truth: Sequence[KnownFaces],
    keys: Sequence[str],
    *,
    thresholds: Mapping[str, float] | None = None,
    min_size: float = 40,
    min_iou: float = 0.4,
) -> pl.DataFrame:
    """One row a known face and detector: `best_score` of what overlaps it (null = nothing does),
    and whether it `is_found`."""
    rows: dict[str, list[Any]] = {name: [] for name in _FACE_SCHEMA}
    for detector, found in detectors.items():
        threshold = (thresholds or {}).get(detector, 0.7)
        for key, faces, known in zip(keys, found, truth, strict=True):
            seen = look(above(faces, threshold), known, min_size=min_size, min_iou=min_iou)
            rows["detector"] += [detector] * len(known)
            rows["key"] += [key] * len(known)
            rows["face"] += range(len(known))
            rows["state"] += known.states
            for name, column in zip(("x0", "y0", "x1", "y1"), known.boxes.T, strict=True):
                rows[name] += column.tolist()
            rows["counts"] += seen.counts.tolist()
            rows["is_found"] += seen.is_found.tolist()
            rows["best_score"] += best_scores(faces, known, min_iou=min_iou)
    return pl.DataFrame(rows, schema=_FACE_SCHEMA)


def best_scores(
    faces: Detections, known: KnownFaces, *, min_iou: float = 0.4
) -> list[float | None]:
    """Of each known face, the best score of what overlaps it; None where nothing does."""
    if not len(faces):
        return [None] * len(known)
    scores = np.where(iou(known.boxes, faces.boxes) >= min_iou, faces.probs, -1.0).max(axis=1)
    return [float(score) if score >= 0 else None for score in scores]


_CURVE_SCHEMA: dict[str, Any] = {
    "detector": pl.String,
    "state": pl.String,
    "score": pl.Float64,
    "recall": pl.Float64,
    "precision": pl.Float64,
    "false_a_photo": pl.Float64,
}
_FACE_SCHEMA: dict[str, Any] = {
    "detector": pl.String,
    "key": pl.String,
    "face": pl.Int64,
    "state": pl.String,
    "x0": pl.Float32,
    "y0": pl.Float32,
    "x1": pl.Float32,
    "y1": pl.Float32,
    "counts": pl.Boolean,
    "is_found": pl.Boolean,
    "best_score": pl.Float64,
}


def _plain(interval: Interval) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else float(value) for name, value in asdict(interval).items()
    }

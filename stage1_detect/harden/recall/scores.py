"""Scores of several detectors on the same photos, and their differences from the first.

Knows detections and known faces; knows nothing of photos or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cropfirst.core.bootstrap import Interval
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.recall.recall import count_detections, recall_at_false
from cropfirst.stage1_detect.harden.training.known_faces import KnownFaces
from cropfirst.stage1_detect.mtcnn.detector import Detections

THRESHOLD = DetectorConfig().thresholds[2]
"""O-Net score that a face must pass."""
LOW_THRESHOLD = 0.01
"""O-Net threshold that detections are made with, so that `recall_at_false` may lower the usual
one."""


@dataclass(frozen=True)
class DetectorScores:
    """Recall and false positives of one detector; intervals are 95 %, over photos."""

    name: str
    counts: dict[str, tuple[int, int]]
    """Numbers of found and of all faces, by the states that occur ("" = unknown) and `all`."""
    recall: dict[str, Interval]
    false_per_photo: Interval
    recall_at_false: dict[str, float]
    """Recall with the lowest threshold that makes no more false positives than the first
    detector."""
    gain: dict[str, Interval]
    """Recall minus the first detector's, paired; 0 for the first itself."""
    more_false: Interval
    """False positives per photo minus the first detector's."""


def score_detectors(
    detectors: Mapping[str, Sequence[Detections]], known: Sequence[KnownFaces]
) -> list[DetectorScores]:
    """Compare detectors with the first of them.

    Args:
        detectors: name -> faces of each photo, found with an O-Net threshold of `LOW_THRESHOLD`.
        known: all known faces of the same photos.

    Raises:
        ValueError: there is no detector or no photo, or unequal numbers of photos.
    """
    if not detectors:
        raise ValueError("wanted at least one detector, got none")
    counted = {
        name: count_detections([above(faces, THRESHOLD) for faces in found], known)
        for name, found in detectors.items()
    }
    first = next(iter(counted.values()))
    scores = []
    for name, counts in counted.items():
        gain, more_false = counts.gain_over(first)
        scores.append(
            DetectorScores(
                name=name,
                counts=counts.totals(),
                recall=counts.recall(),
                false_per_photo=counts.false_per_photo(),
                recall_at_false=recall_at_false(detectors[name], known, int(first.false.sum())),
                gain=gain,
                more_false=more_false,
            )
        )
    return scores


def above(faces: Detections, threshold: float) -> Detections:
    """Return the faces whose score passes an O-Net threshold."""
    kept = faces.probs > threshold
    return Detections(faces.boxes[kept], faces.probs[kept], faces.landmarks[kept])


def scores_as_dicts(scores: Sequence[DetectorScores]) -> list[dict[str, Any]]:
    """Return all scores as JSON takes them; NaN becomes None."""
    rows = []
    for each in scores:
        states = {
            name or "unknown": {
                "faces": faces,
                "found": found,
                "recall": _plain(each.recall[name]),
                "gain": _plain(each.gain[name]),
                "recall_at_first_false": each.recall_at_false[name],
            }
            for name, (found, faces) in each.counts.items()
        }
        rows.append(
            {
                "name": each.name,
                "threshold": THRESHOLD,
                "states": states,
                "false_a_photo": _plain(each.false_per_photo),
                "more_false_a_photo": _plain(each.more_false),
            }
        )
    return rows


def _plain(interval: Interval) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else float(value) for name, value in asdict(interval).items()
    }

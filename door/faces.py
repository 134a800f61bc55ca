"""The answers of a bundle: the faces of a photo, and what is said of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Unknown = Literal["too small", "blurred", "turned"]
"""Reason why a face is not answered for, whatever its probabilities are."""


@dataclass(frozen=True)
class TaskAnswer:
    """The answer to one task."""

    probabilities: Mapping[str, float]
    """Class -> probability in [0, 1], in the order of the classes; they sum to 1."""
    possible: tuple[str, ...]
    """Classes that stay possible at the bundle's error rate, by a conformal calibration; without
    one, the predicted class alone. No class, or several, means that the bundle is not sure."""
    prediction: str
    """The class that the run predicts."""

    @property
    def is_sure(self) -> bool:
        """Whether exactly one class is possible."""
        return len(self.possible) == 1


@dataclass(frozen=True)
class Face:
    """One face of a photo."""

    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in photo pixels; may reach a little past the photo's edge."""
    landmarks: np.ndarray
    """(5, 2) float32 x, y of the left eye, right eye, nose, left and right corner of the mouth;
    left and right are the viewer's."""
    score: float
    """Score of the detector in [0, 1]."""
    status: Literal["detected", "retried"]
    """`retried` if only a retry step found the photo's faces."""
    sharpness: float = float("nan")
    """Sharpness of the middle of the crop, see `core.faces.quality`; NaN before `classify`."""
    turn: float = 0.0
    """Distance of the nose from the middle of the eyes, in distances of the eyes; 0 = frontal."""
    answers: Mapping[str, TaskAnswer] = field(default_factory=dict)
    """Task -> answer; empty before `classify`."""
    unknown: Unknown | None = None
    """Reason why the answers are not to be used; None where they are. A face may also be unknown
    for one task alone, see `TaskAnswer.is_sure`."""

    @property
    def size(self) -> float:
        """Shorter side of the box in photo pixels."""
        return min(self.box[2] - self.box[0], self.box[3] - self.box[1])

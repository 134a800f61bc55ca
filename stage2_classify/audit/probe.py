"""The probe: a logistic regression that guesses a label from the background alone.

Where it does better than the most frequent class, there is a shortcut to learn, whether a model has
learned it or not. Knows pixels, class numbers and persons; knows nothing of runs or files.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cropfirst.stage2_classify.metrics.intervals import score_intervals
from cropfirst.stage2_classify.metrics.scores import majority_score

Image = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]

SIDE = 8
"""Side in pixels of the small copy whose pixels are features."""
BINS = 4
"""Bins per axis of the colour histogram."""
FOLDS = 5


@dataclass(frozen=True)
class Probe:
    """The scores of the background alone, as a predictor of a task, out of fold."""

    task: str
    macro_f1: float
    low: float
    high: float
    """Bounds of the 95 % interval over people."""
    majority_macro_f1: float
    """Macro F1 of always answering the most frequent class."""


def background_features(background: Image) -> Floats:
    """Return (SIDE * SIDE * 3 + BINS ** 3,) features: a small copy and a colour histogram.

    Args:
        background: (H, W, 3) uint8 RGB, a photo with its head tiled over.
    """
    tiny = cv2.resize(background, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    edges = [0, 256] * 3
    counts = cv2.calcHist([background], [0, 1, 2], None, [BINS] * 3, edges).ravel()
    return np.concatenate([tiny.ravel() / 255.0, np.sqrt(counts / max(counts.sum(), 1.0))])


def probe(task: str, features: Floats, targets: Ints, people: Ints, *, n_classes: int) -> Probe:
    """Cross-validate the probe with folds that share no person.

    Args:
        task: name of the task.
        features: (N, F) from `background_features`.
        targets: (N,) class numbers.
        people: (N,) numbers of persons.
        n_classes: number of classes.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    preds = np.full(len(targets), int(np.bincount(targets).argmax()), np.int64)
    majority = majority_score(np.bincount(targets)).macro_f1
    n_folds = min(FOLDS, len(np.unique(people)))
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about rare classes, and fits that did not fully converge
        for fit, held in folds.split(features, targets, people):
            if len(np.unique(targets[fit])) < 2:
                continue  # the most frequent class stays the answer
            model = make_pipeline(
                StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500)
            )
            preds[held] = model.fit(features[fit], targets[fit]).predict(features[held])
    f1, _ = score_intervals(people, targets, preds, n_classes)
    return Probe(task, f1.value, f1.low, f1.high, majority)

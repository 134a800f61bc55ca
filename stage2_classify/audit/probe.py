"""Can a label be guessed from the background alone? A logistic regression on headless photos.

If it can, there is a shortcut to learn, whether a model has learned it or not. Knows pixels, class
numbers and persons; knows nothing of runs or files.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cropfirst.stage2_classify.metrics.intervals import score_intervals
from cropfirst.stage2_classify.metrics.scores import macro_f1

Image = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]

SIDE = 8
"""Side of the small photo whose pixels are features."""
BINS = 4
"""Of each of a colour histogram's three axes."""
FOLDS = 5


@dataclass(frozen=True)
class Probe:
    """How well background features tell a task's classes, out of fold."""

    task: str
    macro_f1: float
    low: float
    high: float
    """95 % interval over people."""
    majority_macro_f1: float
    """Of always answering the most frequent class."""


def background_features(room: Image) -> Floats:
    """(SIDE * SIDE * 3 + BINS ** 3,) colours of a tiny copy, and which colours there are.

    Args:
        room: (H, W, 3) uint8, a photo with its head tiled over.
    """
    tiny = cv2.resize(room, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    edges = [0, 256] * 3
    counts = cv2.calcHist([room], [0, 1, 2], None, [BINS] * 3, edges).ravel()
    return np.concatenate([tiny.ravel() / 255.0, np.sqrt(counts / max(counts.sum(), 1.0))])


def probe(task: str, features: Floats, targets: Ints, people: Ints, *, n_classes: int) -> Probe:
    """Fit on all folds but one, predict that one, whose persons are in no other.

    Args:
        features: (N, F).
        targets: (N,) class numbers.
        people: (N,) numbers of persons.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    preds = np.full(len(targets), int(np.bincount(targets).argmax()), np.int64)
    majority = macro_f1(targets, preds, n_classes)
    n_folds = min(FOLDS, len(np.unique(people)))
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rare classes, and of fits that are good enough
        for fit, held in folds.split(features, targets, people):
            if len(np.unique(targets[fit])) < 2:
                continue  # the most frequent class stays the answer
            model = make_pipeline(
                StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500)
            )
            preds[held] = model.fit(features[fit], targets[fit]).predict(features[held])
    f1, _ = score_intervals(people, targets, preds, n_classes)
    return Probe(task, f1.value, f1.low, f1.high, majority)

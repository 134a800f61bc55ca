"""Decision thresholds for macro F1: one number per class, added to the log-probabilities.

The most likely class gives the best accuracy; for the best macro F1 rare classes are predicted
more often (Lipton, Elkan, Naryanaswamy, "Optimal Thresholding of Classifiers to Maximize F1
Measure", ECML PKDD 2014, for two classes). With several classes the offsets are searched one class
at a time. Pure functions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cropfirst.core.probabilities import TINY
from cropfirst.stage2_classify.metrics.scores import macro_f1

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

GRID = np.linspace(-1.5, 1.5, 31)
"""Offsets that are tried: they make a class 0.22 to 4.5 times as likely."""
ROUNDS = 3


def fit_offsets(probs: Floats, targets: Ints) -> tuple[float, ...]:
    """Search the offsets of (nearly) the highest macro F1, one class at a time.

    Macro F1 is a step function: the middle is taken of neighbouring offsets with equal scores, and
    an offset changes only where the score rises. A class that is not among the targets keeps 0.
    """
    n_classes = probs.shape[1]
    logs = np.log(np.maximum(probs.astype(np.float64), TINY))
    offsets = np.zeros(n_classes)
    best = macro_f1(targets, logs.argmax(axis=1), n_classes)
    there = np.unique(targets)
    for _ in range(ROUNDS):
        before = best
        for number in there:
            rest = logs + offsets
            rest[:, number] = -np.inf
            others, level = rest.argmax(axis=1), rest.max(axis=1)
            scores = [
                macro_f1(targets, np.where(logs[:, number] + x > level, number, others), n_classes)
                for x in GRID
            ]
            top = float(np.max(scores))
            if top > best + 1e-9:
                offsets[number], best = GRID[_middle(np.array(scores) >= top - 1e-9)], top
        if best <= before + 1e-9:
            break
    return tuple(round(float(x), 4) for x in offsets)


def _middle(high: npt.NDArray[np.bool_]) -> int:
    """Return the index in the middle of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.r_[0, high.astype(np.int8), 0]))
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    return int(starts[longest] + ends[longest] - 1) // 2

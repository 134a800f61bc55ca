"""Weights of runs, found by greedy selection on out-of-fold probabilities.

Pure functions over arrays: they know nothing of runs' names, files or folds. The caller sees to it
that the scores it reports are on other people than those the weights were fitted on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cropfirst.core.probabilities import TINY
from cropfirst.stage2_classify.metrics.calibration import log_loss
from cropfirst.stage2_classify.metrics.scores import macro_f1

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

ROUNDS = 25
"""Number of runs that are added, counting repetitions."""


def greedy_weights(probs: Floats, targets: Ints, photo_weights: Floats) -> npt.NDArray[np.float64]:
    """Return weights of runs that were added one by one, each as often as it raises macro F1.

    Ensemble selection with replacement, of which the best beginning is kept (Caruana,
    Niculescu-Mizil, Crew, Ksikes, "Ensemble Selection from Libraries of Models", ICML 2004).

    Args:
        probs: (M, N, C) probabilities of M runs.
        targets: (N,) class numbers.
        photo_weights: (M, N) weight of each run on each photo, from 0 to 1.

    Returns:
        (M,) weights that sum to 1.
    """
    weighted = probs * photo_weights[:, :, None]
    total, total_weight = np.zeros(probs.shape[1:]), np.zeros(probs.shape[1])
    counts, best_counts = np.zeros(len(probs)), np.zeros(len(probs))
    best = (-1.0, 0.0)
    for _ in range(ROUNDS):
        scores = [
            _score(
                (total + weighted[run])
                / np.maximum(total_weight + photo_weights[run], TINY)[:, None],
                targets,
            )
            for run in range(len(probs))
        ]
        run = max(range(len(probs)), key=scores.__getitem__)
        total += weighted[run]
        total_weight += photo_weights[run]
        counts[run] += 1
        if scores[run] > best:
            best, best_counts = scores[run], counts.copy()
    return np.asarray(best_counts / best_counts.sum())


def _score(probs: Floats, targets: Ints) -> tuple[float, float]:
    """Return macro F1 and, to decide between equal ones, the negative log loss."""
    f1 = macro_f1(targets, probs.argmax(axis=1), probs.shape[1])
    return round(f1, 6), -log_loss(probs, targets)

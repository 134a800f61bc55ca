"""How much each run's say counts: chosen and weighted on out-of-fold probabilities.

Pure functions over (M, N, classes) probabilities of M runs; they know nothing of runs' names,
files or folds. Whoever calls them sees to it that the scores they fit are not the ones reported.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cropfirst.stage2_classify.metrics.calibration import TINY, log_loss
from cropfirst.stage2_classify.metrics.scores import macro_f1

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
Weights = npt.NDArray[np.float64]

GREEDY_ROUNDS = 25
LEAST = 0.01
"""A share below it is dropped: it costs a run at every prediction and decides nothing."""


def greedy_weights(tables: Floats, targets: Ints, says: Floats) -> Weights:
    """Runs added one after the other, each as often as it helps macro F1.

    Caruana, Niculescu-Mizil, Crew, Ksikes, "Ensemble Selection from Libraries of Models", ICML
    2004: selection with replacement, of which the best beginning is kept.

    Args:
        tables: (M, N, C) probabilities.
        targets: (N,) class numbers.
        says: (M, N) how much a run has to say on a photo, from 0 to 1.

    Returns:
        (M,) weights that sum to 1.
    """
    counts, kept = np.zeros(len(tables)), np.zeros(len(tables))
    best = (-1.0, 0.0)
    sums = _Sums(tables, says)
    for _ in range(GREEDY_ROUNDS):
        number, score = sums.best(range(len(tables)), targets)
        sums.add(number)
        counts[number] += 1
        if score > best:
            best, kept = score, counts.copy()
    return np.asarray(kept / kept.sum())


def simplex_weights(tables: Floats, targets: Ints, says: Floats) -> Weights:
    """Weights of the least log loss on the probability simplex: smooth and convex, so one answer.

    Arguments and result are those of `greedy_weights`. Solved by SciPy's SLSQP.
    """
    from scipy.optimize import minimize

    count = len(tables)
    rows = np.arange(len(targets))
    said = tables[:, rows, targets].astype(np.float64)

    def loss(weights: Weights) -> float:
        scale = weights @ says
        mixed = weights @ (said * says) / np.maximum(scale, TINY)
        return float(-np.log(np.maximum(mixed, TINY)).mean())

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        found = minimize(
            loss,
            np.full(count, 1 / count),
            method="SLSQP",
            bounds=[(0.0, 1.0)] * count,
            constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        )
    weights = np.where(found.x < LEAST, 0.0, found.x)
    return np.asarray(weights / weights.sum()) if weights.sum() else np.full(count, 1 / count)


def chosen_members(tables: Floats, targets: Ints, says: Floats) -> Weights:
    """Runs that vote with one voice each: added while macro F1 rises. As `greedy_weights`."""
    chosen = np.zeros(len(tables))
    best = (-1.0, 0.0)
    sums = _Sums(tables, says)
    while (chosen == 0).any():
        number, score = sums.best(np.flatnonzero(chosen == 0).tolist(), targets)
        if score <= best:
            break
        best = score
        chosen[number] = 1.0
        sums.add(number)
    return np.asarray(chosen / chosen.sum())


def agreeing_members(tables: Floats, targets: Ints, says: Floats, *, max_shift: float) -> Weights:
    """Runs whose predicted class shares are near the true ones, with one voice each.

    Args:
        max_shift: the largest total variation between the two that is let through; where no run
            is that near, the nearest one alone.
    """
    n_classes = tables.shape[2]
    truth = np.bincount(targets, minlength=n_classes) / len(targets)
    shifts = np.array([class_shift(table.argmax(axis=1), truth) for table in tables])
    near = shifts <= max(max_shift, float(shifts.min()))
    return np.asarray(near / near.sum(), np.float64)


def class_shift(preds: Ints, shares: npt.ArrayLike) -> float:
    """Total variation between the shares of predicted classes and others, in [0, 1].

    That share of the photos would have to be of another class for the two to be alike.
    """
    wanted = np.asarray(shares, np.float64)
    found = np.bincount(preds, minlength=len(wanted)) / max(len(preds), 1)
    return float(np.abs(found - wanted).sum() / 2)


class _Sums:
    """The runs that were added so far, as sums: trying one more costs one table, not all."""

    def __init__(self, tables: Floats, says: Floats) -> None:
        """Begin with no run."""
        self.spoken = tables * says[:, :, None]
        self.says = says
        self.total = np.zeros(tables.shape[1:])
        self.scale = np.zeros(tables.shape[1])

    def best(self, numbers: Sequence[int], targets: Ints) -> tuple[int, tuple[float, float]]:
        """The run that is best added, and the score with it; of equals the first."""
        scores = {number: self._score_with(number, targets) for number in numbers}
        number = max(scores, key=scores.__getitem__)
        return number, scores[number]

    def add(self, number: int) -> None:
        """Add a run once more."""
        self.total += self.spoken[number]
        self.scale += self.says[number]

    def _score_with(self, number: int, targets: Ints) -> tuple[float, float]:
        scale = np.maximum(self.scale + self.says[number], TINY)
        return _score((self.total + self.spoken[number]) / scale[:, None], targets)


def _score(probs: Floats, targets: Ints) -> tuple[float, float]:
    """Macro F1; of equal ones the less surprised first."""
    f1 = macro_f1(targets, probs.argmax(axis=1), probs.shape[1])
    return round(f1, 6), -log_loss(probs, targets)


Weigher = Callable[[Floats, Ints, Floats], Weights]
WEIGHERS: dict[str, Weigher] = {
    "members": chosen_members,
    "greedy": greedy_weights,
    "simplex": simplex_weights,
}
"""Name of a step -> how it weighs the runs."""

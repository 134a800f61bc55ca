"""Calibration of probabilities: reliability, calibration error and temperature scaling.

Pure functions over (N, classes) probabilities. Knows nothing of runs, files or torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.core.probabilities import TINY, scale

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

MAX_TEMPERATURE = 20.0


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram, and the expected calibration error."""

    confidence: npt.NDArray[np.float64]
    """(bins,) mean probability of the most likely class; NaN in an empty bin."""
    accuracy: npt.NDArray[np.float64]
    """(bins,) share of correct photos; NaN in an empty bin."""
    counts: npt.NDArray[np.int64]
    """(bins,) number of photos."""
    ece: float
    """Expected calibration error in [0, 1]: mean gap between the two, weighted by photos."""


def reliability(probs: Floats, targets: Ints, *, n_bins: int = 15) -> Reliability:
    """Return accuracy against confidence, in bins of equal width.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    Args:
        probs: (N, C), rows summing to 1.
        targets: (N,) class numbers.
    """
    confidence = probs.max(axis=1).astype(np.float64)
    right = probs.argmax(axis=1) == targets
    bins, _ = confidence_gaps(probs, targets, n_bins=n_bins)
    counts = np.bincount(bins, minlength=n_bins)
    total_confidence = np.bincount(bins, confidence, n_bins)
    total_right = np.bincount(bins, right.astype(np.float64), n_bins)
    ece = float(np.abs(total_confidence - total_right).sum() / max(len(targets), 1))
    known = np.where(counts > 0, counts, np.nan)
    return Reliability(total_confidence / known, total_right / known, counts, ece)


def confidence_gaps(
    probs: Floats, targets: Ints, *, n_bins: int = 15
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return (N,) bins of confidence, and (N,) confidence minus 1 if correct, else minus 0."""
    confidence = probs.max(axis=1).astype(np.float64)
    bins = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    return bins, confidence - (probs.argmax(axis=1) == targets)


def log_loss(probs: Floats, targets: Ints) -> float:
    """Return the mean negative log-likelihood, in nats."""
    own = probs[np.arange(len(targets)), targets].astype(np.float64)
    return float(-np.log(np.maximum(own, TINY)).mean())


def fit_temperature(probs: Floats, targets: Ints) -> float:
    """Return the temperature of least log loss (Guo et al. 2017, section 4.2), in [1/20, 20].

    The true class has the target (n + 1) / (n + 2), and the others share the rest (Platt 1999): n
    photos that are all right do not show that no photo will be wrong, and without this would give
    the smallest temperature.
    """
    from scipy.optimize import minimize_scalar

    bound = float(np.log(MAX_TEMPERATURE))
    n, n_classes = probs.shape
    wanted = np.full((n, n_classes), 1 / (n + 2) / max(n_classes - 1, 1))
    wanted[np.arange(n), targets] = (n + 1) / (n + 2)

    def loss(x: float) -> float:
        scaled = scale(probs, float(np.exp(x))).astype(np.float64)
        return float(-(wanted * np.log(np.maximum(scaled, TINY))).sum() / n)

    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded")
    return round(float(np.exp(found.x)), 4)

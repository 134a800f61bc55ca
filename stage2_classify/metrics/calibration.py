"""How far stated probabilities can be believed, and temperature scaling.

Pure functions over (N, classes) probabilities. Knows nothing of runs, files or torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

TINY = 1e-7
"""Probabilities are held above it before a logarithm is taken."""
HOTTEST = 20.0


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram, and the expected calibration error."""

    confidence: npt.NDArray[np.float64]
    """(bins,) mean probability of the likeliest class; nan in an empty bin."""
    accuracy: npt.NDArray[np.float64]
    """(bins,) share of its photos that are right; nan in an empty bin."""
    counts: npt.NDArray[np.int64]
    """(bins,) photos."""
    ece: float
    """Mean gap between the two, weighted by photos, in [0, 1]."""


def reliability(probs: Floats, targets: Ints, *, n_bins: int = 15) -> Reliability:
    """Accuracy against confidence, in bins of equal width.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    Args:
        probs: (N, C), rows summing to 1.
        targets: (N,) class numbers.
    """
    confidence = probs.max(axis=1).astype(np.float64)
    right = probs.argmax(axis=1) == targets
    bins, _ = confidence_gaps(probs, targets, n_bins=n_bins)
    counts = np.bincount(bins, minlength=n_bins)
    said = np.bincount(bins, confidence, n_bins)
    came = np.bincount(bins, right.astype(np.float64), n_bins)
    ece = float(np.abs(said - came).sum() / max(len(targets), 1))
    share = np.where(counts > 0, counts, np.nan)
    return Reliability(said / share, came / share, counts, ece)


def confidence_gaps(
    probs: Floats, targets: Ints, *, n_bins: int = 15
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(N,) bins of confidence, and (N,) confidence minus 1 where the answer is right, else 0."""
    confidence = probs.max(axis=1).astype(np.float64)
    bins = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    return bins, confidence - (probs.argmax(axis=1) == targets)


def log_loss(probs: Floats, targets: Ints) -> float:
    """Mean negative log-likelihood, in nats."""
    said = probs[np.arange(len(targets)), targets].astype(np.float64)
    return float(-np.log(np.maximum(said, TINY)).mean())


def scale(probs: Floats, temperature: float) -> Floats:
    """Probabilities at another temperature: above 1 flatter, below 1 sharper; 1 changes nothing."""
    if temperature == 1.0:
        return probs
    logits = np.log(np.maximum(probs.astype(np.float64), TINY)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def fit_temperature(probs: Floats, targets: Ints) -> float:
    """The temperature with the least log loss (Guo et al. 2017, section 4.2), in [1/20, 20]."""
    from scipy.optimize import minimize_scalar

    bound = float(np.log(HOTTEST))
    found = minimize_scalar(
        lambda x: log_loss(scale(probs, float(np.exp(x))), targets),
        bounds=(-bound, bound),
        method="bounded",
    )
    return round(float(np.exp(found.x)), 4)

"""Probabilities of classes: their temperature, and the class that they decide for. No torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
TINY = 1e-7
"""Probabilities below this count as this where a logarithm is taken."""


def scale(probs: Floats, temperature: float) -> Floats:
    """Return (N, C) probabilities at another temperature: above 1 flatter, below 1 sharper."""
    if temperature == 1.0:
        return probs
    logits = np.log(np.maximum(probs.astype(np.float64), TINY)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def decide(probs: Floats, offsets: npt.ArrayLike = ()) -> npt.NDArray[np.int32]:
    """Return the (N,) most likely classes after (C,) offsets to the log-probabilities."""
    added = np.asarray(offsets, np.float64)
    if not added.size:
        return np.asarray(probs.argmax(axis=1), np.int32)
    logs = np.log(np.maximum(probs.astype(np.float64), TINY))
    return np.asarray((logs + added).argmax(axis=1), np.int32)

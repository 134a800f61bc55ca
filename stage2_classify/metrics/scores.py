"""Scores of predicted class numbers, by their confusion matrix: pure functions, no torch.

Rows of a confusion matrix are targets, columns are predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 of one class in [0, 1], and its number of photos."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class MajorityScore:
    """Scores in [0, 1] of always predicting the most frequent class."""

    macro_f1: float
    accuracy: float


MAJORITY_NOTE = "majority: the scores of always predicting the most frequent class"
"""Explanation of the columns named so, for below a table."""


def confusion(targets: ArrayLike, preds: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """Count (target, prediction) pairs.

    Args:
        targets, preds: (N,) class numbers in [0, n_classes).

    Returns:
        (n_classes, n_classes) int64; row = target, column = prediction.

    Raises:
        ValueError: lengths differ, or a number is out of range.
    """
    target, pred = np.asarray(targets, np.int64), np.asarray(preds, np.int64)
    if target.shape != pred.shape or target.ndim != 1:
        raise ValueError(f"expected two (N,) arrays, got {target.shape} and {pred.shape}")
    for name, values in (("target", target), ("prediction", pred)):
        if len(values) and not 0 <= values.min() <= values.max() < n_classes:
            raise ValueError(
                f"{name}s must be within 0..{n_classes - 1}, got {values.min()}..{values.max()}"
            )
    flat = np.bincount(target * n_classes + pred, minlength=n_classes * n_classes)
    return flat.reshape(n_classes, n_classes).astype(np.int64)


def macro_f1(targets: ArrayLike, preds: ArrayLike, n_classes: int) -> float:
    """Return the mean F1 of the classes that occur in the targets or in the predictions.

    A class that occurs in neither is left out (as scikit-learn does), so that a small fold without
    a rare class does not score lower for it. No photos score 0.
    """
    return macro_f1_of(confusion(targets, preds, n_classes))


def macro_f1_of(matrix: NDArray[np.integer]) -> float:
    """Return the macro F1 of a confusion matrix."""
    occurs = (matrix.sum(0) + matrix.sum(1)) > 0
    return float(_f1(matrix)[occurs].mean()) if occurs.any() else 0.0


def accuracy(targets: ArrayLike, preds: ArrayLike) -> float:
    """Return the share of correct predictions; 0 for no photos."""
    target, pred = np.asarray(targets), np.asarray(preds)
    return float((target == pred).mean()) if len(target) else 0.0


def majority_score(support: ArrayLike) -> MajorityScore:
    """Return the scores of always predicting the most frequent class; 0 for no photos.

    A score that is not above these needs no look at a photo.

    Args:
        support: (C,) number of photos of each class, such as the row sums of a confusion matrix.
    """
    counts = np.asarray(support, np.int64)
    if not counts.any():
        return MajorityScore(0.0, 0.0)
    share = float(counts.max() / counts.sum())
    # Its recall is 1 and its precision the share; the other classes that occur have F1 0.
    return MajorityScore(2 * share / (1 + share) / np.count_nonzero(counts), share)


def per_class(
    targets: ArrayLike, preds: ArrayLike, class_names: Sequence[str]
) -> tuple[ClassScore, ...]:
    """Score every class of the schema, in its order; a class that never occurs scores 0."""
    matrix = confusion(targets, preds, len(class_names))
    hits = np.diag(matrix)
    precision = hits / np.maximum(matrix.sum(0), 1)
    recall = hits / np.maximum(matrix.sum(1), 1)
    return tuple(
        ClassScore(name, float(p), float(r), float(f), int(n))
        for name, p, r, f, n in zip(
            class_names, precision, recall, _f1(matrix), matrix.sum(1), strict=True
        )
    )


def _f1(matrix: NDArray[np.integer]) -> NDArray[np.float64]:
    hits = np.diag(matrix).astype(np.float64)
    total = matrix.sum(0) + matrix.sum(1)
    return 2 * hits / np.maximum(total, 1)

"""Scores against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from cropfirst.stage2_classify.metrics.scores import (
    accuracy,
    confusion,
    macro_f1,
    majority_score,
    per_class,
)


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets, preds = rng.integers(0, 18, 200), rng.integers(0, 18, 200)
    ours = confusion(targets, preds, 18)
    assert np.array_equal(ours, confusion_matrix(targets, preds, labels=range(18)))
    assert accuracy(targets, preds) == pytest.approx(accuracy_score(targets, preds))
    want = f1_score(targets, preds, average="macro", zero_division=0)
    assert macro_f1(targets, preds, 18) == pytest.approx(want)


def test_a_class_that_never_occurs_does_not_count() -> None:
    assert macro_f1([0, 0, 1], [0, 0, 1], 3) == 1.0
    assert macro_f1([0, 0, 1], [0, 2, 1], 3) == pytest.approx((2 / 3 + 1 + 0) / 3)


@pytest.mark.parametrize("support", [[90, 10], [6, 2, 2], [0, 5, 4, 0], [7], [0, 3]])
def test_the_majority_score_is_that_of_always_the_most_frequent_class(support: list[int]) -> None:
    targets = np.repeat(np.arange(len(support)), support)
    preds = np.full(len(targets), np.argmax(support))
    found = majority_score(support)
    want = f1_score(targets, preds, average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(want)
    assert found.accuracy == pytest.approx(accuracy_score(targets, preds))


def test_the_majority_score_of_no_photos_is_0() -> None:
    assert (majority_score([]).macro_f1, majority_score([0, 0]).accuracy) == (0.0, 0.0)


def test_per_class_keeps_the_schemas_order_and_absent_classes() -> None:
    scores = per_class([0, 0, 1, 1], [0, 1, 1, 1], ["wear", "incorrect", "normal"])
    assert [score.name for score in scores] == ["wear", "incorrect", "normal"]
    assert (scores[0].precision, scores[0].recall, scores[0].support) == (1.0, 0.5, 2)
    assert scores[1].precision == pytest.approx(2 / 3)
    assert (scores[2].f1, scores[2].support) == (0.0, 0)


def test_no_photos_score_zero() -> None:
    assert macro_f1([], [], 3) == 0.0
    assert accuracy([], []) == 0.0


def test_numbers_out_of_range_and_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"predictions must be within 0\.\.2, got 0\.\.3"):
        confusion([0, 1], [0, 3], 3)
    with pytest.raises(ValueError, match=r"got \(2,\) and \(1,\)"):
        confusion([0, 1], [0], 3)

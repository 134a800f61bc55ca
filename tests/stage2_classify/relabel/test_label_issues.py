"""Wrong labels are found: flipped ones, of photos and of persons."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.relabel.label_issues import find_issues, is_personal

pytest.importorskip("cleanlab", reason="the extra [labels] is not installed")
N, SHARE = 1500, 0.03


def _flipped() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of which 3 % are wrong, out-of-fold probabilities learned from them, which are."""
    features, true = make_classification(
        N,
        n_features=8,
        n_informative=8,
        n_redundant=0,
        n_classes=3,
        n_clusters_per_class=1,
        class_sep=2.0,
        flip_y=0,
        random_state=1,
    )
    rng = np.random.default_rng(0)
    wrong = rng.choice(N, round(SHARE * N), replace=False)
    labels = true.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, 3, len(wrong))) % 3
    model = LogisticRegression(max_iter=500)
    probs = cross_val_predict(model, features, labels, cv=3, method="predict_proba")
    return labels, probs, wrong


def test_three_percent_of_flipped_labels_are_found_at_that_budget() -> None:
    labels, probs, wrong = _flipped()
    keys = [f"{row}.jpg" for row in range(N)]
    people: list[str | None] = [None] * N
    issues = find_issues(keys, labels, probs, people, by_person=False, most=len(wrong))
    named = {int(key.removesuffix(".jpg")) for issue in issues for key in issue.keys}
    hits = len(named & set(wrong.tolist()))
    precision, recall = hits / len(named), hits / len(wrong)
    assert precision > 0.7 and recall > 0.6, f"precision {precision:.2f}, recall {recall:.2f}"
    given = [issue.prob_given for issue in issues]
    assert given == sorted(given)
    assert all(
        issue.given == labels[int(issue.keys[0][:-4])] != issue.suggested for issue in issues
    )


def test_a_persons_label_is_judged_by_all_their_photos() -> None:
    people = [f"p{row // 5}" for row in range(200)]
    true = np.arange(200) // 5 % 2
    labels = np.where(np.arange(200) // 5 == 7, 1 - true, true)
    right = np.random.default_rng(0).uniform(0.55, 0.95, 200)
    probs = np.where(np.eye(2, dtype=bool)[true], right[:, None], 1 - right[:, None])
    assert is_personal(labels, people)
    keys = [f"{row}" for row in range(200)]
    (issue,) = find_issues(keys, labels, probs, people, by_person=True)
    assert issue.keys == ("35", "36", "37", "38", "39")
    assert (issue.given, issue.suggested) == (int(labels[35]), int(true[35]))


def test_what_is_a_persons_label() -> None:
    assert not is_personal(np.array([0, 1, 1, 1]), ["a", "a", "b", "b"])
    assert not is_personal(np.array([0, 1]), ["a", "b"])  # one photo each: nothing to tell by
    assert not is_personal(np.array([0, 1]), [None, None])


def test_classes_without_an_example_are_left_alone_and_one_class_is_refused() -> None:
    labels, probs, _ = _flipped()
    wide = np.concatenate([probs, np.zeros((N, 1))], axis=1)
    keys = [str(row) for row in range(N)]
    people: list[str | None] = [None] * N
    issues = find_issues(keys, labels, wide, people, by_person=False, most=20)
    assert len(issues) == 20 and all(issue.suggested < 3 for issue in issues)
    with pytest.raises(TrainError, match="two classes"):
        find_issues(keys, np.zeros(N, int), probs, people, by_person=False)

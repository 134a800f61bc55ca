"""Whether predictions are better than chance: against a loop, against luck, and on little data."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from cropfirst.stage2_classify.metrics.chance import MIN_PEOPLE, compare_with_chance


def margin(targets: np.ndarray, preds: np.ndarray) -> float:
    """Balanced accuracy minus chance by scikit-learn, for the classes that occur as targets."""
    seen = np.unique(targets)
    if len(seen) == 1:
        return float((targets == preds).mean() - 1)
    kept = np.where(np.isin(preds, seen), preds, -1)
    recall = [np.mean(kept[targets == each] == each) for each in seen]
    if np.isin(preds, seen).all():
        assert np.mean(recall) == pytest.approx(balanced_accuracy_score(targets, preds))
    return float(np.mean(recall) - 1 / len(seen))


def test_value_and_interval_are_those_of_the_loop() -> None:
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(12), 4)
    targets = rng.choice(3, 12, p=[0.6, 0.3, 0.1])[people]
    preds = np.where(rng.random(48) < 0.4, targets, rng.integers(0, 3, 48))
    found = compare_with_chance(people, targets, preds, 3, resamples=300)
    draws = np.random.default_rng(0).integers(0, 12, (300, 12))
    rows = [np.concatenate([np.flatnonzero(people == who) for who in drawn]) for drawn in draws]
    values = [margin(targets[each], preds[each]) for each in rows]
    assert found.margin.value == pytest.approx(margin(targets, preds))
    want = tuple(np.quantile(values, [0.025, 0.975]))
    assert (found.margin.low, found.margin.high) == pytest.approx(want)
    assert found.chance == pytest.approx(1 / len(np.unique(targets)))
    assert found.balanced_accuracy == pytest.approx(found.margin.value + found.chance)
    assert found.n_people == 12


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_constant_prediction_is_chance_exactly(share: float) -> None:
    """Also where its accuracy is .9, and where the classes are many."""
    people = np.arange(200)
    targets = np.where(people < 200 * share, 1, 0)
    found = compare_with_chance(people, targets, np.zeros(200, int), 2)
    assert (found.margin.value, found.margin.low, found.margin.high) == (0, 0, 0)
    assert not found.is_better
    every = people % 7
    assert compare_with_chance(people, every, np.full(200, 3), 7).margin.high == 0


def test_a_coin_is_no_better_though_its_macro_f1_is_above_the_majority() -> None:
    rng = np.random.default_rng(1)
    people, targets = np.arange(300), np.repeat([0, 1], 150)
    found = compare_with_chance(people, targets, rng.integers(0, 2, 300), 2)
    assert not found.is_better and found.margin.low < 0 < found.margin.high


def test_a_run_that_knows_the_rare_class_is_better_below_the_majority_accuracy() -> None:
    """Recall .8 and .6 of classes of 80 and 20 %: accuracy .76, the majority has .80."""
    people, targets = np.arange(400), np.where(np.arange(400) < 320, 0, 1)
    preds = targets.copy()
    preds[:64], preds[320:352] = 1, 0
    assert (preds == targets).mean() == pytest.approx(0.76)
    found = compare_with_chance(people, targets, preds, 2)
    assert found.is_better and found.balanced_accuracy == pytest.approx(0.7)


def test_luck_is_seldom_taken_for_knowledge() -> None:
    """Of 200 runs that know nothing, with a habit for each person, few are above chance."""
    lucky = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        people = np.repeat(np.arange(24), 7)
        targets = rng.integers(0, 2, 24)[people]
        habits, moods = rng.integers(0, 2, 24)[people], rng.integers(0, 2, 168)
        preds = np.where(rng.random(168) < 0.5, habits, moods)
        lucky += compare_with_chance(people, targets, preds, 2, resamples=300).is_better
    assert lucky <= 16


def test_copies_of_a_persons_photos_do_not_make_it_surer() -> None:
    rng = np.random.default_rng(3)
    targets, preds = rng.integers(0, 2, 30), rng.integers(0, 2, 30)
    one = compare_with_chance(np.arange(30), targets, preds, 2)
    many = compare_with_chance(
        np.repeat(np.arange(30), 9), np.repeat(targets, 9), np.repeat(preds, 9), 2
    )
    assert one.margin == many.margin


def test_one_class_one_person_and_few_people_are_no_evidence() -> None:
    perfect = np.zeros(9, int)
    one_class = compare_with_chance(np.arange(9), perfect, perfect, 2)
    assert (one_class.chance, one_class.margin.value) == (1.0, 0.0) and not one_class.is_better
    targets = np.array([0, 1, 2] * 3)
    one_person = compare_with_chance(np.zeros(9, int), targets, targets, 3)
    assert one_person.margin.low > 0 and not one_person.is_better
    for people in (MIN_PEOPLE - 1, MIN_PEOPLE):
        who = np.repeat(np.arange(people), 3)
        truth = np.tile([0, 1, 2], people)
        assert compare_with_chance(who, truth, truth, 3).is_better == (people == MIN_PEOPLE)
    # Three of each gender: a resample of one gender is too likely to be surprised by.
    genders = np.repeat([0, 1], 3)
    assert not compare_with_chance(np.arange(6), genders, genders, 2).is_better
    with pytest.raises(ValueError, match="at least one photo"):
        compare_with_chance(np.array([], int), np.array([], int), np.array([], int), 2)

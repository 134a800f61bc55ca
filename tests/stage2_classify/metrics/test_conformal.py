"""Conformal limits: against MAPIE, against the definition, and their coverage of new people."""

from __future__ import annotations

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from sklearn.base import BaseEstimator, ClassifierMixin

from cropfirst.stage2_classify.metrics.conformal import (
    fit_limits,
    limits_of_others,
    people_needed,
    score_sets,
    smallest_alpha,
)

ALPHAS = (0.05, 0.1, 0.2)


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose probabilities are its input."""

    def __init__(self, n_classes: int = 3) -> None:
        self.classes_ = np.arange(n_classes)
        self.n_classes = n_classes

    def fit(self, x: np.ndarray, y: np.ndarray) -> Given:
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return x

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.argmax(axis=1))


def draw_probs(rng: np.random.Generator, targets: np.ndarray, *, strength: float) -> np.ndarray:
    logits = rng.normal(size=(len(targets), 3))
    logits[np.arange(len(targets)), targets] += strength
    return np.asarray(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))


# MAPIE is given the photos of one class at a time, and warns of that.
@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset has less labels")
def test_one_photo_per_person_gives_the_sets_of_mapie() -> None:
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], [40, 137, 400])
    probs = draw_probs(rng, targets, strength=1.5)
    new = draw_probs(rng, rng.integers(0, 3, 1000), strength=1.5)
    for code in range(3):
        own = targets == code
        limits = fit_limits(probs[own, code], np.arange(own.sum()), ALPHAS)
        mapie = SplitConformalClassifier(
            Given(), confidence_level=[1 - alpha for alpha in ALPHAS], prefit=True
        ).conformalize(probs[own], targets[own])
        _, sets = mapie.predict_set(new)
        for number, limit in enumerate(limits):
            np.testing.assert_array_equal(new[:, code] >= limit, sets[:, code, number])


def test_limits_are_quantiles_of_people_each_weighing_the_same() -> None:
    """By the definition: the largest value that a share of 1 - alpha of n + 1 people reaches."""
    rng = np.random.default_rng(1)
    people = rng.integers(0, 30, 300)
    probs = rng.random(300).round(2)  # with ties
    persons, counts = np.unique(people, return_counts=True)
    weight = 1 / (len(persons) + 1) / counts[np.searchsorted(persons, people)]
    for alpha, limit in zip(ALPHAS, fit_limits(probs, people, ALPHAS), strict=True):
        reached = [v for v in probs if weight[probs >= v].sum() >= 1 - alpha - 1e-12]
        assert limit == max(reached)
    # Copies of photos are no further people.
    again = fit_limits(np.tile(probs, 5), np.tile(people, 5), ALPHAS)
    np.testing.assert_array_equal(again, fit_limits(probs, people, ALPHAS))


def test_an_error_rate_needs_people() -> None:
    assert people_needed(0.01) == 99 and people_needed(0.1) == 9 and people_needed(0.3) == 3
    for people in (9, 19, 99, 999):
        assert people_needed(smallest_alpha(people)) == people
    probs = np.linspace(0.5, 0.9, 99)
    (least,) = fit_limits(probs, np.arange(99), [0.01])
    assert least == 0.5
    (none,) = fit_limits(probs[1:], np.arange(98), [0.01])
    assert none == 0, "98 people carry no error rate of 1 %: the class is always possible"


def test_nobody_is_judged_by_his_own_photos() -> None:
    rng = np.random.default_rng(2)
    people = np.repeat(np.arange(40), rng.integers(1, 6, 40))
    targets = rng.integers(0, 3, len(people))
    probs = draw_probs(rng, targets, strength=1)
    limits = limits_of_others(probs, targets, people, ALPHAS)
    assert limits.shape == (3, 40, 3)
    for person in range(40):
        for code in range(3):
            rest = (people != person) & (targets == code)
            wanted = fit_limits(probs[rest, code], people[rest], ALPHAS)
            np.testing.assert_array_equal(limits[:, person, code], wanted)


def draw_people(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Persons of 1 to 8 photos: who has many is easy, and photos of one person are alike."""
    ease = rng.random(count)
    photos = 1 + (7 * ease).round().astype(int)
    people = np.repeat(np.arange(count), photos)
    logits = (3 * ease + 0.5 * rng.normal(size=count))[people] + 0.3 * rng.normal(size=len(people))
    return people, 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("alpha", [0.1, 0.25])
def test_new_people_are_covered_at_the_rate_that_was_asked_for(alpha: float) -> None:
    """Over many draws of people; limits that count photos instead of people fall short."""
    rng = np.random.default_rng(3)
    n_people, draws, new = 39, 1500, 20
    covered = {"people": np.zeros(draws), "photos": np.zeros(draws)}
    for draw in range(draws):
        people, probs = draw_people(rng, n_people)
        others, fresh = draw_people(rng, new)
        counts = np.bincount(others)
        for name, units in (("people", people), ("photos", np.arange(len(people)))):
            (limit,) = fit_limits(probs, units, [alpha])
            hits = np.bincount(others, fresh >= limit) / counts
            covered[name][draw] = hits.mean()
    mean = {name: each.mean() for name, each in covered.items()}
    error = {name: each.std() / np.sqrt(draws) for name, each in covered.items()}
    assert mean["people"] >= 1 - alpha - 3 * error["people"]
    assert mean["people"] <= 1 - alpha + 2 / (n_people + 1) + 3 * error["people"]
    assert mean["photos"] < 1 - alpha - 10 * error["photos"]


def test_sets_are_scored_by_people() -> None:
    possible = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], bool)
    targets, people = np.zeros(4, int), np.array([5, 5, 5, 9])
    found = score_sets(possible, targets, people, resamples=50)
    values = {name: share.value for name, share in found.items()}
    assert values == pytest.approx(
        {
            "coverage": (2 / 3 + 0) / 2,
            "single": (1 / 3 + 1) / 2,
            "single_right": (1 / 3) / (1 / 3 + 1),
            "several": (1 / 3) / 2,
            "none": (1 / 3) / 2,
        }
    )
    assert np.isnan(score_sets(possible[1:3], targets[1:3], people[1:3])["single_right"].value)

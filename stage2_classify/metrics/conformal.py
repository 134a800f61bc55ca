"""Class-conditional conformal sets of classes, calibrated at the level of people.

A class is possible where its probability reaches a limit: a low quantile of the probability that
people of this class get for it (Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers
with bounded error levels", JASA 114, 2019; classes apart: Vovk, "Conditional validity of inductive
conformal predictors", Machine Learning 92, 2013). Photos of one person are not independent, so
people are counted, not photos: of n people each weighs 1 / (n + 1), divided among the person's
photos, and the rest is the weight of the new person, on the side of caution (Lee, Barber and
Willett, "Distribution-free inference with hierarchical data", 2023; after Dunn, Wasserman and
Ramdas, "Distribution-free prediction sets for two-layer hierarchical models", JASA 118, 2023). With
one photo per person that is the usual split conformal quantile.

For a new person of a class, who is exchangeable with the people of that class here, and a random
one of their photos of the class, the set then contains the class with probability 1 - alpha or
more. Pure functions; no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cropfirst.core.bootstrap import Interval, bootstrap_intervals

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
Bools = npt.NDArray[np.bool_]

TOLERANCE = 1e-9
"""Error of summed weights that rounding may make."""
MEASURES = ("coverage", "single", "single_right", "several", "none")
"""Shares that `score_sets` returns."""


def smallest_alpha(n_people: int) -> float:
    """Return the smallest error rate that so many people of a class carry: 1 / (n + 1)."""
    return 1 / (n_people + 1)


def people_needed(alpha: float) -> int:
    """Return the number of people of a class that an error rate needs: 99 for 0.01."""
    return int(np.ceil(1 / alpha - TOLERANCE)) - 1


def fit_limits(probs: Floats, people: Ints, alphas: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the limits of one class at each error rate.

    Args:
        probs: (N,) probabilities of the class, of photos whose true class it is.
        people: (N,) numbers of persons.

    Returns:
        (A,) least probabilities with which the class is possible; 0 where the people are too few.
    """
    ranked, _, weights, n_people = _rank(probs, people)
    return _limits(ranked, weights, n_people, alphas)


def limits_of_others(
    probs: Floats, targets: Ints, people: Ints, alphas: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Return for each person the limits that all other people give.

    With them nobody is judged by limits that they have helped to fit.

    Args:
        probs: (N, C); targets: (N,) class numbers.
        people: (N,) numbers of persons, from 0.

    Returns:
        (A, P, C) limits of each class for each of the P persons.
    """
    n_people, n_classes = 1 + int(people.max()), probs.shape[1]
    limits = np.zeros((len(alphas), n_people, n_classes))
    for code in range(n_classes):
        own = np.flatnonzero(targets == code)
        if not len(own):
            continue
        ranked, number, weights, count = _rank(probs[own, code], people[own])
        limits[:, :, code] = _limits(ranked, weights, count, alphas)[:, None]
        for place, person in enumerate(np.unique(people[own])):
            others = np.where(number == place, 0.0, weights)
            limits[:, person, code] = _limits(ranked, others, count - 1, alphas)
    return limits


def score_sets(
    possible: Bools, targets: Ints, people: Ints, *, resamples: int = 2000
) -> dict[str, Interval]:
    """Return the shares of sets of each kind, with 95 % intervals over people.

    Every person counts the same, with the mean over their photos: this is what the sets promise.

    Args:
        possible: (N, C); targets: (N,) class numbers; people: (N,) numbers of persons.

    Returns:
        `coverage` (the true class is possible), `single` (one class alone is), `single_right` (of
        these, it is the true one; NaN without any), `several` and `none`.
    """
    sizes = possible.sum(axis=1)
    hit = possible[np.arange(len(targets)), targets]
    columns = (hit, sizes == 1, hit & (sizes == 1), sizes > 1, sizes == 0)
    number = np.unique(people, return_inverse=True)[1]
    counts = np.bincount(number)
    means = np.stack([np.bincount(number, each) / counts for each in columns], axis=1)

    def score(weights: Ints) -> npt.NDArray[np.float64]:
        covered, single, right, several, none = (weights @ means / weights.sum(1)[:, None]).T
        with np.errstate(invalid="ignore"):
            return np.stack([covered, single, right / single, several, none])

    return dict(
        zip(MEASURES, bootstrap_intervals(score, len(counts), resamples=resamples), strict=True)
    )


def _rank(probs: Floats, people: Ints) -> tuple[Floats, Ints, npt.NDArray[np.float64], int]:
    """Return the photos by falling probability: it, the person from 0, and the photo's weight.

    The weights of each person's photos sum to 1; last comes the number of people.
    """
    order = np.argsort(-probs, kind="stable")
    number, counts = np.unique(people, return_inverse=True, return_counts=True)[1:]
    return probs[order], number[order], (1 / counts)[number][order], len(counts)


def _limits(
    ranked: Floats, weights: npt.NDArray[np.float64], n_people: int, alphas: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Return the largest probabilities that enough of the people reach.

    Args:
        ranked: (N,) probabilities, falling; weights: (N,) weights of the photos, each person's
            summing to 1, or 0 for one who is left out.
    """
    wanted = (1 - np.asarray(alphas)) * (n_people + 1)
    place = np.searchsorted(np.cumsum(weights), wanted - TOLERANCE)
    return np.append(ranked.astype(np.float64), 0.0)[place]

"""Weights, temperature and thresholds are what they should be, and gains are those of others."""

from __future__ import annotations

import numpy as np
import pytest

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.ensemble.search import Problem, Settings, people_folds, search
from cropfirst.stage2_classify.metrics.calibration import (
    fit_temperature,
    log_loss,
    reliability,
    scale,
)
from cropfirst.stage2_classify.metrics.scores import macro_f1
from cropfirst.stage2_classify.voting.thresholds import decide, fit_offsets
from cropfirst.stage2_classify.voting.weighting import (
    agreeing_members,
    chosen_members,
    class_shift,
    greedy_weights,
    simplex_weights,
)

N = 240


def truth(seed: int = 0, n_classes: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, n_classes, N)


def run_of(targets: np.ndarray, strength: float, seed: int, n_classes: int = 3) -> np.ndarray:
    """(N, C) probabilities that know the truth more or less."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(targets), n_classes))
    logits[np.arange(len(targets)), targets] += strength
    powers = np.exp(logits)
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def problem_of(targets: np.ndarray, *tables: np.ndarray, people: int = 60) -> Problem:
    return Problem(
        "task",
        targets,
        np.arange(len(targets)) % people,
        tuple(f"run{number}" for number in range(len(tables))),
        np.stack(tables),
        np.ones((len(tables), len(targets))),
    )


def test_weighers_favour_the_run_that_knows() -> None:
    targets = truth()
    tables = np.stack([run_of(targets, 0.0, 1), run_of(targets, 2.0, 2), run_of(targets, 0.0, 3)])
    says = np.ones(tables.shape[:2])
    for weigh in (greedy_weights, simplex_weights, chosen_members):
        weights = weigh(tables, targets, says)
        assert weights.sum() == pytest.approx(1) and weights.argmax() == 1, weigh
    # Where it has no say, the others are weighed by the rest of the photos.
    says[1, : N // 2] = 0
    assert greedy_weights(tables, targets, says).argmax() == 1


def test_simplex_weights_have_the_least_log_loss() -> None:
    targets = truth(1)
    one, two = run_of(targets, 1.0, 4), run_of(targets, 1.4, 5)
    found = simplex_weights(np.stack([one, two]), targets, np.ones((2, N)))
    losses = {w: log_loss(w * one + (1 - w) * two, targets) for w in np.linspace(0, 1, 101)}
    best = min(losses, key=losses.__getitem__)
    assert found[0] == pytest.approx(best, abs=0.02) and 0.05 < best < 0.95


def test_runs_of_other_class_shares_are_left_out() -> None:
    targets = np.array([0] * 50 + [1] * 50)
    good = np.where(targets[:, None] == [0, 1], 0.8, 0.2)
    biased = np.tile([[0.9, 0.1]], (100, 1))
    tables = np.stack([good, biased])
    assert class_shift(biased.argmax(1), [0.5, 0.5]) == pytest.approx(0.5)
    says = np.ones((2, 100))
    assert agreeing_members(tables, targets, says, max_shift=0.1).tolist() == [1, 0]
    assert agreeing_members(tables, targets, says, max_shift=0.6).tolist() == [0.5, 0.5]
    # None is near: the nearest.
    assert agreeing_members(tables[1:], targets, says[1:], max_shift=0.1).tolist() == [1]


def test_temperature_is_found_again() -> None:
    rng = np.random.default_rng(3)
    honest = rng.dirichlet(np.ones(3), 4000).astype(np.float32)
    targets = np.array([rng.choice(3, p=row / row.sum()) for row in honest.astype(float)])
    sharp = scale(honest, 0.5)
    assert fit_temperature(sharp, targets) == pytest.approx(2.0, rel=0.1)
    assert reliability(honest, targets).ece < 0.03 < reliability(sharp, targets).ece
    assert fit_temperature(honest, targets) == pytest.approx(1.0, rel=0.1)


def test_calibration_error_by_hand() -> None:
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    found = reliability(probs, np.array([0, 1, 0, 1]), n_bins=10)
    # 0.9: half right, gap 0.4; 0.6: all right, gap 0.4.
    assert found.ece == pytest.approx(0.4)
    assert found.counts.sum() == 4 and np.isnan(found.accuracy[0])


def test_thresholds_name_rare_classes_sooner_and_only_where_it_helps() -> None:
    rng = np.random.default_rng(5)
    targets = (rng.random(3000) < 0.1).astype(int)
    signal = rng.normal(size=3000) + 1.6 * targets
    rare = 1 / (1 + np.exp(-(1.6 * signal - 3.5)))
    probs = np.stack([1 - rare, rare], 1)
    offsets = fit_offsets(probs, targets)
    before, after = (macro_f1(targets, decide(probs, each), 2) for each in ((), offsets))
    assert after > before + 0.02 and offsets[1] - offsets[0] > 0
    perfect = np.eye(2)[targets]
    assert fit_offsets(perfect, targets) == (0.0, 0.0)


def test_the_gain_of_noise_is_none() -> None:
    """Fitted and judged on the same photos, the best of eight useless runs would seem to know."""
    targets = truth(7, 2)
    problem = problem_of(targets, *(run_of(targets, 0.0, seed, 2) for seed in range(8)))
    weights = greedy_weights(problem.tables, targets, problem.says)
    fitted = problem.score(np.einsum("m,mnc->nc", weights, problem.tables).argmax(1))
    steps = {step.name: step for step in search(problem, Settings()).steps}
    assert fitted > 0.54 > steps["greedy"].macro_f1
    assert steps["chosen"].gain is not None and not steps["chosen"].gain.low > 0


def test_a_real_gain_is_found_and_its_plan_gives_it() -> None:
    targets = truth(8)
    problem = problem_of(
        targets, run_of(targets, 2.5, 1), *(run_of(targets, 0.0, seed) * 1 for seed in (2, 3, 4))
    )
    found = search(problem, Settings())
    steps = {step.name: step for step in found.steps}
    assert steps["equal"].gain is None and "route" not in steps
    assert steps["chosen"].gain is not None and steps["chosen"].gain.low > 0
    assert problem.score(problem.answer(found.plan).preds) > steps["equal"].macro_f1
    assert found.ece[1].value < found.ece[0].value and found.ece[2].high < 0


def test_routes_are_found_where_runs_know_different_states() -> None:
    targets, state = truth(9), np.arange(N) % 2
    good, bad = run_of(targets, 3.0, 1), run_of(targets, 0.0, 2)
    first = np.where(state[:, None] == 0, good, bad)
    second = np.where(state[:, None] == 0, bad, good)
    problem = problem_of(targets, first, second)
    states = {"off": (state == 0).astype(float), "on": (state == 1).astype(float)}
    routed = Problem(**{**vars(problem), "route": "mask", "states": states})
    found = search(routed, Settings())
    assert found.plan.route == "mask"
    assert found.plan.weights["off"]["run0"] > 0.6 and found.plan.weights["on"]["run1"] > 0.6


def test_nobody_is_fitted_and_judged_on() -> None:
    problem = problem_of(truth(), run_of(truth(), 1.0, 1), people=7)
    folds = people_folds(problem, Settings())
    assert len(np.unique(folds)) == 5
    for person in range(7):
        assert len(np.unique(folds[problem.people == person])) == 1


def test_one_person_is_not_enough() -> None:
    problem = problem_of(truth(), run_of(truth(), 1.0, 1), people=1)
    with pytest.raises(TrainError, match="are of 1 person"):
        search(problem, Settings())

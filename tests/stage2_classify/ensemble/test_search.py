"""Weights, temperature and thresholds are what they should be, and gains are those of others."""

from __future__ import annotations

import numpy as np
import pytest

from cropfirst.core.errors import TrainError
from cropfirst.core.probabilities import decide, scale
from cropfirst.stage2_classify.ensemble.greedy import greedy_weights
from cropfirst.stage2_classify.ensemble.search import SearchSteps, search
from cropfirst.stage2_classify.ensemble.task_data import TaskData
from cropfirst.stage2_classify.metrics.calibration import (
    fit_temperature,
    reliability,
)
from cropfirst.stage2_classify.metrics.scores import macro_f1
from cropfirst.stage2_classify.voting.thresholds import fit_offsets

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


def data_of(targets: np.ndarray, *tables: np.ndarray, people: int = 60) -> TaskData:
    return TaskData(
        "task",
        targets,
        np.arange(len(targets)) % people,
        tuple(f"run{number}" for number in range(len(tables))),
        np.stack(tables),
        np.ones((len(tables), len(targets))),
    )


def test_greedy_weights_favour_the_run_that_knows() -> None:
    targets = truth()
    probs = np.stack([run_of(targets, 0.0, 1), run_of(targets, 2.0, 2), run_of(targets, 0.0, 3)])
    photo_weights = np.ones(probs.shape[:2])
    weights = greedy_weights(probs, targets, photo_weights)
    assert weights.sum() == pytest.approx(1) and weights.argmax() == 1
    # On photos where it has no weight, only the others decide.
    photo_weights[1, : N // 2] = 0
    assert greedy_weights(probs, targets, photo_weights).argmax() == 1


def test_temperature_is_found_again() -> None:
    rng = np.random.default_rng(3)
    honest = rng.dirichlet(np.ones(3), 4000).astype(np.float32)
    targets = np.array([rng.choice(3, p=row / row.sum()) for row in honest.astype(float)])
    sharp = scale(honest, 0.5)
    assert fit_temperature(sharp, targets) == pytest.approx(2.0, rel=0.1)
    assert reliability(honest, targets).ece < 0.03 < reliability(sharp, targets).ece
    assert fit_temperature(honest, targets) == pytest.approx(1.0, rel=0.1)


def test_the_temperature_of_photos_that_are_all_right_leaves_room_for_a_mistake() -> None:
    """Least log loss alone would be that of the smallest temperature, and state certainty."""
    probs = np.array([[0.9, 0.06, 0.04], [0.1, 0.7, 0.2]] * 50, np.float32)
    temperature = fit_temperature(probs, np.array([0, 1] * 50))
    assert 0.1 < temperature < 1
    assert 0.98 < scale(probs, temperature).max(1).mean() < 0.999


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
    data = data_of(targets, *(run_of(targets, 0.0, seed, 2) for seed in range(8)))
    weights = greedy_weights(data.probs, targets, data.photo_weights)
    fitted = data.macro_f1(np.einsum("m,mnc->nc", weights, data.probs).argmax(1))
    steps = {step.name: step for step in search(data, SearchSteps()).steps}
    assert fitted > 0.54 > steps["greedy"].macro_f1
    assert steps["chosen"].gain is not None and not steps["chosen"].gain.low > 0


def test_a_real_gain_is_found_and_its_plan_gives_it() -> None:
    targets = truth(8)
    data = data_of(
        targets, run_of(targets, 2.5, 1), *(run_of(targets, 0.0, seed) * 1 for seed in (2, 3, 4))
    )
    found = search(data, SearchSteps())
    steps = {step.name: step for step in found.steps}
    assert steps["equal"].gain is None and "route" not in steps
    assert steps["chosen"].gain is not None and steps["chosen"].gain.low > 0
    assert data.macro_f1(data.vote(found.plan).preds) > steps["equal"].macro_f1
    assert found.ece[1].value < found.ece[0].value and found.ece[2].high < 0


def test_routes_are_found_where_runs_know_different_states() -> None:
    targets, state = truth(9), np.arange(N) % 2
    good, bad = run_of(targets, 3.0, 1), run_of(targets, 0.0, 2)
    first = np.where(state[:, None] == 0, good, bad)
    second = np.where(state[:, None] == 0, bad, good)
    data = data_of(targets, first, second)
    route_probs = {"off": (state == 0).astype(float), "on": (state == 1).astype(float)}
    routed = TaskData(**{**vars(data), "route": "mask", "route_probs": route_probs})
    found = search(routed, SearchSteps())
    assert found.plan.route == "mask"
    assert found.plan.weights["off"]["run0"] > 0.6 and found.plan.weights["on"]["run1"] > 0.6


def test_nobody_is_fitted_and_judged_on() -> None:
    data = data_of(truth(), run_of(truth(), 1.0, 1), people=7)
    folds = data.split()
    assert len(np.unique(folds)) == 5
    for person in range(7):
        assert len(np.unique(folds[data.people == person])) == 1


def test_one_person_is_not_enough() -> None:
    data = data_of(truth(), run_of(truth(), 1.0, 1), people=1)
    with pytest.raises(TrainError, match="are of 1 person"):
        search(data, SearchSteps())

"""The ways to vote that `ensemble` tries, and how each is fitted to out-of-fold probabilities.

Fits; judges nothing. Knows arrays; knows nothing of runs' folders, models or torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cropfirst.stage2_classify.ensemble.greedy import greedy_weights
from cropfirst.stage2_classify.ensemble.task_data import TaskData
from cropfirst.stage2_classify.metrics.calibration import fit_temperature
from cropfirst.stage2_classify.voting.thresholds import fit_offsets
from cropfirst.stage2_classify.voting.vote_plan import ANY_CLASS, TaskPlan, equal_plan

METHODS = ("equal", "hard", "greedy", "route")
"""Ways to vote, the simplest first; one of them is chosen."""
ADJUSTMENTS = ("temperature", "thresholds")
"""Steps that may follow the vote."""
MIN_PHOTOS = 30
"""Number of photos that a class of the routing task needs for weights of its own."""


def is_possible(method: str, data: TaskData) -> bool:
    """Return whether a way to vote can differ from the equal vote on these data."""
    if method == "route":
        return data.route_probs is not None and len(data.runs) > 1
    needed = {"equal": 1, "hard": 3, "greedy": 2}
    return len(data.runs) >= needed[method]


def fit_plan(
    data: TaskData, method: str, *, temperature: bool = False, thresholds: bool = False
) -> TaskPlan:
    """Fit a way to vote and, where asked for, the temperature and then the thresholds."""
    plan = _fit_method(data, method)
    if temperature:
        found = fit_temperature(data.vote(plan).probs, data.targets)
        plan = replace(plan, temperature=found)
    if thresholds:
        plan = replace(plan, offsets=fit_offsets(data.vote(plan).probs, data.targets))
    return plan


def _fit_method(data: TaskData, method: str) -> TaskPlan:
    if method == "equal":
        return equal_plan(data.runs)
    if method == "hard":
        return equal_plan(data.runs, vote="hard")
    weights = _greedy(data)
    if method == "greedy":
        return TaskPlan({ANY_CLASS: weights})
    assert data.route_probs is not None
    likely = np.stack(list(data.route_probs.values()), axis=1).argmax(axis=1)
    by_class = {}
    for number, name in enumerate(data.route_probs):
        part = data.take(np.flatnonzero(likely == number))
        enough = len(part.targets) >= MIN_PHOTOS and len(np.unique(part.targets)) > 1
        by_class[name] = _greedy(part) if enough else weights
    return TaskPlan(by_class, route=data.route)


def _greedy(data: TaskData) -> dict[str, float]:
    return _by_run(data.runs, greedy_weights(data.probs, data.targets, data.photo_weights))


def _by_run(runs: Sequence[str], weights: npt.NDArray[np.float64]) -> dict[str, float]:
    return {run: round(float(weight), 6) for run, weight in zip(runs, weights, strict=True)}

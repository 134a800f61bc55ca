"""The search for the best way to vote on one task, judged on out-of-fold predictions.

Everything is fitted on some people and judged on others: each way to vote is cross-fitted, and so
is the choice among them. Knows arrays; knows nothing of runs' folders, models or torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from cropfirst.core.bootstrap import Interval
from cropfirst.stage2_classify.ensemble.methods import (
    ADJUSTMENTS,
    METHODS,
    fit_plan,
    is_possible,
)
from cropfirst.stage2_classify.ensemble.task_data import TaskData
from cropfirst.stage2_classify.voting.blend import TaskVote
from cropfirst.stage2_classify.voting.vote_plan import TaskPlan, equal_plan

Ints = npt.NDArray[np.integer]
Fit = Callable[[TaskData], TaskPlan]


@dataclass(frozen=True)
class SearchSteps:
    """The steps that the search tries."""

    methods: tuple[str, ...] = METHODS
    """Ways to vote; the equal vote is always tried."""
    adjustments: tuple[str, ...] = ADJUSTMENTS
    """Steps after the vote."""


@dataclass(frozen=True)
class Step:
    """The score of one step on people that it was not fitted on."""

    task: str
    name: str
    macro_f1: float
    majority_macro_f1: float
    """Macro F1 of always predicting the most frequent class of these photos."""
    gain: Interval | None
    """Gain over the equal vote; None for the equal vote itself."""
    kept: bool
    """Whether the step is part of the ensemble."""
    note: str = ""


@dataclass(frozen=True)
class TaskSearch:
    """The plan for one task, and its scores."""

    name: str
    """The task."""
    plan: TaskPlan
    """The chosen plan, fitted on all photos."""
    steps: tuple[Step, ...]
    equal: TaskVote
    """The equal vote of all runs."""
    chosen: TaskVote
    """Vote on each photo by a plan that was chosen and fitted on other people."""
    ece: tuple[Interval, Interval, Interval]
    """Expected calibration error of the equal vote, of the chosen one, and the difference."""

    @property
    def chosen_f1(self) -> float:
        """Macro F1 of `chosen`."""
        return next(step.macro_f1 for step in self.steps if step.name == "chosen")


@dataclass(frozen=True)
class _Choice:
    """The best way to vote, and the cross-fitted votes that it was chosen by."""

    method: str
    thresholds: bool
    votes: Mapping[str, TaskVote]
    """Way to vote, or "thresholds" after the best of them -> cross-fitted vote."""


def search(data: TaskData, steps: SearchSteps, *, baseline: Ints | None = None) -> TaskSearch:
    """Find the best way to vote on a task, and its gain on other people.

    Args:
        baseline: (N,) class numbers that gains are counted from; None = the equal vote.

    Raises:
        TrainError: fewer than two persons, so that nobody is left to judge by.
    """
    equal = data.vote(equal_plan(data.runs))
    before = equal.preds if baseline is None else baseline
    folds = data.split()
    choice = _choose(data, folds, steps)
    found = []
    for name, vote in choice.votes.items():
        kept = choice.thresholds if name == "thresholds" else name == choice.method
        note = f"after {choice.method}" if name == "thresholds" else ""
        found.append(_step(data, name, vote, before, kept=kept, note=note))
    chosen = _cross_fit(data, folds, partial(_fit_best, steps=steps))
    note = "chosen again in each fold"
    found.append(_step(data, "chosen", chosen, before, kept=True, note=note))
    return TaskSearch(
        data.task,
        _fit_choice(data, choice, steps),
        tuple(found),
        equal,
        chosen,
        data.calibration(equal, chosen),
    )


def _choose(data: TaskData, folds: Ints, steps: SearchSteps) -> _Choice:
    """Choose the way to vote with the highest macro F1; of equal ones the simplest."""
    methods = [
        method
        for method in METHODS
        if method == "equal" or (method in steps.methods and is_possible(method, data))
    ]
    votes = {each: _cross_fit(data, folds, partial(fit_plan, method=each)) for each in methods}
    scores = {method: round(data.macro_f1(vote.preds), 6) for method, vote in votes.items()}
    best = max(methods, key=scores.__getitem__)
    thresholds = False
    if "thresholds" in steps.adjustments:
        after = _cross_fit(data, folds, partial(fit_plan, method=best, thresholds=True))
        thresholds = data.macro_f1(after.preds) > data.macro_f1(votes[best].preds)
        votes["thresholds"] = after
    return _Choice(best, thresholds, votes)


def _fit_best(data: TaskData, steps: SearchSteps) -> TaskPlan:
    """Choose the way to vote by folds among these people, and fit it on all of them."""
    if data.n_people < 2:
        return _fit_choice(data, _Choice("equal", False, {}), steps)
    return _fit_choice(data, _choose(data, data.split(), steps), steps)


def _fit_choice(data: TaskData, choice: _Choice, steps: SearchSteps) -> TaskPlan:
    return fit_plan(
        data,
        choice.method,
        temperature="temperature" in steps.adjustments,
        thresholds=choice.thresholds,
    )


def _cross_fit(data: TaskData, folds: Ints, fit: Fit) -> TaskVote:
    """Return the vote on each fold's photos by a plan that was fitted on the other folds."""
    probs = np.empty(data.probs.shape[1:], np.float32)
    preds = np.empty(len(data.targets), np.int32)
    for fold in np.unique(folds):
        inside = np.flatnonzero(folds == fold)
        plan = fit(data.take(np.flatnonzero(folds != fold)))
        vote = data.take(inside).vote(plan)
        probs[inside], preds[inside] = vote.probs, vote.preds
    return TaskVote(probs, preds)


def _step(
    data: TaskData, name: str, vote: TaskVote, before: Ints, *, kept: bool, note: str = ""
) -> Step:
    is_baseline = name == "equal" and bool((vote.preds == before).all())
    gain = None if is_baseline else data.gain(before, vote.preds)
    return Step(data.task, name, data.macro_f1(vote.preds), data.majority_f1, gain, kept, note)

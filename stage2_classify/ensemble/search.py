"""Which vote is best for one task, found and judged on out-of-fold predictions.

Everything that is fitted is fitted on some people and scored on others: each way of voting goes
through folds of its own, and so does the choice among them. So a reported gain is not that of the
people it was chosen by. Knows arrays; knows nothing of runs' folders, models or torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cropfirst.core.bootstrap import Interval
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.metrics.calibration import confidence_gaps, fit_temperature
from cropfirst.stage2_classify.metrics.intervals import (
    Paired,
    ece_intervals,
    paired_difference,
)
from cropfirst.stage2_classify.metrics.scores import macro_f1
from cropfirst.stage2_classify.voting.blend import ANY, Blended, TaskPlan, blend, equal_plan
from cropfirst.stage2_classify.voting.thresholds import fit_offsets
from cropfirst.stage2_classify.voting.weighting import (
    WEIGHERS,
    agreeing_members,
    greedy_weights,
)

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

WAYS = ("equal", "hard", "shares", "members", "greedy", "simplex", "route")
"""Ways to vote, of which one is chosen."""
FINISHES = ("temperature", "thresholds")
"""What may follow the vote."""
FEWEST = 30
"""Photos that a state must have for weights of its own."""


@dataclass(frozen=True)
class Settings:
    """What is tried."""

    ways: tuple[str, ...] = WAYS
    finishes: tuple[str, ...] = FINISHES
    n_folds: int = 5
    max_shift: float = 0.1
    """Largest total variation between a run's predicted class shares and the true ones."""
    seed: int = 0


@dataclass(frozen=True)
class Problem:
    """Several runs' out-of-fold probabilities for one task, one row a photo."""

    name: str
    targets: Ints
    """(N,) class numbers."""
    people: Ints
    """(N,) numbers of persons."""
    runs: tuple[str, ...]
    tables: Floats
    """(M, N, C)"""
    says: Floats
    """(M, N), how much a run has to say on a photo."""
    route: str = ""
    """The task whose classes may have weights of their own."""
    states: Mapping[str, Floats] | None = None
    """Its classes -> (N,) how likely each is, out of fold too."""

    @property
    def n_classes(self) -> int:
        """Of the task."""
        return int(self.tables.shape[2])

    def rows(self, rows: npt.NDArray[np.int64]) -> Problem:
        """Some of the photos."""
        states = self.states and {name: column[rows] for name, column in self.states.items()}
        return replace(
            self,
            targets=self.targets[rows],
            people=self.people[rows],
            tables=self.tables[:, rows],
            says=self.says[:, rows],
            states=states,
        )

    def answer(self, plan: TaskPlan) -> Blended:
        """What a plan says of these photos."""
        return blend(
            dict(zip(self.runs, self.tables, strict=True)),
            plan,
            says=dict(zip(self.runs, self.says, strict=True)),
            states=self.states,
        )

    def score(self, preds: Ints) -> float:
        """Macro F1."""
        return macro_f1(self.targets, preds, self.n_classes)

    def gain(self, before: Ints, after: Ints) -> Interval:
        """Return how much macro F1 rises, with its 95 % interval over people."""
        pair = Paired(self.people, self.targets, (before, after), self.n_classes)
        return paired_difference([pair])


@dataclass(frozen=True)
class Step:
    """What one way of voting comes to on people that it was not fitted on."""

    task: str
    name: str
    macro_f1: float
    gain: Interval | None
    """Over the equal vote; None for the equal vote itself."""
    kept: bool
    note: str = ""


@dataclass(frozen=True)
class TaskSearch:
    """The plan for one task, and what it is worth."""

    name: str
    plan: TaskPlan
    """Fitted on all photos."""
    steps: tuple[Step, ...]
    equal: Blended
    """The equal vote of all runs."""
    chosen: Blended
    """Each photo as a plan says that was chosen and fitted on other people."""
    ece: tuple[Interval, Interval, Interval]
    """Expected calibration error of the equal vote, of the chosen one, and the difference."""


Fit = Callable[[Problem], TaskPlan]


def search(problem: Problem, settings: Settings, *, baseline: Ints | None = None) -> TaskSearch:
    """Find the best way to vote on a task, and what it gains on other people.

    Args:
        baseline: (N,) answers that gains are counted from; None: those of the equal vote.

    Raises:
        TrainError: fewer than two persons: nobody is left to judge by.
    """
    ways = [way for way in WAYS if way in settings.ways and _can(way, problem)] or ["equal"]
    folds = people_folds(problem, settings)
    equal = problem.answer(_fit_way("equal", problem, settings))
    first = equal.preds if baseline is None else baseline
    judged = {way: _nested(problem, folds, _way(way, settings)) for way in ways}
    best = _best_of(problem, judged)
    steps = [_step(problem, way, judged[way], first, kept=way == best) for way in ways]
    final = _finished(best, settings)
    if "thresholds" in settings.finishes:
        found = _nested(problem, folds, _way(best, settings, thresholds=True))
        kept = problem.score(found.preds) > problem.score(judged[best].preds)
        final = _finished(best, settings, thresholds=kept)
        steps.append(_step(problem, "thresholds", found, first, kept=kept, note=f"after {best}"))
    chosen = _nested(problem, folds, lambda part: _choose(part, settings))
    steps.append(_step(problem, "chosen", chosen, first, kept=True, note="the choice made anew"))
    return TaskSearch(
        problem.name, final(problem), tuple(steps), equal, chosen, _ece(problem, equal, chosen)
    )


def people_folds(problem: Problem, settings: Settings) -> npt.NDArray[np.int32]:
    """(N,) folds; nobody is in two of them.

    Raises:
        TrainError: fewer than two persons.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    n_people = len(np.unique(problem.people))
    if n_people < 2:
        raise TrainError(
            f"{problem.name}: weights are found on some people and judged on others, and the "
            f"out-of-fold predictions are of {n_people} person: train more folds, or on more people"
        )
    n_folds = min(settings.n_folds, n_people)
    split: Any = StratifiedGroupKFold(n_folds, shuffle=True, random_state=settings.seed)
    if np.bincount(problem.targets).max() < n_folds:  # a handful of photos: nothing to stratify
        split = GroupKFold(n_folds)
    folds = np.zeros(len(problem.targets), np.int32)
    with warnings.catch_warnings():
        # A class that fewer persons have than there are folds: then some folds are without it.
        warnings.filterwarnings("ignore", message="The least populated class")
        parts = split.split(folds, problem.targets, problem.people)
        for number, (_, inside) in enumerate(parts):
            folds[inside] = number
    return folds


def _can(way: str, problem: Problem) -> bool:
    if way == "route":
        return problem.states is not None and len(problem.runs) > 1
    return way == "equal" or len(problem.runs) > (2 if way == "hard" else 1)


def _nested(problem: Problem, folds: npt.NDArray[np.int32], fit: Fit) -> Blended:
    """Each fold's photos answered by a plan that was fitted on the others."""
    probs = np.empty(problem.tables.shape[1:], np.float32)
    preds = np.empty(len(problem.targets), np.int32)
    for fold in np.unique(folds):
        inside = np.flatnonzero(folds == fold)
        plan = fit(problem.rows(np.flatnonzero(folds != fold)))
        said = problem.rows(inside).answer(plan)
        probs[inside], preds[inside] = said.probs, said.preds
    return Blended(probs, preds)


def _choose(problem: Problem, settings: Settings) -> TaskPlan:
    """The whole search, on the people that are left: ways judged by folds among them."""
    if len(np.unique(problem.people)) < 2:
        return _finished("equal", settings)(problem)
    ways = [way for way in WAYS if way in settings.ways and _can(way, problem)] or ["equal"]
    folds = people_folds(problem, settings)
    judged = {way: _nested(problem, folds, _way(way, settings)) for way in ways}
    best = _best_of(problem, judged)
    thresholds = False
    if "thresholds" in settings.finishes:
        found = _nested(problem, folds, _way(best, settings, thresholds=True))
        thresholds = problem.score(found.preds) > problem.score(judged[best].preds)
    return _finished(best, settings, thresholds=thresholds)(problem)


def _best_of(problem: Problem, judged: Mapping[str, Blended]) -> str:
    """The way that scores highest; of equals the first, which is the simplest."""
    return max(judged, key=lambda way: round(problem.score(judged[way].preds), 6))


def _finished(way: str, settings: Settings, *, thresholds: bool = False) -> Fit:
    warm = "temperature" in settings.finishes
    return _way(way, settings, thresholds=thresholds, temperature=warm)


def _way(
    way: str, settings: Settings, *, thresholds: bool = False, temperature: bool = False
) -> Fit:
    def fit(problem: Problem) -> TaskPlan:
        plan = _fit_way(way, problem, settings)
        if temperature:
            heat = fit_temperature(problem.answer(plan).probs, problem.targets)
            plan = replace(plan, temperature=heat)
        if thresholds:
            probs = problem.answer(plan).probs
            plan = replace(plan, offsets=fit_offsets(probs, problem.targets))
        return plan

    return fit


def _fit_way(way: str, problem: Problem, settings: Settings) -> TaskPlan:
    """The weights of one way of voting."""
    if way in ("equal", "hard"):
        return equal_plan(problem.runs, vote="hard" if way == "hard" else "soft")
    if way == "route":
        return _routed(problem)
    if way == "shares":
        found = agreeing_members(
            problem.tables, problem.targets, problem.says, max_shift=settings.max_shift
        )
    else:
        found = WEIGHERS[way](problem.tables, problem.targets, problem.says)
    return TaskPlan({ANY: _named(problem.runs, found)})


def _routed(problem: Problem) -> TaskPlan:
    """Weights of their own for each state that enough photos are in."""
    assert problem.states is not None
    states = np.stack(list(problem.states.values()), axis=1).argmax(axis=1)
    everywhere = _named(problem.runs, greedy_weights(problem.tables, problem.targets, problem.says))
    weights = {}
    for number, state in enumerate(problem.states):
        rows = np.flatnonzero(states == number)
        weights[state] = everywhere
        if len(rows) >= FEWEST and len(np.unique(problem.targets[rows])) > 1:
            part = problem.rows(rows)
            found = greedy_weights(part.tables, part.targets, part.says)
            weights[state] = _named(problem.runs, found)
    return TaskPlan(weights, route=problem.route)


def _named(runs: Sequence[str], weights: npt.NDArray[np.float64]) -> dict[str, float]:
    return {run: round(float(w), 6) for run, w in zip(runs, weights, strict=True)}


def _step(
    problem: Problem, name: str, said: Blended, first: Ints, *, kept: bool, note: str = ""
) -> Step:
    gain = None
    if (said.preds != first).any() or name != "equal":
        gain = problem.gain(first, said.preds)
    return Step(problem.name, name, problem.score(said.preds), gain, kept, note)


def _ece(problem: Problem, equal: Blended, chosen: Blended) -> tuple[Interval, Interval, Interval]:
    gaps = [confidence_gaps(said.probs, problem.targets) for said in (equal, chosen)]
    first, last, change = ece_intervals(problem.people, gaps)
    return first, last, change

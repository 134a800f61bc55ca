"""Plans for the vote of an ensemble: weights, temperature and thresholds, task by task.

Plain values. Knows nothing of arrays, models or files. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ANY_CLASS = ""
"""Key of the weights of a task without a route."""


@dataclass(frozen=True)
class TaskPlan:
    """The plan of a vote on one task, or on the combined code."""

    weights: Mapping[str, Mapping[str, float]]
    """Class of the task `route` -> run -> weight; the only key is "" where there is no route.
    The weights of several classes are averaged by the probability of each class."""
    route: str = ""
    """Task whose class decides which weights are used, such as mask; "" = none."""
    vote: str = "soft"
    """soft = mean of probabilities; hard = majority of the runs' classes, ties by that mean."""
    temperature: float = 1.0
    """Temperature of the mean probabilities; above 1 they become flatter."""
    offsets: tuple[float, ...] = ()
    """(C,) thresholds: numbers added to the log-probabilities before the most likely class is
    taken; () = none."""

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of the runs with a weight above 0."""
        used = [run for weights in self.weights.values() for run, w in weights.items() if w > 0]
        return tuple(dict.fromkeys(used))


@dataclass(frozen=True)
class VotePlan:
    """The plan of the votes on all tasks."""

    tasks: Mapping[str, TaskPlan] = field(default_factory=dict)
    """Task or combined code -> plan; all runs weigh the same for what is missing here."""

    def task(self, name: str, runs: Sequence[str]) -> TaskPlan:
        """Return the plan for a task; where there is none, that of equal weights."""
        return self.tasks.get(name) or equal_plan(runs)


def equal_plan(runs: Sequence[str], *, vote: str = "soft") -> TaskPlan:
    """Return a plan in which all runs weigh the same."""
    return TaskPlan({ANY_CLASS: {run: 1.0 / len(runs) for run in runs}}, vote=vote)

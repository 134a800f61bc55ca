"""From runs' out-of-fold predictions to the data that each task's vote is searched on.

Knows `OofPredictions` tables and the label schema; fits and judges nothing. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.ensemble.task_data import TaskData
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.metrics.intervals import number_people
from cropfirst.stage2_classify.runs.oof_predictions import OofPredictions
from cropfirst.stage2_classify.runs.oof_vote import join, voters_for
from cropfirst.stage2_classify.voting.blend import (
    run_photo_weights,
    task_probs,
    vote_runs,
    voted_names,
)
from cropfirst.stage2_classify.voting.vote_plan import VotePlan, equal_plan

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class EnsembleTask:
    """One task's data, the keys of its photos, and the baseline."""

    data: TaskData
    keys: tuple[str, ...]
    """(N,) keys of the photos."""
    equal: Ints
    """(N,) class numbers by the equal vote."""


def load_tasks(
    oofs: Sequence[OofPredictions],
    schema: LabelSchema,
    people: Mapping[str, str],
    routes: Mapping[str, str],
) -> dict[str, EnsembleTask]:
    """Return name -> data of everything that the runs vote on.

    Args:
        people: key -> person.
        routes: task -> task whose classes may have weights of their own.

    Raises:
        TrainError: a route that is not possible, or no photo that all runs have predicted.
    """
    names = voted_names({oof.name: oof.probs for oof in oofs}, schema)
    _check_routes(routes, names)
    found = {name: _load(name, oofs, schema, people, routes.get(name, "")) for name in names}
    tasks = {name: task for name, task in found.items() if task is not None}
    if not tasks:
        raise TrainError(
            "no photo is in the out-of-fold predictions of all runs: name runs of the same photos "
            "with --runs RUN"
        )
    return tasks


def _load(
    name: str,
    oofs: Sequence[OofPredictions],
    schema: LabelSchema,
    people: Mapping[str, str],
    route: str,
) -> EnsembleTask | None:
    """Return a task's data; None where no photo has been predicted by all runs that vote."""
    voters = voters_for(oofs, name, schema)
    if route:
        known = {id(oof) for oof in voters}
        voters += [oof for oof in voters_for(oofs, route, schema) if id(oof) not in known]
    if not voters:
        return None
    joined, targets, _ = join(voters, name, schema)
    keys = joined[0].keys
    if not keys:
        return None
    by_run = {oof.name: oof.probs for oof in joined}
    conditions = {oof.name: oof.condition if len(joined) > 1 else None for oof in joined}
    weights = run_photo_weights(by_run, conditions, schema)
    route_probs = None
    if route:
        probs = vote_runs(by_run, schema, VotePlan(), conditions=conditions).probs[route]
        route_probs = dict(zip(schema.class_names(route), probs.T, strict=True))
    own = task_probs(name, by_run, schema)
    ones = np.ones(len(keys))
    data = TaskData(
        name,
        targets,
        number_people(keys, people),
        tuple(own),
        np.stack([*own.values()]),
        np.stack([ones if weights is None else weights[run] for run in own]),
        route=route,
        route_probs=route_probs,
    )
    return EnsembleTask(data, keys, data.vote(equal_plan(data.runs)).preds)


def _check_routes(routes: Mapping[str, str], names: Sequence[str]) -> None:
    for task, route in routes.items():
        for name in (task, route):
            if name not in names:
                raise TrainError(
                    f"--route {task}={route}: the runs do not vote on {name}; they vote on "
                    f"{', '.join(names)}"
                )
        if task == route or route in routes:
            raise TrainError(
                f"--route {task}={route}: {route} must be another task, without a route itself"
            )

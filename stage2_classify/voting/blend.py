"""The vote of an ensemble's runs, as a `VotePlan` describes it.

Applies a plan that `ensemble` has found; fits nothing itself. Knows arrays and the label schema;
knows nothing of models, files or crops. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.core.probabilities import decide, scale
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.voting.soft_vote import (
    MIN_WEIGHT,
    Condition,
    Vote,
    combine_codes,
    condition_weights,
    marginals,
    soft_vote,
    split_codes,
    vote,
)
from cropfirst.stage2_classify.voting.vote_plan import TaskPlan, VotePlan

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
RunProbs = Mapping[str, Mapping[str, Floats]]
"""Run -> task or combined code -> (N, classes) probabilities; NaN rows for photos that the run has
not predicted."""

TIE_WEIGHT = 1e-4
"""Weight of the mean probabilities in a hard vote: enough to decide ties, and no more."""


@dataclass(frozen=True)
class TaskVote:
    """The result of a vote on one task."""

    probs: Floats
    """(N, C) float32 probabilities; NaN rows for photos that no run has predicted."""
    preds: Ints
    """(N,) int32 class numbers."""


def blend(
    probs: Mapping[str, Floats],
    plan: TaskPlan,
    *,
    photo_weights: Mapping[str, Floats] | None = None,
    route_probs: Mapping[str, Floats] | None = None,
) -> TaskVote:
    """Combine several runs' probabilities for one task.

    Args:
        probs: run -> (N, C) probabilities.
        photo_weights: run -> (N,) weight on each photo, multiplied with the plan's; None = 1.
        route_probs: class of the routing task -> (N,) probability; needed where the plan routes.
    """
    runs = list(probs)
    weights = [_run_weight(run, plan, route_probs, len(probs[run])) for run in runs]
    if photo_weights is not None:
        weights = [weight * photo_weights[run] for run, weight in zip(runs, weights, strict=True)]
    mean = soft_vote([probs[run] for run in runs], weights=weights)
    if plan.vote == "hard":
        counts = soft_vote([_one_hot(probs[run]) for run in runs], weights=weights)
        mean = (counts + TIE_WEIGHT * mean) / (1 + TIE_WEIGHT)
    scaled = np.asarray(scale(mean, plan.temperature), np.float32)
    return TaskVote(scaled, decide(np.nan_to_num(scaled), plan.offsets))


def majority_codes(codes: Ints, otherwise: Ints) -> npt.NDArray[np.int32]:
    """Return the code that most runs predict for each photo.

    Args:
        codes: (M, N) combined codes of M runs.
        otherwise: (N,) codes made of the tasks' own votes, which decide ties.
    """
    n_codes = 1 + int(max(codes.max(), otherwise.max()))
    counts = np.zeros((codes.shape[1], n_codes), np.int64)
    for row in codes:
        counts[np.arange(len(row)), row] += 1
    top = counts.max(axis=1, keepdims=True)
    tied = (counts == top).sum(axis=1) > 1
    return np.where(tied, otherwise, counts.argmax(axis=1)).astype(np.int32)


def voted_names(probs: RunProbs, schema: LabelSchema) -> tuple[str, ...]:
    """Return what is voted on: tasks, or the combined code where no run has heads for its parts."""
    trained = {name for own in probs.values() for name in own}
    combined = schema.combined
    if combined is None or combined.name not in trained:
        return tuple(name for name in schema.names if name in trained)
    if trained & set(combined.tasks):
        trained = (trained | set(combined.tasks)) - {combined.name}
    return tuple(name for name in schema.names if name in trained)


def task_probs(name: str, probs: RunProbs, schema: LabelSchema) -> dict[str, Floats]:
    """Return run -> (N, C) probabilities for a task, as marginals where a run has the code's."""
    joint = schema.combined.name if schema.combined else ""
    found = {}
    for run, own in probs.items():
        if name in own:
            found[run] = own[name]
        elif joint in own and schema.combined and name in schema.combined.tasks:
            found[run] = marginals(own[joint], schema)[name].astype(np.float32)
    return found


def run_photo_weights(
    probs: RunProbs, conditions: Mapping[str, Condition | None], schema: LabelSchema
) -> dict[str, Floats] | None:
    """Return run -> (N,) weights by their conditions; None where no run has a condition."""
    own = [conditions.get(run) for run in probs]
    if not any(own):
        return None
    return dict(zip(probs, condition_weights(list(probs.values()), own, schema), strict=True))


def vote_runs(
    probs: RunProbs,
    schema: LabelSchema,
    plan: VotePlan,
    *,
    conditions: Mapping[str, Condition | None] | None = None,
    prior: Vote | None = None,
) -> Vote:
    """Let the runs vote on every task; the tasks' classes make the combined code.

    Args:
        conditions: run -> the part of the photos that it was trained on.
        prior: a vote of one row, taken for photos that no run has predicted.

    Raises:
        ValueError: photos that no run has predicted, and no `prior` for them.
    """
    weights = run_photo_weights(probs, conditions or {}, schema)
    names = voted_names(probs, schema)
    votes: dict[str, TaskVote] = {}
    # A route needs the vote on another task, so tasks with a route come last.
    routed = {name for name, each in plan.tasks.items() if each.route}
    for name in sorted(names, key=routed.__contains__):
        own = task_probs(name, probs, schema)
        how = plan.task(name, list(own))
        routes = None
        if how.route in votes:
            classes = schema.class_names(how.route)
            routes = dict(zip(classes, votes[how.route].probs.T, strict=True))
        found = blend(own, how, photo_weights=weights, route_probs=routes)
        votes[name] = _fill_with_prior(found, name, prior)
    by_task = {name: votes[name] for name in names}
    by_majority = weights is None and _is_hard(plan, schema)
    return _join_tasks(by_task, schema, _codes_of_runs(probs, schema) if by_majority else [])


def vote_members(
    probs: Sequence[Mapping[str, Floats]],
    runs: Sequence[str],
    schema: LabelSchema,
    plan: VotePlan,
    *,
    conditions: Sequence[Condition | None] = (),
    priors: Sequence[Mapping[str, Floats]] = (),
) -> Vote:
    """Let members vote, of which those of one run count as one by their mean.

    Args:
        probs: each member's task -> (N, classes) probabilities.
        runs: each member's run, by its name in the plan.
        conditions, priors: one per member, as in `soft_vote.vote`.
    """
    by_run: dict[str, dict[str, Floats]] = {}
    for run in dict.fromkeys(runs):
        own = [each for each, name in zip(probs, runs, strict=True) if name == run]
        by_run[run] = {name: soft_vote([each[name] for each in own]) for name in own[0]}
    rows = [{name: np.asarray(p)[None] for name, p in prior.items()} for prior in priors]
    return vote_runs(
        by_run,
        schema,
        plan,
        conditions=dict(zip(runs, conditions, strict=True)) if conditions else None,
        prior=vote(rows, schema) if rows else None,
    )


def _join_tasks(
    votes: Mapping[str, TaskVote], schema: LabelSchema, run_codes: Sequence[Ints]
) -> Vote:
    """Return the votes on all tasks as one, with the combined code.

    Args:
        run_codes: each run's (N,) codes where they decide by majority; else empty.
    """
    combined = schema.combined
    probs = {name: each.probs for name, each in votes.items()}
    preds = {name: each.preds for name, each in votes.items() if not schema.is_combined(name)}
    code = combine_codes(preds, schema)
    if combined is not None and combined.name in votes:
        code = votes[combined.name].preds
        parts = marginals(probs[combined.name], schema)
        probs = {part: parts[part] for part in combined.tasks} | probs
        preds |= split_codes(code, schema)
    elif code is not None and len(run_codes) > 1:
        code = majority_codes(np.stack(run_codes), code)
        preds |= split_codes(code, schema)
    order = [name for name in schema.names if name in probs]
    return Vote({name: probs[name] for name in order}, preds, code)


def _is_hard(plan: VotePlan, schema: LabelSchema) -> bool:
    """Return whether every part of the combined code is decided by a hard vote."""
    parts = schema.combined.tasks if schema.combined else ()
    return all(part in plan.tasks and plan.tasks[part].vote == "hard" for part in parts)


def _codes_of_runs(probs: RunProbs, schema: LabelSchema) -> list[Ints]:
    """Return each run's (N,) codes; empty unless every run predicts all parts of the code."""
    parts = schema.combined.tasks if schema.combined else ()
    tables = {part: task_probs(part, probs, schema) for part in parts}
    codes = []
    for run in probs:
        preds = {
            part: np.nan_to_num(own[run]).argmax(axis=1)
            for part, own in tables.items()
            if run in own
        }
        if (code := combine_codes(preds, schema)) is None:
            return []
        codes.append(code)
    return codes


def _run_weight(
    run: str, plan: TaskPlan, route_probs: Mapping[str, Floats] | None, n_photos: int
) -> Floats:
    """Return (N,) weights of a run, above 0 so that it decides photos that no other has seen."""
    if route_probs is None or not plan.route:
        fixed = np.mean([weights.get(run, 0.0) for weights in plan.weights.values()])
        return np.full(n_photos, max(float(fixed), MIN_WEIGHT))
    total = np.zeros(n_photos)
    for name, weights in plan.weights.items():
        total += np.nan_to_num(route_probs[name]) * weights.get(run, 0.0)
    return np.maximum(total, MIN_WEIGHT)


def _one_hot(probs: Floats) -> Floats:
    """Return (N, C) with 1 for the most likely class; NaN rows stay NaN."""
    chosen = np.eye(probs.shape[1], dtype=np.float32)[np.nan_to_num(probs).argmax(axis=1)]
    chosen[np.isnan(probs).any(axis=1)] = np.nan
    return chosen


def _fill_with_prior(found: TaskVote, name: str, prior: Vote | None) -> TaskVote:
    """Put the prior, without thresholds, where no run has predicted the photo."""
    unseen = np.isnan(found.probs).any(axis=1)
    if not unseen.any():
        return found
    if prior is None or name not in prior.probs:
        raise ValueError(f"no run and no prior predicts {name} for some photos")
    probs, preds = found.probs.copy(), found.preds.copy()
    probs[unseen] = prior.probs[name][0]
    preds[unseen] = int(np.argmax(prior.probs[name][0]))
    return TaskVote(probs, preds)

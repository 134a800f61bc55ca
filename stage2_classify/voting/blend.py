"""How an ensemble answers: votes, weights, routes, temperature and thresholds, task by task.

Applies what `ensemble_search` has found; finds nothing itself. Knows arrays and the label schema;
knows nothing of models, files or crops. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.metrics.calibration import scale
from cropfirst.stage2_classify.voting.soft_vote import (
    Condition,
    Vote,
    combine_codes,
    condition_weights,
    marginals,
    soft_vote,
    split_codes,
    vote,
)
from cropfirst.stage2_classify.voting.thresholds import decide

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
Ballots = Mapping[str, Mapping[str, Floats]]
"""Run -> what it was trained on -> (N, classes) probabilities; NaN rows: it has not seen them."""

ANY = ""
"""The state of a task that is not routed."""
FLOOR = 1e-6
"""Say of a run that was left out, on a photo that no other run has seen."""
TIE = 1e-4
"""Say of the probabilities in a hard vote: enough to break a tie, and no more."""


@dataclass(frozen=True)
class TaskPlan:
    """How one task, or the combined code, is answered."""

    weights: Mapping[str, Mapping[str, float]]
    """State -> run -> its weight. "" alone is the state where nothing is routed; else the classes
    of the task `route`, mixed by how likely each of them is."""
    route: str = ""
    """The task that decides which weights count, such as mask; "" = none."""
    vote: str = "soft"
    """soft = the mean of probabilities; hard = each run one voice, ties go to the mean."""
    temperature: float = 1.0
    """Above 1, probabilities are made flatter."""
    offsets: tuple[float, ...] = ()
    """One summand a class to the log-probabilities before the likeliest is taken; () = none."""

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that have a say."""
        says = [run for weights in self.weights.values() for run, w in weights.items() if w > 0]
        return tuple(dict.fromkeys(says))


@dataclass(frozen=True)
class Blended:
    """The probabilities and the answers for one task."""

    probs: Floats
    """(N, C) float32; NaN rows where no run has seen the photo."""
    preds: Ints
    """(N,) int32."""


@dataclass(frozen=True)
class Plan:
    """How all tasks are answered."""

    tasks: Mapping[str, TaskPlan] = field(default_factory=dict)
    """Task or combined code -> how; what is not there is voted on equally by all runs."""


def equal_plan(runs: Sequence[str], *, vote: str = "soft") -> TaskPlan:
    """All runs weigh the same."""
    return TaskPlan({ANY: {run: 1.0 / len(runs) for run in runs}}, vote=vote)


def blend(
    tables: Mapping[str, Floats],
    plan: TaskPlan,
    *,
    says: Mapping[str, Floats] | None = None,
    states: Mapping[str, Floats] | None = None,
) -> Blended:
    """Several runs' probabilities for one task as one answer.

    Args:
        tables: run -> (N, C) probabilities.
        says: run -> (N,) how much it has to say on each photo; None: all of it.
        states: class of the routing task -> (N,) how likely it is; wanted where the plan routes.
    """
    runs = list(tables)
    weights = [_weight(run, plan, states, len(tables[run])) for run in runs]
    if says is not None:
        weights = [weight * says[run] for run, weight in zip(runs, weights, strict=True)]
    mean = soft_vote([tables[run] for run in runs], weights=weights)
    if plan.vote == "hard":
        voices = [_voices(tables[run]) for run in runs]
        mean = (soft_vote(voices, weights=weights) + TIE * mean) / (1 + TIE)
    probs = np.asarray(scale(mean, plan.temperature), np.float32)
    return Blended(probs, decide(np.nan_to_num(probs), plan.offsets))


def hard_codes(codes: Ints, otherwise: Ints) -> npt.NDArray[np.int32]:
    """The code that most runs name; where several are named as often, each task on its own.

    Args:
        codes: (M, N) combined codes of M runs.
        otherwise: (N,) codes made of the tasks' own votes, which settle the ties.
    """
    n_codes = 1 + int(max(codes.max(), otherwise.max()))
    counts = np.zeros((codes.shape[1], n_codes), np.int64)
    for row in codes:
        counts[np.arange(len(row)), row] += 1
    top = counts.max(axis=1, keepdims=True)
    tied = (counts == top).sum(axis=1) > 1
    return np.where(tied, otherwise, counts.argmax(axis=1)).astype(np.int32)


def voted_names(ballots: Ballots, schema: LabelSchema) -> tuple[str, ...]:
    """What is decided by a vote of its own: tasks, or the code where nobody votes on its parts."""
    trained = {name for ballot in ballots.values() for name in ballot}
    combined = schema.combined
    if combined is None or combined.name not in trained:
        return tuple(name for name in schema.names if name in trained)
    if trained & set(combined.tasks):
        trained = (trained | set(combined.tasks)) - {combined.name}
    return tuple(name for name in schema.names if name in trained)


def tables_for(name: str, ballots: Ballots, schema: LabelSchema) -> dict[str, Floats]:
    """Run -> (N, C) probabilities for a task, those of the code's parts by their marginals."""
    joint = schema.combined.name if schema.combined else ""
    found = {}
    for run, ballot in ballots.items():
        if name in ballot:
            found[run] = ballot[name]
        elif joint in ballot and schema.combined and name in schema.combined.tasks:
            found[run] = marginals(ballot[joint], schema)[name].astype(np.float32)
    return found


def plan_vote(
    ballots: Ballots,
    schema: LabelSchema,
    plan: Plan,
    *,
    conditions: Mapping[str, Condition | None] | None = None,
    prior: Vote | None = None,
) -> Vote:
    """The answers of all runs to all tasks; the tasks' answers make the code.

    Args:
        conditions: run -> the part of the photos that it was trained on.
        prior: of one row: what is answered for photos that no run has seen.

    Raises:
        ValueError: photos that neither a run nor `prior` speaks for.
    """
    given = {run: (conditions or {}).get(run) for run in ballots}
    says: dict[str, Floats] | None = None
    if any(given.values()):
        found = condition_weights(list(ballots.values()), list(given.values()), schema)
        says = dict(zip(ballots, found, strict=True))
    names = voted_names(ballots, schema)
    blended: dict[str, Blended] = {}
    for name in sorted(names, key=lambda each: bool(_plan_of(each, plan).route)):
        tables = tables_for(name, ballots, schema)
        how = _plan_of(name, plan, runs=list(tables))
        states = _states(how.route, blended, schema)
        blended[name] = _filled(blend(tables, how, says=says, states=states), name, prior)
    return _as_vote(ballots, blended, names, schema, plan, conditional=says is not None)


def vote_as_planned(
    votes: Sequence[Mapping[str, Floats]],
    runs: Sequence[str],
    schema: LabelSchema,
    plan: Plan,
    *,
    conditions: Sequence[Condition | None] = (),
    priors: Sequence[Mapping[str, Floats]] = (),
) -> Vote:
    """The answers of members, of which several are of one run: that one votes with their mean.

    Args:
        runs: each member's run, as the plan calls it.
        conditions, priors: of each member, as in `ensemble.vote`.
    """
    ballots: dict[str, dict[str, Floats]] = {}
    for run in dict.fromkeys(runs):
        own = [ballot for ballot, name in zip(votes, runs, strict=True) if name == run]
        ballots[run] = {name: soft_vote([ballot[name] for ballot in own]) for name in own[0]}
    rows = [{name: np.asarray(p)[None] for name, p in prior.items()} for prior in priors]
    return plan_vote(
        ballots,
        schema,
        plan,
        conditions=dict(zip(runs, conditions, strict=True)) if conditions else None,
        prior=vote(rows, schema) if rows else None,
    )


def _as_vote(
    ballots: Ballots,
    blended: Mapping[str, Blended],
    names: Sequence[str],
    schema: LabelSchema,
    plan: Plan,
    *,
    conditional: bool,
) -> Vote:
    combined = schema.combined
    probs = {name: blended[name].probs for name in names}
    preds = {name: blended[name].preds for name in names if not schema.is_combined(name)}
    code = combine_codes(preds, schema)
    if combined is not None and combined.name in blended:
        code = blended[combined.name].preds
        parts = marginals(probs[combined.name], schema)
        probs = {part: parts[part] for part in combined.tasks} | probs
        preds |= split_codes(code, schema)
    elif code is not None and combined is not None and not conditional:
        hard = all(_plan_of(part, plan).vote == "hard" for part in combined.tasks)
        codes = _codes_of(ballots, schema) if hard else []
        if len(codes) > 1 and len(codes) == len(ballots):
            code = hard_codes(np.stack(codes), code)
            preds |= split_codes(code, schema)
    order = [name for name in schema.names if name in probs]
    return Vote({name: probs[name] for name in order}, preds, code)


def _codes_of(ballots: Ballots, schema: LabelSchema) -> list[Ints]:
    """The code that each run names, of those that answer all of its parts."""
    codes = []
    for run, ballot in ballots.items():
        tables = {
            part: tables_for(part, {run: ballot}, schema).get(run)
            for part in (schema.combined.tasks if schema.combined else ())
        }
        preds = {
            part: np.nan_to_num(t).argmax(axis=1) for part, t in tables.items() if t is not None
        }
        found = combine_codes(preds, schema)
        if found is not None:
            codes.append(found)
    return codes


def _plan_of(name: str, plan: Plan, runs: Sequence[str] = ()) -> TaskPlan:
    return plan.tasks.get(name) or equal_plan(runs or ["-"])


def _states(
    route: str, blended: Mapping[str, Blended], schema: LabelSchema
) -> dict[str, Floats] | None:
    if not route or route not in blended:
        return None
    return dict(zip(schema.class_names(route), blended[route].probs.T, strict=True))


def _weight(run: str, plan: TaskPlan, states: Mapping[str, Floats] | None, n_photos: int) -> Floats:
    """(N,) weight of a run on each photo."""
    if states is None or not plan.route:
        fixed = np.mean([weights.get(run, 0.0) for weights in plan.weights.values()])
        return np.full(n_photos, max(float(fixed), FLOOR))
    total = np.zeros(n_photos)
    for state, weights in plan.weights.items():
        total += np.nan_to_num(states[state]) * weights.get(run, 0.0)
    return np.maximum(total, FLOOR)


def _voices(table: Floats) -> Floats:
    voices = np.eye(table.shape[1], dtype=np.float32)[np.nan_to_num(table).argmax(axis=1)]
    voices[np.isnan(table).any(axis=1)] = np.nan
    return voices


def _filled(blended: Blended, name: str, prior: Vote | None) -> Blended:
    """The prior's answer where no run has seen the photo: thresholds are not for shares."""
    unseen = np.isnan(blended.probs).any(axis=1)
    if not unseen.any():
        return blended
    if prior is None or name not in prior.probs:
        raise ValueError(f"no run and no prior speaks for some photos on {name}")
    probs, preds = blended.probs.copy(), blended.preds.copy()
    probs[unseen] = prior.probs[name][0]
    preds[unseen] = int(np.argmax(prior.probs[name][0]))
    return Blended(probs, preds)

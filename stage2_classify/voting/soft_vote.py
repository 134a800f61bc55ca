"""Soft voting: many members' probabilities to one result per task and, where asked, one code.

Knows arrays and the label schema; knows nothing of models, files, crops or torch. A member is a
mapping from what it was trained on (a task, or the schema's combined code) to (N, classes)
probabilities; a row of NaN means that the member has not predicted that photo.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.stage2_classify.labels.rules import class_number
from cropfirst.stage2_classify.labels.schema import LabelSchema

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

MIN_WEIGHT = 1e-6
"""Least weight of a member on a photo: it decides only photos that no other has predicted."""


@dataclass(frozen=True)
class Condition:
    """The part of the photos that a member was trained on, such as men."""

    classes: Mapping[str, int]
    """Task -> class number; the part are the photos of all these classes."""
    routing: str = "soft"
    """soft = the vote is weighted by the probability of the part; hard = the member votes where
    the part is the most likely class."""

    @classmethod
    def from_names(
        cls, where: Mapping[str, str], routing: str, schema: LabelSchema
    ) -> Condition | None:
        """Return the condition of a run's setting `where`; None where that is empty."""
        if not where:
            return None
        classes = {task: class_number(schema.task(task), name) for task, name in where.items()}
        return cls(classes, routing)


@dataclass(frozen=True)
class Vote:
    """The result of a vote on N photos."""

    probs: Mapping[str, Floats]
    """Name -> (N, classes) float32, rows summing to 1; a task's in schema order, then the joint
    probabilities of the combined code where they decided it."""
    preds: Mapping[str, Ints]
    """Task -> (N,) int32 class numbers; they agree with `code`."""
    code: Ints | None
    """(N,) int32 combined code; None where the schema has none or a part of it has no vote."""


def soft_vote(
    members: Sequence[Floats], *, weights: Sequence[float | Floats] | None = None
) -> Floats:
    """Return the mean of the members' probabilities over those that have predicted a photo.

    Args:
        members: each (N, C); a row of NaN is not counted.
        weights: one per member, or (N,) one per photo, not negative; None = equal weights.

    Returns:
        (N, C) float32; rows that no member has predicted are NaN.

    Raises:
        ValueError: no members, shapes that differ, or weights that do not fit.
    """
    if not members:
        raise ValueError("soft_vote needs the probabilities of at least one member")
    shapes = {array.shape for array in members}
    if len(shapes) > 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"soft_vote needs (N, C) arrays of one shape, got {sorted(shapes)}")
    scale = [np.asarray(each, np.float64) for each in weights or [1.0] * len(members)]
    bad = any((each < 0).any() for each in scale) or not any(each.any() for each in scale)
    if len(scale) != len(members) or bad:
        raise ValueError(f"wanted {len(members)} weights >= 0, not all of them 0, got {weights}")
    total = np.zeros(members[0].shape)
    weight = np.zeros((len(total), 1))
    for array, factor in zip(members, scale, strict=True):
        seen = ~np.isnan(array).any(axis=1, keepdims=True)
        column = factor.reshape(-1, 1)
        total += np.where(seen, array, 0.0) * column
        weight += seen * column
    mean = np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan)
    return mean.astype(np.float32)


def marginals(joint: Floats, schema: LabelSchema) -> dict[str, Floats]:
    """Return the probabilities of each part of the combined code, from those of the code.

    Args:
        joint: (N, codes), codes in the schema's mixed-radix order.
    """
    parts, sizes = _parts(schema)
    if joint.ndim != 2 or joint.shape[1] != math.prod(sizes):
        raise ValueError(f"wanted (N, {math.prod(sizes)}) probabilities, got {joint.shape}")
    cube = joint.reshape(-1, *sizes)
    axes = range(1, cube.ndim)
    return {
        part: cube.sum(axis=tuple(other for other in axes if other != axis))
        for axis, part in zip(axes, parts, strict=True)
    }


def select_tasks(
    probs: Mapping[str, Floats], tasks: Collection[str], schema: LabelSchema
) -> dict[str, Floats]:
    """Return a member's probabilities of some tasks.

    Of a code with other parts, the marginals of these tasks are taken.

    Args:
        probs: task or code -> (N, classes).
    """
    own = dict(probs)
    joint = next((name for name in own if schema.is_combined(name)), None)
    if joint is not None and not schema.tasks_of([joint]) <= set(tasks):
        own = marginals(own.pop(joint), schema) | own
    return {name: table for name, table in own.items() if schema.tasks_of([name]) <= set(tasks)}


def combine_codes(preds: Mapping[str, Ints], schema: LabelSchema) -> Ints | None:
    """Return (N,) combined codes of the parts' class numbers; None where a part is missing."""
    if schema.combined is None or any(part not in preds for part in schema.combined.tasks):
        return None
    parts, sizes = _parts(schema)
    codes = np.ravel_multi_index([preds[part] for part in parts], sizes)
    return np.asarray(codes, dtype=np.int32)


def split_codes(codes: Ints, schema: LabelSchema) -> dict[str, Ints]:
    """Return the parts of (N,) combined codes, as the inverse of `combine_codes`."""
    parts, sizes = _parts(schema)
    split = np.unravel_index(np.asarray(codes, dtype=np.int64), sizes)
    return {part: column.astype(np.int32) for part, column in zip(parts, split, strict=True)}


def vote(
    members: Sequence[Mapping[str, Floats]],
    schema: LabelSchema,
    *,
    priors: Sequence[Mapping[str, Floats]] = (),
    conditions: Sequence[Condition | None] = (),
) -> Vote:
    """Return the soft vote on each task; the tasks' classes make the combined code.

    A member trained on the combined code votes on each of its parts with its marginals. Where all
    that vote on these parts are such members, the mean of their joint probabilities decides the
    code, and the code decides the tasks' classes.

    Args:
        members: each member's task -> probabilities of the same N photos.
        priors: each member's class shares in training, name -> (C,); their vote is taken for
            photos that no member has predicted.
        conditions: one per member; () = none has one. The vote of a member with a condition is
            weighted by the probability, among the members without, that the condition is met.

    Raises:
        ValueError: no members, names that the schema does not have, or photos that no member has
            predicted where there are no priors.
    """
    weights = condition_weights(members, conditions, schema) if any(conditions) else None
    probs = _mean_probs(members, schema, weights)
    if priors:
        rows = [{name: np.asarray(p)[None] for name, p in prior.items()} for prior in priors]
        for name, row in _mean_probs(rows, schema).items():
            probs[name][np.isnan(probs[name]).any(axis=1)] = row[0]
    unseen = [name for name, table in probs.items() if np.isnan(table).any()]
    if unseen:
        raise ValueError(f"no member and no prior predicts {', '.join(unseen)} for some photos")
    preds = {
        name: table.argmax(axis=1).astype(np.int32)
        for name, table in probs.items()
        if not schema.is_combined(name)
    }
    code = combine_codes(preds, schema)
    if schema.combined is not None and schema.combined.name in probs:
        code = probs[schema.combined.name].argmax(axis=1).astype(np.int32)
        preds |= split_codes(code, schema)
    return Vote(probs, preds, code)


def condition_weights(
    members: Sequence[Mapping[str, Floats]],
    conditions: Sequence[Condition | None],
    schema: LabelSchema,
) -> list[Floats]:
    """Return each member's (N,) weight on each photo."""
    free = [m for m, condition in zip(members, conditions, strict=True) if condition is None]
    known = _mean_probs(free, schema) if free else {}
    weights = []
    for member, condition in zip(members, conditions, strict=True):
        weight = np.ones(len(next(iter(member.values()))))
        for task, code in (condition.classes if condition else {}).items():
            if task not in known:
                raise ValueError(
                    f"a member has a condition on {task}, which no member without one predicts"
                )
            table = np.nan_to_num(known[task])
            hard = condition is not None and condition.routing == "hard"
            met = table.argmax(1) == code if hard else table[:, code]
            weight = weight * met
        weights.append(np.maximum(weight, MIN_WEIGHT))
    return weights


def _mean_probs(
    members: Sequence[Mapping[str, Floats]],
    schema: LabelSchema,
    weights: Sequence[Floats] | None = None,
) -> dict[str, Floats]:
    if not members:
        raise ValueError("vote needs at least one member")
    unknown = {name for member in members for name in member} - set(schema.names)
    if unknown:
        raise ValueError(f"members vote on {sorted(unknown)}, the schema has {schema.names}")
    joint, parts = (schema.combined.name, schema.combined.tasks) if schema.combined else ("", ())
    votes: dict[str, list[Floats]] = {name: [] for name in schema.names}
    by_name: dict[str, list[Floats]] = {name: [] for name in schema.names}
    for index, member in enumerate(members):
        own = dict(member)
        if joint in own:
            own = marginals(own[joint], schema) | own
        for name, table in own.items():
            votes[name].append(table)
            by_name[name].append(np.ones(1) if weights is None else weights[index])
    if any(part in member for member in members for part in parts):
        votes.pop(joint)
    return {
        name: soft_vote(tables, weights=by_name[name]) for name, tables in votes.items() if tables
    }


def _parts(schema: LabelSchema) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if schema.combined is None:
        raise ValueError(f"the label schema {schema.name!r} has no combined code")
    parts = schema.combined.tasks
    return parts, tuple(schema.task(part).num_classes for part in parts)

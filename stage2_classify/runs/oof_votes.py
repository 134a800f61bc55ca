"""Several runs' out-of-fold predictions as one answer a photo, for a task or for the code.

Knows `Oof` tables and the label schema; knows nothing of files or scores. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.oof import Oof
from cropfirst.stage2_classify.voting.prediction_table import STATUSES
from cropfirst.stage2_classify.voting.soft_vote import combine_codes, vote

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Answered:
    """The answers for the photos that all voters have, one row a photo."""

    keys: tuple[str, ...]
    targets: Ints
    """(N,) class numbers."""
    preds: Ints
    """(N,) class numbers."""
    statuses: tuple[str, ...]
    n_differ: int
    """Photos left out, since their labels differ between the runs."""
    probs: npt.NDArray[np.floating] | None = None
    """(N, classes) probabilities; None where the answer is put together of several tasks'."""


def voters_for(oofs: Sequence[Oof], name: str, schema: LabelSchema) -> list[Oof]:
    """The runs that vote on a task or the code; empty where together they cannot answer it.

    A run of a part of the photos, alone, answers for that part. Among others it votes where some of
    them say who belongs to the part, and those come along.
    """
    parts = set(_parts(name, schema))
    speak = [oof for oof in oofs if not _answered(oof, schema).isdisjoint(parts)]
    if len(oofs) == 1:
        voters = [oof.its_part() for oof in speak]
    else:
        speak = [oof for oof in speak if can_route(oof, oofs, schema)]
        asked = {task for oof in speak if oof.condition for task in oof.condition.classes}
        voters = [
            oof
            for oof in oofs
            if any(oof is each for each in speak)
            or (oof.condition is None and asked & _answered(oof, schema))
        ]
    known = set().union(*(_answered(oof, schema) for oof in voters))
    return voters if known.issuperset(parts) else []


def can_route(oof: Oof, oofs: Sequence[Oof], schema: LabelSchema) -> bool:
    """Whether a run has no condition, or those of `oofs` without one know who meets it."""
    if oof.condition is None:
        return True
    known = [_answered(other, schema) for other in oofs if other.condition is None]
    return set().union(*known).issuperset(oof.condition.classes)


def join(voters: Sequence[Oof], name: str, schema: LabelSchema) -> tuple[list[Oof], Ints, int]:
    """The rows of the photos that all voters have and agree on, in the order of their keys.

    Args:
        voters: what `voters_for` gave; not empty.

    Returns:
        The voters cut down to these rows, (N,) class numbers, and how many photos were left out
        since their labels differ between the runs.
    """
    shared = set(voters[0].keys).intersection(*(oof.keys for oof in voters[1:]))
    joined = [oof.take(sorted(shared)) for oof in voters]
    targets, agree = _merge_targets(joined, (*_parts(name, schema), name))
    joined = [oof.take([oof.keys[row] for row in np.flatnonzero(agree)]) for oof in joined]
    targets = {each: codes[agree] for each, codes in targets.items()}
    truth = targets[name] if name in targets else combine_codes(targets, schema)
    assert truth is not None, "voters_for has seen to it"
    return joined, truth, int((~agree).sum())


def answer(voters: Sequence[Oof], name: str, schema: LabelSchema) -> Answered:
    """Soft vote of the runs on the photos that all of them have.

    Args:
        voters: what `voters_for` gave; not empty.
    """
    joined, truth, n_differ = join(voters, name, schema)
    # Alone, a run of a part was cut down to it: there is nothing to be routed.
    conditions = [oof.condition if len(joined) > 1 else None for oof in joined]
    ballot = vote([oof.probs for oof in joined], schema, conditions=conditions)
    preds = ballot.code if schema.is_combined(name) else ballot.preds[name]
    assert preds is not None, "voters_for has seen to it"
    probs = ballot.probs.get(name)
    return Answered(joined[0].keys, truth, preds, worst_statuses(joined), n_differ, probs)


def worst_statuses(joined: Sequence[Oof]) -> tuple[str, ...]:
    """Of each photo, the worst status that its crops have in any of the runs."""
    ranks = [[STATUSES.index(status) for status in oof.statuses] for oof in joined]
    return tuple(STATUSES[max(each)] for each in zip(*ranks, strict=True))


def _parts(name: str, schema: LabelSchema) -> tuple[str, ...]:
    combined = schema.combined
    return combined.tasks if combined is not None and combined.name == name else (name,)


def _answered(oof: Oof, schema: LabelSchema) -> set[str]:
    """The tasks that a run votes on, by heads of their own or as parts of the code."""
    return {part for name in oof.probs for part in _parts(name, schema)}


def _merge_targets(
    joined: Sequence[Oof], names: Sequence[str]
) -> tuple[dict[str, Ints], npt.NDArray[np.bool_]]:
    """The class numbers of the same photos, and where all runs that have them agree."""
    targets: dict[str, Ints] = {}
    agree = np.ones(len(joined[0].keys), dtype=bool)
    for oof in joined:
        for name in names:
            if name in oof.targets:
                agree &= targets.setdefault(name, oof.targets[name]) == oof.targets[name]
    return targets, agree

"""A vote of several runs on their out-of-fold predictions, for a task or for the code.

Knows out-of-fold predictions and the label schema; knows nothing of files or scores. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.oof_predictions import OofPredictions
from cropfirst.stage2_classify.voting.prediction_table import STATUSES
from cropfirst.stage2_classify.voting.soft_vote import combine_codes, vote

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class OofVote:
    """The result of a vote on the photos that all voters have, one row per photo."""

    keys: tuple[str, ...]
    targets: Ints
    """(N,) true class numbers."""
    preds: Ints
    """(N,) predicted class numbers."""
    statuses: tuple[str, ...]
    n_differ: int
    """Number of photos left out because their labels differ between the runs."""
    probs: npt.NDArray[np.floating] | None = None
    """(N, classes) probabilities; None if the code is combined from several tasks' votes."""


def voters_for(
    oofs: Sequence[OofPredictions], name: str, schema: LabelSchema
) -> list[OofPredictions]:
    """Return the runs that vote on a task or the code; empty if they cannot predict it together.

    A single run with a condition votes on the photos that meet it. Among others it votes if some of
    them predict whether the condition is met, and those are returned too.
    """
    parts = schema.tasks_of([name])
    speak = [oof for oof in oofs if not schema.tasks_of(oof.probs).isdisjoint(parts)]
    if len(oofs) == 1:
        voters = [oof.own_part() for oof in speak]
    else:
        speak = [oof for oof in speak if can_route(oof, oofs, schema)]
        asked = {task for oof in speak if oof.condition for task in oof.condition.classes}
        voters = [
            oof
            for oof in oofs
            if any(oof is each for each in speak)
            or (oof.condition is None and asked & schema.tasks_of(oof.probs))
        ]
    known = set().union(*(schema.tasks_of(oof.probs) for oof in voters))
    return voters if known.issuperset(parts) else []


def can_route(oof: OofPredictions, oofs: Sequence[OofPredictions], schema: LabelSchema) -> bool:
    """Tell whether a run has no condition, or runs without one predict whether it is met."""
    if oof.condition is None:
        return True
    known = [schema.tasks_of(other.probs) for other in oofs if other.condition is None]
    return set().union(*known).issuperset(oof.condition.classes)


def join(
    voters: Sequence[OofPredictions], name: str, schema: LabelSchema
) -> tuple[list[OofPredictions], Ints, int]:
    """Return the rows of the photos that all voters have, in the order of their keys.

    Args:
        voters: as `voters_for` returned them; not empty.

    Returns:
        The voters with these rows only, (N,) true class numbers, and the number of photos left
        out because their labels differ between the runs.
    """
    shared = set(voters[0].keys).intersection(*(oof.keys for oof in voters[1:]))
    joined = [oof.take(sorted(shared)) for oof in voters]
    targets, agree = _merge_targets(joined, (*schema.tasks_of([name]), name))
    joined = [oof.take([oof.keys[row] for row in np.flatnonzero(agree)]) for oof in joined]
    targets = {each: codes[agree] for each, codes in targets.items()}
    truth = targets[name] if name in targets else combine_codes(targets, schema)
    assert truth is not None, "voters_for has checked this"
    return joined, truth, int((~agree).sum())


def answer(voters: Sequence[OofPredictions], name: str, schema: LabelSchema) -> OofVote:
    """Let runs vote softly on the photos that all of them have.

    Args:
        voters: as `voters_for` returned them; not empty.
    """
    joined, truth, n_differ = join(voters, name, schema)
    # A single run with a condition has only the rows that meet it: nothing is to be routed.
    conditions = [oof.condition if len(joined) > 1 else None for oof in joined]
    ballot = vote([oof.probs for oof in joined], schema, conditions=conditions)
    preds = ballot.code if schema.is_combined(name) else ballot.preds[name]
    assert preds is not None, "voters_for has checked this"
    probs = ballot.probs.get(name)
    return OofVote(joined[0].keys, truth, preds, worst_statuses(joined), n_differ, probs)


def worst_statuses(joined: Sequence[OofPredictions]) -> tuple[str, ...]:
    """Return the worst status that each photo's crops have in any of the runs."""
    ranks = [[STATUSES.index(status) for status in oof.statuses] for oof in joined]
    return tuple(STATUSES[max(each)] for each in zip(*ranks, strict=True))


def _merge_targets(
    joined: Sequence[OofPredictions], names: Sequence[str]
) -> tuple[dict[str, Ints], npt.NDArray[np.bool_]]:
    """Return the class numbers of the same photos, and where the runs agree on them."""
    targets: dict[str, Ints] = {}
    agree = np.ones(len(joined[0].keys), dtype=bool)
    for oof in joined:
        for name in names:
            if name in oof.targets:
                agree &= targets.setdefault(name, oof.targets[name]) == oof.targets[name]
    return targets, agree

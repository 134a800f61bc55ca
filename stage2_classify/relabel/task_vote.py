"""The labels of one task beside the vote of its runs, and whether that vote tells anything of them.

Predictions that are no better than chance contradict right labels as often as wrong ones. Knows
out-of-fold predictions and persons; writes nothing. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.stage2_classify.datasets import PhotoSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.metrics.chance import compare_with_chance
from cropfirst.stage2_classify.metrics.intervals import number_people
from cropfirst.stage2_classify.runs.oof_predictions import OofPredictions
from cropfirst.stage2_classify.runs.oof_vote import voters_for
from cropfirst.stage2_classify.voting.soft_vote import vote


@dataclass(frozen=True)
class TaskVote:
    """The labels of one task, and the vote of its runs on them, one row per photo."""

    keys: tuple[str, ...]
    targets: npt.NDArray[np.integer]
    """(N,) class numbers of the labels."""
    probs: npt.NDArray[np.floating]
    """(N, classes) out-of-fold probabilities."""
    people: tuple[str | None, ...]
    """Persons, None where unknown."""


def vote_on_task(
    task: str, oofs: Sequence[OofPredictions], schema: LabelSchema, photos: PhotoSet
) -> TaskVote:
    """Let the runs that predict a task vote on the photos that all of them have."""
    voters = voters_for(oofs, task, schema)
    shared = set(voters[0].keys).intersection(*(oof.keys for oof in voters[1:]))
    samples = photos.by_key()
    keys = sorted(shared & samples.keys())
    joined = [oof.take(keys) for oof in voters]
    conditions = [oof.condition if len(joined) > 1 else None for oof in joined]
    probs = vote([oof.probs for oof in joined], schema, conditions=conditions).probs[task]
    targets = next(oof.targets[task] for oof in joined if task in oof.targets)
    return TaskVote(tuple(keys), targets, probs, tuple(samples[key].group for key in keys))


def find_fault(found: TaskVote) -> str:
    """Return why the predictions of a task tell nothing about its labels; "" where they do."""
    if not found.keys:
        return "no photo of the data set has been predicted by all of its runs"
    if len(np.unique(found.targets)) < 2:
        return "all of its labels are of one class"
    person_of = {key: f"person {who}" for key, who in zip(found.keys, found.people, strict=True)
                 if who is not None}  # fmt: skip
    people = number_people(found.keys, person_of)
    chance = compare_with_chance(people, found.targets, found.probs.argmax(1), found.probs.shape[1])
    return "" if chance.is_better else f"the models are no better than chance ({chance})"

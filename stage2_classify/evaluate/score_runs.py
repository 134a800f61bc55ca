"""Scores out-of-fold predictions: each run, and the vote of all runs.

Knows `OofPredictions` tables and the label schema; writes nothing. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cropfirst.stage2_classify.evaluate.task_report import TaskReport, make_report
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.metrics.intervals import number_people
from cropfirst.stage2_classify.runs.baselines import Voters, voting_oofs
from cropfirst.stage2_classify.runs.oof_predictions import OofPredictions
from cropfirst.stage2_classify.runs.oof_vote import OofVote, answer, can_route, voters_for
from cropfirst.stage2_classify.runs.swapped_scores import SwappedScore, compare_rooms


def score_runs(
    oofs: Sequence[OofPredictions],
    schema: LabelSchema,
    voters: Voters,
    people: Mapping[str, str],
    notes: list[str],
) -> tuple[list[TaskReport], dict[str, OofVote]]:
    """Score each run, and those that vote together.

    Args:
        voters: the tasks that each run votes on.
        people: key -> person.
        notes: list that a line is added to for everything that could not be scored.

    Returns:
        Reports in schema order, of each task the baselines that do not vote first and the headline
        last; and the predictions behind each task's headline.
    """
    scored: list[tuple[TaskReport, OofVote]] = []
    voting = voting_oofs(oofs, voters, schema)
    for group in [*([oof] for oof in oofs), *([voting] if len(voting) > 1 else [])]:
        for name in schema.names:
            found = voters_for(group, name, schema)
            is_repeated = len(group) > 1 and len(found) == 1  # the run has a report already
            if is_repeated or not found:
                continue
            answered = answer(found, name, schema)
            if not answered.keys:
                notes.append(f"{name}: no photo is in all of {', '.join(o.name for o in found)}")
                continue
            source = found[0].name if len(found) == 1 else f"soft vote of {len(found)} runs"
            report = report_of(name, answered, schema, source=source, note=_note(found, answered))
            votes = group is voting or _votes(group[0], name, schema, voters)
            swapped = _score_in_rooms(group, answered, name, schema, people)
            scored.append((replace(report, votes=votes, swapped=swapped), answered))
    for oof in voting if len(voting) > 1 else ():
        if not can_route(oof, voting, schema):
            tasks = ", ".join(oof.condition.classes if oof.condition else ())
            notes.append(f"{oof.name} is not in the vote: no run predicts the {tasks} of a photo")
    scored.sort(key=lambda pair: (schema.names.index(pair[0].task), pair[0].votes))
    return [report for report, _ in scored], {report.task: votes for report, votes in scored}


def _score_in_rooms(
    group: Sequence[OofPredictions],
    own: OofVote,
    name: str,
    schema: LabelSchema,
    people: Mapping[str, str],
) -> SwappedScore | None:
    """Score the vote of some runs in swapped rooms; None where one of them has none there.

    Args:
        own: their vote out of fold.
    """
    rooms = [oof.swapped for oof in group if oof.swapped is not None]
    found = voters_for(rooms, name, schema) if len(rooms) == len(group) else []
    if not found:
        return None
    answered = answer(found, name, schema)
    place = {key: row for row, key in enumerate(own.keys)}
    rows = [(row, place[key]) for row, key in enumerate(answered.keys) if key in place]
    if not rows:
        return None
    first, second = np.array(rows).T
    numbers = number_people([answered.keys[row] for row in first], people)
    return compare_rooms(
        numbers,
        answered.targets[first],
        answered.preds[first],
        own.preds[second],
        schema.num_classes(name),
    )


def _votes(oof: OofPredictions, name: str, schema: LabelSchema, voters: Voters) -> bool:
    """Return whether a run votes on a task, or on all parts of the code."""
    assert oof.path is not None
    return schema.tasks_of([name]) <= voters.of(oof.path)


def report_of(
    name: str, answered: OofVote, schema: LabelSchema, *, source: str, note: str = ""
) -> TaskReport:
    """Score the predictions of one source for a task."""
    return make_report(
        name,
        source=source,
        class_names=schema.class_names(name),
        targets=answered.targets,
        preds=answered.preds,
        statuses=answered.statuses or None,
        note=note,
    )


def _note(voters: Sequence[OofPredictions], answered: OofVote) -> str:
    """Return which photos were scored, where it is not all of them."""
    n_joined = len(answered.keys)
    if len(voters) == 1:
        condition = voters[0].condition
        part = ", ".join(condition.classes) if condition else ""
        return f"only the {n_joined} photos of the {part} that it was trained on" if part else ""
    n_all = len({key for oof in voters for key in oof.keys})
    names = ", ".join(oof.name for oof in voters)
    note = f"{n_joined} of {n_all} photos could be joined by key from {names}"
    if answered.n_differ:
        note += f"; {answered.n_differ} were left out, their labels differ between the runs"
    return note

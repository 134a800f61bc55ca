"""Scores out-of-fold predictions: each run, and the vote of all runs.

Knows `OofPredictions` tables and the label schema; writes nothing. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from cropfirst.stage2_classify.evaluate.task_report import TaskReport, make_report
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.oof_predictions import OofPredictions
from cropfirst.stage2_classify.runs.oof_vote import OofVote, answer, can_route, voters_for


def score_runs(
    oofs: Sequence[OofPredictions], schema: LabelSchema, notes: list[str]
) -> tuple[list[TaskReport], dict[str, OofVote]]:
    """Score each run, and all of them together.

    Args:
        notes: list that a line is added to for everything that could not be scored.

    Returns:
        Reports in schema order, and the predictions behind each task's headline.
    """
    reports = []
    answers: dict[str, OofVote] = {}
    for group in [[oof] for oof in oofs] + ([oofs] if len(oofs) > 1 else []):
        for name in schema.names:
            voters = voters_for(group, name, schema)
            is_repeated = len(group) > 1 and len(voters) == 1  # the run has a report already
            if is_repeated or not voters:
                continue
            answered = answer(voters, name, schema)
            if not answered.keys:
                notes.append(f"{name}: no photo is in all of {', '.join(o.name for o in voters)}")
                continue
            source = voters[0].name if len(voters) == 1 else f"soft vote of {len(voters)} runs"
            note = _note(voters, answered)
            reports.append(report_of(name, answered, schema, source=source, note=note))
            answers[name] = answered
    for oof in oofs if len(oofs) > 1 else ():
        if not can_route(oof, oofs, schema):
            tasks = ", ".join(oof.condition.classes if oof.condition else ())
            notes.append(f"{oof.name} is not in the vote: no run predicts the {tasks} of a photo")
    reports.sort(key=lambda report: schema.names.index(report.task))
    return reports, {name: answers[name] for name in schema.names if name in answers}


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

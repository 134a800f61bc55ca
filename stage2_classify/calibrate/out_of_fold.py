"""The votes of an ensemble out of fold: each person by the models that were not trained on them.

Reads tables alone; fits and judges nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from cropfirst.core.console import say
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.calibrate.task_answers import Floats, Ints, TaskAnswers
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.metrics.intervals import number_people
from cropfirst.stage2_classify.predict.ensemble_file import Ensemble
from cropfirst.stage2_classify.runs.baselines import choose_voters, voting_oofs
from cropfirst.stage2_classify.runs.oof_predictions import (
    OofPredictions,
    read_oof_runs,
    read_people,
)
from cropfirst.stage2_classify.runs.oof_vote import join, voters_for, worst_statuses
from cropfirst.stage2_classify.runs.run_folder import RunFolder
from cropfirst.stage2_classify.runs.run_paths import ALL, is_fold, run_folder, run_of
from cropfirst.stage2_classify.voting.blend import vote_runs
from cropfirst.stage2_classify.voting.vote_plan import VotePlan


def trained_on_everybody(folders: Sequence[Path]) -> list[Path]:
    """Return the checkpoints of no fold: of all photos (--all-data), or soups of folds."""
    return [each for each in folders if each.parent.name == ALL or not is_fold(each.parent)]


def read_votes(
    runs: Sequence[Path], voting: Ensemble, console: Console | None = None
) -> tuple[LabelSchema, list[OofPredictions]]:
    """Read the out-of-fold predictions of the runs that vote, with their names in the plan.

    Args:
        console: where notes on what is missing are printed; None prints nothing.

    Raises:
        TrainError: a model has no out-of-fold predictions, or not those that `predict` votes with.
    """
    whole = trained_on_everybody(voting.found.folders)
    if whole:
        raise TrainError(_nobody_left(whole[0]))
    schema, oofs, notes = read_oof_runs(runs)
    for note in (*voting.voters.notes, *notes):
        say(console, note, style="yellow")
    oofs = voting_oofs(oofs, choose_voters(oofs, runs, schema), schema)
    named = zip(voting.found.folders, voting.run_names, strict=True)
    names = {run_folder(run_of(folder)): name for folder, name in named}
    paths = [run_folder(oof.path) for oof in oofs if oof.path]
    twice = [path for path in paths if paths.count(path) > 1]
    if twice:
        raise TrainError(f"name {twice[0]} itself, or one of its folds alone, not several of them")
    found = zip(paths, oofs, strict=True)
    return schema, [replace(oof, name=names[path]) for path, oof in found if path in names]


def _nobody_left(checkpoint: Path) -> str:
    """Return the message on a checkpoint that was trained on everybody, with the ways out."""
    run = run_of(checkpoint)
    text = (
        f"{checkpoint.parent} votes and was trained on everybody, so nobody is left to calibrate "
        "with: give people that it was not trained on (--data HELD_OUT)"
    )
    folds = RunFolder(run).finished_folds()
    if not folds:
        return text
    return (
        f"{text}, or calibrate one fold alone, in a file of its own: cropfirst calibrate "
        f"{RunFolder(run).fold(folds[0])} --ensemble fold{folds[0]}.json"
    )


def answers_out_of_fold(
    oofs: Sequence[OofPredictions], schema: LabelSchema, plan: VotePlan
) -> list[TaskAnswers]:
    """Return the votes of runs on each task: each photo by the folds that did not see its person.

    Args:
        oofs: as `read_votes` returned them.
    """
    people = read_people([oof.path for oof in oofs if oof.path])
    words = _known_classes(oofs, schema)
    found = []
    for task in schema.task_names:
        voters = voters_for(oofs, task, schema)
        if route := plan.task(task, [""]).route:
            routing = voters_for(oofs, route, schema)
            voters += [oof for oof in routing if not any(oof is each for each in voters)]
        if not voters:
            continue
        joined, targets, _ = join(voters, task, schema)
        keys = joined[0].keys
        facts: dict[str, Sequence[str | None]] = {
            name: [own.get(key) for key in keys] for name, own in words.items()
        }
        facts["crop"] = worst_statuses(joined)
        found.append(
            TaskAnswers(
                task, schema.class_names(task), _vote(joined, task, schema, plan), targets,
                number_people(keys, people), facts,
                _in_swapped_rooms(voters, keys, task, schema, plan),
            )
        )  # fmt: skip
    return found


def _vote(
    joined: Sequence[OofPredictions], task: str, schema: LabelSchema, plan: VotePlan
) -> Floats:
    """Return the (N, C) probabilities that runs with the same photos vote for."""
    # A single run with a condition has only the photos that meet it: nothing is to be routed.
    conditions = {oof.name: oof.condition if len(joined) > 1 else None for oof in joined}
    probs = {oof.name: oof.probs for oof in joined}
    return vote_runs(probs, schema, plan, conditions=conditions).probs[task]


def _in_swapped_rooms(
    voters: Sequence[OofPredictions],
    keys: Sequence[str],
    task: str,
    schema: LabelSchema,
    plan: VotePlan,
) -> tuple[Ints, Floats] | None:
    swapped = [replace(oof.swapped, name=oof.name) for oof in voters if oof.swapped is not None]
    if len(swapped) < len(voters):
        return None
    shared = set(keys).intersection(*(oof.keys for oof in swapped))
    rows = [row for row, key in enumerate(keys) if key in shared]
    joined = [oof.take([keys[row] for row in rows]) for oof in swapped]
    return np.array(rows, np.int64), _vote(joined, task, schema, plan)


def _known_classes(
    oofs: Sequence[OofPredictions], schema: LabelSchema
) -> dict[str, dict[str, str]]:
    """Return task -> key -> name of the true class, of the tasks that some run was trained on."""
    words: dict[str, dict[str, str]] = {}
    for oof in oofs:
        for task in set(schema.task_names) & set(oof.targets):
            names = schema.class_names(task)
            own = (names[code] for code in oof.targets[task])
            words.setdefault(task, {}).update(zip(oof.keys, own, strict=True))
    return words

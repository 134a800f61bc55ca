"""The votes that calibrate: on people that the voting models were not trained on.

Out of fold, from tables alone; or on other people, whose crops are predicted as `predict` does.
Fits and judges nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from cropfirst.cache import Cache
from cropfirst.core.console import say
from cropfirst.core.errors import DataError, TrainError
from cropfirst.core.fingerprint import content_hash
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample
from cropfirst.stage2_classify.labels.photo_facts import photo_facts
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.labels.task import LabelError
from cropfirst.stage2_classify.metrics.intervals import number_people
from cropfirst.stage2_classify.predict.ensemble_file import Ensemble
from cropfirst.stage2_classify.predict.predict import vote_on_photos
from cropfirst.stage2_classify.runs.baselines import choose_voters, voting_oofs
from cropfirst.stage2_classify.runs.oof_predictions import (
    OofPredictions,
    read_oof_runs,
    read_people,
)
from cropfirst.stage2_classify.runs.oof_vote import join, voters_for, worst_statuses
from cropfirst.stage2_classify.runs.parquet import read_parquet
from cropfirst.stage2_classify.runs.run_paths import ALL, is_fold, run_folder, run_of
from cropfirst.stage2_classify.voting.blend import vote_runs
from cropfirst.stage2_classify.voting.vote_plan import VotePlan

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class TaskAnswers:
    """The votes on one task, one row per photo."""

    task: str
    classes: tuple[str, ...]
    probs: Floats
    """(N, C) probabilities, as `predict` gives them."""
    targets: Ints
    """(N,) true class numbers."""
    people: Ints
    """(N,) numbers of persons, from 0."""
    facts: Mapping[str, Sequence[str | None]]
    """Name of a fact -> (N,) its word, None where it is not known."""
    swapped: tuple[Ints, Floats] | None = None
    """(M,) rows of the photos with a swapped crop, and (M, C) probabilities there; None where a
    run has none."""
    hashes: frozenset[str] = frozenset()
    """Hashes of the persons, see `person_hash`; empty out of fold."""

    def count_people(self) -> dict[str, int]:
        """Return class -> number of people with a photo of it."""
        return {
            name: len(np.unique(self.people[self.targets == code]))
            for code, name in enumerate(self.classes)
        }


@dataclass(frozen=True)
class HeldOut:
    """People that no run was trained on, and how to predict them."""

    photos: PhotoSet
    cache: Cache
    device: str = "auto"
    batch_size: int = 64
    detect_defaults: Mapping[str, Any] | None = None
    """Config of the crops that detect makes by default, for messages."""


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
        raise TrainError(
            f"{whole[0].parent} was trained on everybody, so there are no out-of-fold predictions "
            "of it: calibrate with people that it was not trained on (--data HELD_OUT), or name "
            "folds (RUN/fold0)"
        )
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


def out_of_fold(
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


def held_out(
    voting: Ensemble,
    data: HeldOut,
    *,
    tasks: Collection[str] | None,
    without: Collection[str] = (),
    console: Console,
) -> list[TaskAnswers]:
    """Let the ensemble vote on people that none of its runs was trained on.

    People that a run was trained on, by their id, and photos without a crop are left out.

    Args:
        tasks: tasks to vote on; None = all that the ensemble votes on.
        without: hashes of further people to leave out, see `person_hash`.

    Raises:
        DataError: nobody is left, or no photo has a label.
    """
    schema, photos = voting.found.schema, data.photos
    samples = _others(photos, voting, without, console)
    wanted = voting.found.schema.tasks_of(voting.found.tasks) & set(tasks or schema.task_names)
    targets = {task: [_class_number(sample, task, schema) for sample in samples] for task in wanted}
    rows = [
        row for row in range(len(samples)) if any(own[row] is not None for own in targets.values())
    ]
    if not rows:
        raise DataError(
            f"none of the photos in {photos.root} has a label for {', '.join(sorted(wanted))}: "
            "calibrating needs the true classes of people that no run was trained on"
        )
    labelled = replace(
        photos, samples=tuple(replace(samples[row], split="eval") for row in rows), submission=None
    )
    votes = vote_on_photos(
        voting, labelled, data.cache, device=data.device, batch_size=data.batch_size,
        detect_defaults=data.detect_defaults, console=console,
    )  # fmt: skip
    if none := int((votes.members == 0).sum()):
        say(console, f"left out: {none} photos without a crop")
    found = []
    for task in (name for name in schema.task_names if name in wanted):
        codes = [targets[task][row] for row in rows]
        own = [n for n, code in enumerate(codes) if code is not None and votes.members[n]]
        if not own:
            continue
        kept = [votes.photos.samples[n] for n in own]
        keys = [sample.key for sample in kept]
        facts: dict[str, Sequence[str | None]] = dict(photo_facts(keys, photos, schema, None))
        facts["crop"] = [votes.photos.statuses[n] for n in own]
        people = {s.key: f"person {s.group}" for s in kept if s.group is not None}
        found.append(
            TaskAnswers(
                task, schema.class_names(task), votes.result.probs[task][own],
                np.array([codes[n] for n in own], np.int32), number_people(keys, people), facts,
                hashes=frozenset(map(person_hash, kept)),
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


def person_hash(sample: Sample) -> str:
    """Return 8 hex characters that stand for the person of a photo, or for a photo without one."""
    name = f"photo {sample.key}" if sample.group is None else f"person {sample.group}"
    return content_hash(name.encode())[:8]


def _others(
    photos: PhotoSet, voting: Ensemble, without: Collection[str], console: Console
) -> list[Sample]:
    """Return the photos of people that no run was trained on, and that are not in `without`."""
    groups, keys = set[str](), set[str]()
    for run in dict.fromkeys(run_of(folder) for folder in voting.found.folders):
        table = run / "folds.parquet"
        if not table.is_file():
            raise TrainError(
                f"{table} is missing, so nobody can tell which people {run.name} was trained on: "
                "copy it beside the run's folds"
            )
        rows = read_parquet(table)
        groups |= set(rows["group"].drop_nulls().to_list())
        keys |= set(rows["key"].to_list())
    known = [each for each in photos.samples if each.group in groups or each.key in keys]
    left = {each.key for each in known}
    others = [each for each in photos.samples if each.key not in left]
    calibrated = [each for each in others if person_hash(each) in without]
    others = [each for each in others if person_hash(each) not in without]
    for left_out, why in ((known, "that a run was trained on"), (calibrated, "who calibrated")):
        if left_out:
            say(
                console,
                f"left out: {len(left_out)} photos of people {why}, such as {left_out[0].key}",
                style="yellow",
            )
    if not others:
        raise DataError(
            f"all people in {photos.root} are among those that the runs were trained on or "
            "calibrated with: --data needs others"
        )
    if alone := sum(each.group is None for each in others):
        say(
            console,
            f"{alone} photos have no person: each counts as a person of its own, and that no run "
            "was trained on them is your word",
            style="yellow",
        )
    return others


def _class_number(sample: Sample, task: str, schema: LabelSchema) -> int | None:
    try:
        return schema.target(task, sample.labels, where=sample.key)
    except LabelError:
        return None


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

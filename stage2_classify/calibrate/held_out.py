"""The votes of an ensemble on people that none of its runs was trained on, as `predict` gives them.

Fits and judges nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cropfirst.cache import Cache
from cropfirst.configs import load_yaml
from cropfirst.core.console import say
from cropfirst.core.errors import DataError, TrainError
from cropfirst.core.fingerprint import content_hash
from cropfirst.stage2_classify.calibrate.task_answers import TaskAnswers
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample
from cropfirst.stage2_classify.labels.photo_facts import photo_facts
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.labels.task import LabelError
from cropfirst.stage2_classify.metrics.intervals import number_people
from cropfirst.stage2_classify.predict.ensemble_file import Ensemble
from cropfirst.stage2_classify.predict.predict import PhotoVotes, vote_on_photos
from cropfirst.stage2_classify.runs.parquet import read_parquet
from cropfirst.stage2_classify.runs.run_paths import run_of


@dataclass(frozen=True)
class HeldOut:
    """People that no run was trained on, and how to predict them."""

    photos: PhotoSet
    cache: Cache
    device: str = "auto"
    batch_size: int = 64
    detect_defaults: Mapping[str, Any] | None = None
    """Config of the crops that detect makes by default, for messages."""


def answers_held_out(
    voting: Ensemble,
    data: HeldOut,
    *,
    tasks: Collection[str],
    without: Collection[str] = (),
    console: Console,
) -> list[TaskAnswers]:
    """Let the ensemble vote on people that none of its runs was trained on.

    People that a run was trained on, by their id, and photos without a crop are left out.

    Args:
        tasks: tasks to return the votes on, of those that the ensemble predicts.
        without: hashes of further people to leave out, see `person_hash`.

    Raises:
        DataError: nobody is left, or no photo has a label.
    """
    schema, photos = voting.found.schema, data.photos
    wanted = [task for task in schema.task_names if task in tasks]
    samples = tuple(
        replace(sample, split="eval")
        for sample in _others(photos, voting, without, console)
        if any(_class_number(sample, task, schema) is not None for task in wanted)
    )
    if not samples:
        raise DataError(
            f"none of the photos in {photos.root} has a label for {', '.join(wanted)}: calibrating "
            "needs the true classes of people that no run was trained on"
        )
    votes = vote_on_photos(
        voting, replace(photos, samples=samples, submission=None), data.cache,
        device=data.device, batch_size=data.batch_size, detect_defaults=data.detect_defaults,
        console=console,
    )  # fmt: skip
    if none := int((votes.members == 0).sum()):
        say(console, f"left out: {none} photos without a crop")
    found = [_answers(task, votes, photos, schema) for task in wanted]
    return [each for each in found if len(each.targets)]


def _answers(task: str, votes: PhotoVotes, photos: PhotoSet, schema: LabelSchema) -> TaskAnswers:
    """Return the votes on the photos that have a crop and a label of the task."""
    samples = votes.photos.samples
    codes = [_class_number(sample, task, schema) for sample in samples]
    rows = [row for row, code in enumerate(codes) if code is not None and votes.members[row]]
    kept = [samples[row] for row in rows]
    keys = [sample.key for sample in kept]
    facts: dict[str, Sequence[str | None]] = dict(photo_facts(keys, photos, schema, None))
    facts["crop"] = [votes.photos.statuses[row] for row in rows]
    people = {each.key: f"person {each.group}" for each in kept if each.group is not None}
    return TaskAnswers(
        task, schema.class_names(task), votes.result.probs[task][rows],
        np.array([codes[row] for row in rows], np.int32), number_people(keys, people), facts,
        hashes=frozenset(map(person_hash, kept)),
    )  # fmt: skip


def person_hash(sample: Sample) -> str:
    """Return 8 hex characters that stand for the person of a photo, or for a photo without one."""
    name = f"photo {sample.key}" if sample.group is None else f"person {sample.group}"
    return content_hash(name.encode())[:8]


def _others(
    photos: PhotoSet, voting: Ensemble, without: Collection[str], console: Console
) -> list[Sample]:
    """Return the photos of people that no run was trained on, and that are not in `without`."""
    groups, keys = set[str](), set[str]()
    for run in _trained_runs(voting):
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


def _trained_runs(voting: Ensemble) -> list[Path]:
    """Return the runs that vote, and those that their training started from (--init-from)."""
    runs = list(dict.fromkeys(run_of(folder) for folder in voting.found.folders))
    for run in runs:  # which grows
        config = run / "config.yaml"
        first = load_yaml(config).get("init_from") if config.is_file() else None
        if first is None:
            continue
        path = next((each for each in (Path(first), run.parent / first) if each.is_dir()), None)
        if path is None:
            raise TrainError(
                f"{run.name} was trained from {first} (--init-from), which is not there any more, "
                "so nobody can tell which people it has seen: bring it back"
            )
        if all(path.resolve() != each.resolve() for each in runs):
            runs.append(path)
    return runs


def _class_number(sample: Sample, task: str, schema: LabelSchema) -> int | None:
    try:
        return schema.target(task, sample.labels, where=sample.key)
    except LabelError:
        return None

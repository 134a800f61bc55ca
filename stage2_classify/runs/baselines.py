"""Baselines: runs on crops that show the background. They are compared with others; none votes.

The exceptions: the user has named the run itself, or no other run predicts a task.
Knows crop sets by their config and the tasks of runs; knows nothing of scores, weights or pixels.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cropfirst.configs import load_yaml
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.oof_predictions import OofPredictions, read_about
from cropfirst.stage2_classify.runs.run_paths import run_folder
from cropfirst.stage2_classify.voting.soft_vote import Condition, select_tasks

BASELINES = ("photo", "center", "box", "mean_box")
"""Backgrounds whose crops show what is around the face."""


@dataclass(frozen=True)
class Candidate:
    """A run that may vote."""

    path: Path
    tasks: frozenset[str]
    """Tasks that it predicts, by heads of their own or as parts of the code."""
    background: str | None
    """Background of a baseline's crops; None = the run is no baseline."""
    is_named: bool
    condition: Condition | None
    """Condition on the photos that it was trained on; None = all photos."""

    @property
    def is_free(self) -> bool:
        """Whether it votes on all of its tasks, whatever other runs predict."""
        return self.background is None or self.is_named

    def __str__(self) -> str:
        return f"{self.path.resolve().name} ({self.background} crops)"


@dataclass(frozen=True)
class Voters:
    """The tasks that each run votes on."""

    tasks: Mapping[Path, frozenset[str]]
    """Resolved run folder -> tasks; none for a baseline that is left out."""
    left_out: tuple[Path, ...]
    """Folders of the baselines that do not vote."""
    notes: tuple[str, ...]
    """Lines for the user: which baselines do not vote, and which do although they are not named."""

    def of(self, run: Path) -> frozenset[str]:
        """Return the tasks that a run votes on, given its folder or that of one of its folds."""
        return self.tasks[run_folder(run)]


def baseline_background(
    crop_set: Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> str | None:
    """Return the background of a baseline's crops; None where the run is no baseline.

    A run that was trained in swapped rooms (`data.swap_rooms` above 0) is none, whatever its crops
    show: the background did not tell it the class.

    Args:
        crop_set: entry `crop_set` of the run.json of a run or of the meta.json of a checkpoint.
        settings: resolved settings of the training; None where they are not known.
    """
    background = ((crop_set.get("config") or {}).get("crop") or {}).get("background")
    swap_rooms = float(((settings or {}).get("data") or {}).get("swap_rooms") or 0)
    return str(background) if background in BASELINES and not swap_rooms > 0 else None


def run_baseline(run: Path) -> str | None:
    """Return `baseline_background` of a run, given its folder or that of one of its folds.

    Raises:
        TrainError: its run.json cannot be read.
        ConfigError: its config.yaml cannot be read.
    """
    crop_set = read_about(run).get("crop_set") or {}
    config = run_folder(run) / "config.yaml"
    if baseline_background(crop_set) is None or not config.is_file():
        return baseline_background(crop_set)
    return baseline_background(crop_set, load_yaml(config))


def choose_voters(
    oofs: Sequence[OofPredictions],
    paths: Sequence[Path],
    schema: LabelSchema,
    *,
    option: str = "--runs ",
) -> Voters:
    """Choose the runs that vote, and their tasks, among runs with out-of-fold predictions.

    Args:
        paths: paths that the runs were found by; a run that is one of them is named.
        option: what precedes a path on the command line, for the notes.
    """
    named = {run_folder(path) for path in paths}
    runs: dict[Path, Candidate] = {}
    for oof in oofs:
        assert oof.path is not None
        tasks, run = schema.tasks_of(oof.probs), run_folder(oof.path)
        background = run_baseline(oof.path)
        runs[run] = Candidate(oof.path, tasks, background, run in named, oof.condition)
    return choose(runs, paths, option)


def voting_oofs(
    oofs: Sequence[OofPredictions], voters: Voters, schema: LabelSchema
) -> list[OofPredictions]:
    """Return the out-of-fold predictions that vote, each with the tasks that it votes on."""
    kept = []
    for oof in oofs:
        assert oof.path is not None
        if tasks := voters.of(oof.path):
            swapped = oof.swapped
            if swapped is not None:
                swapped = replace(swapped, probs=select_tasks(swapped.probs, tasks, schema))
            probs = select_tasks(oof.probs, tasks, schema)
            kept.append(replace(oof, probs=probs, swapped=swapped))
    return kept


def choose(
    runs: Mapping[Path, Candidate], paths: Sequence[Path], option: str = "--runs "
) -> Voters:
    """Choose the runs that vote, and their tasks.

    Args:
        runs: resolved run folder -> run.
        paths, option: as for `choose_voters`.
    """
    free = [each for each in runs.values() if each.is_free]
    predicted = frozenset().union(*(each.tasks for each in free))
    # Whether a condition is met can be told only by runs without one.
    known = frozenset().union(*(each.tasks for each in free if each.condition is None))
    asked = {task for each in free if each.condition for task in each.condition.classes}
    others = predicted - (asked - known)
    tasks = {
        run: each.tasks - (frozenset() if each.is_free else others) for run, each in runs.items()
    }
    bound = [(each, tasks[run]) for run, each in runs.items() if not each.is_free]
    left_out = [each for each, own in bound if not own]
    used = [(each, own) for each, own in bound if own]
    notes = [_note_used(used)] if used else []
    if left_out:
        notes.insert(0, _note_left_out(left_out, paths, option))
    return Voters(tasks, tuple(each.path for each in left_out), tuple(notes))


def _note_left_out(left_out: Sequence[Candidate], paths: Sequence[Path], option: str) -> str:
    named = " ".join(f"{option}{shlex.quote(str(path))}" for path in (*paths, left_out[0].path))
    return (
        f"without a vote: {', '.join(map(str, left_out))}. Such crops show the background, so "
        "these runs are baselines, which are only compared with others. To let one vote, name the "
        f"run itself: {named}"
    )


def _note_used(used: Sequence[tuple[Candidate, frozenset[str]]]) -> str:
    tasks = ", ".join(sorted(frozenset().union(*(own for _, own in used))))
    return (
        f"only baselines predict {tasks}, so they vote: {', '.join(str(run) for run, _ in used)}. "
        "Such crops show the background, and what a run has learned from it fails in other "
        "places: check with cropfirst audit, or train on the crops that cropfirst detect "
        "makes by default"
    )

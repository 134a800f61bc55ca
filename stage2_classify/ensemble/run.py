"""The ensemble command: out-of-fold predictions in, ensemble.json and a table of gains out.

Brings together what `soup`, `oof_again`, `ensemble_search` and `ensemble_file` do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from cropfirst.cache import Cache
from cropfirst.core.console import say
from cropfirst.core.device import resolve_device
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.ensemble.search import Problem, Settings, Step, TaskSearch, search
from cropfirst.stage2_classify.ensemble.table import print_ensemble
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.metrics.intervals import Paired, number_people, paired_difference
from cropfirst.stage2_classify.metrics.scores import macro_f1
from cropfirst.stage2_classify.predict.ensemble_file import (
    FILE,
    Ensemble,
    hashes_of,
    write_ensemble,
)
from cropfirst.stage2_classify.predict.repredict_oof import predict_again
from cropfirst.stage2_classify.runs.checkpoints import find_members
from cropfirst.stage2_classify.runs.oof import Oof, read_people, read_runs
from cropfirst.stage2_classify.runs.oof_votes import join, voters_for
from cropfirst.stage2_classify.runs.soup import SOUP, soup_of_fold, soup_of_run
from cropfirst.stage2_classify.voting.blend import (
    Plan,
    equal_plan,
    plan_vote,
    tables_for,
    voted_names,
)
from cropfirst.stage2_classify.voting.soft_vote import combine_codes, condition_weights

KEPT = "out-of-fold"
"""Below the command's folder: out-of-fold predictions that were made anew."""
Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Options:
    """What to try beside the votes."""

    views: tuple[str, ...] = ()
    """Test-time augmentation, see `views.KINDS`."""
    soups: tuple[str, ...] = ()
    """epochs = the mean of each fold's checkpoints; folds = that of each run's folds."""
    routes: Mapping[str, str] = field(default_factory=dict)
    """Task -> the task whose classes have weights of their own."""
    batch_size: int = 64


@dataclass(frozen=True)
class Built:
    """What was found and written."""

    path: Path
    """ensemble.json"""
    steps: tuple[Step, ...]
    searches: tuple[TaskSearch, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Task:
    """A task's problem, the photos that its rows are, and what they are compared with."""

    problem: Problem
    keys: tuple[str, ...]
    equal: Ints
    """(N,) answers of the equal vote."""


@dataclass(frozen=True)
class _Variant:
    """The runs' predictions by some checkpoint and views."""

    oofs: tuple[Oof, ...]
    checkpoint: str = "best_f1"
    """"" = that of the best variant so far."""
    views: tuple[str, ...] = ()


def build_ensemble(
    runs: Sequence[Path],
    *,
    out_dir: Path,
    settings: Settings,
    options: Options,
    cache: Cache | None = None,
    device: torch.device | str = "auto",
    console: Console | None = None,
) -> Built:
    """Find how the runs vote best, judged out of fold, and write it for `predict`.

    Args:
        runs: runs directories, or run directories.
        out_dir: gets ensemble.json, and what was predicted anew.
        cache: the crops; wanted by views and soups alone.

    Raises:
        TrainError: no out-of-fold predictions, runs of different schemas, fewer than two persons.
    """
    started = time.perf_counter()
    console = console or Console(quiet=True)
    schema, oofs, notes = read_runs(runs)
    folders = [_folder(oof) for oof in oofs]
    people = read_people(folders)
    plain = _Variant(tuple(oofs))
    tasks = _tasks(plain, schema, people, options)
    best, best_gain, steps = plain, 0.0, []
    for name, variant in _variants(plain, options, folders, notes):
        wanted = replace(variant, checkpoint=variant.checkpoint or best.checkpoint)
        looked = _look_again(wanted, cache, out_dir, options, device=device, console=console)
        found = _compare(name, tasks, _tasks(looked, schema, people, options))
        if _mean_gain(found) > best_gain:
            best, best_gain = looked, _mean_gain(found)
        steps += [replace(step, kept=best is looked) for step in found]
    current = _tasks(best, schema, people, options)
    searches = [
        search(task.problem, settings, baseline=tasks[name].equal) for name, task in current.items()
    ]
    steps += [step for found in searches for step in found.steps]
    steps += _code_steps(searches, tasks, schema)
    members = hashes_of(find_members(folders, checkpoint=best.checkpoint))
    hashes = {oof.name: members[_folder(oof).resolve()] for oof in oofs}
    plan = Plan({found.name: found.plan for found in searches})
    about = _about(steps, searches, notes, time.perf_counter() - started)
    write_ensemble(out_dir / FILE, Ensemble(best.checkpoint, best.views, hashes, plan), about=about)
    print_ensemble(console, steps, searches, notes, seconds=about["seconds"])
    say(console, f"written: {out_dir / FILE}; predict uses it")
    return Built(out_dir / FILE, tuple(steps), tuple(searches), tuple(notes))


def _variants(
    plain: _Variant, options: Options, folders: Sequence[Path], notes: list[str]
) -> list[tuple[str, _Variant]]:
    """What is to be predicted anew, by the name of the step; soups are cooked here."""
    found = []
    if "epochs" in options.soups:
        for folder in folders:
            for metrics in sorted(folder.glob("fold*/metrics.json")):
                soup_of_fold(metrics.parent)
        found.append(("soup", _Variant(plain.oofs, SOUP)))
    if "folds" in options.soups:
        notes += [_soup_note(folder) for folder in folders]
    if options.views:
        found.append((f"views {','.join(options.views)}", _Variant(plain.oofs, "", options.views)))
    return found


def _soup_note(folder: Path) -> str:
    folds = [metrics.parent for metrics in sorted(folder.glob("fold*/metrics.json"))]
    soup = soup_of_run(folds, folder / SOUP / "folds")
    return (
        f"{soup} averages {len(folds)} folds: between them they have learned everybody, so it has "
        f"no out-of-fold score; try it with predict --runs {soup}"
    )


def _look_again(
    variant: _Variant,
    cache: Cache | None,
    out_dir: Path,
    options: Options,
    *,
    device: torch.device | str,
    console: Console,
) -> _Variant:
    if cache is None:
        raise TrainError("soups and views look at the crops again: run cli.py detect first")
    again = [
        predict_again(
            oof,
            cache,
            out_dir=out_dir / KEPT,
            checkpoint=variant.checkpoint,
            views=variant.views,
            device=resolve_device(device) if isinstance(device, str) else device,
            batch_size=options.batch_size,
            console=console,
        )
        for oof in variant.oofs
    ]
    return replace(variant, oofs=tuple(again))


def _tasks(
    variant: _Variant, schema: LabelSchema, people: Mapping[str, str], options: Options
) -> dict[str, _Task]:
    """Everything that is voted on, as problems."""
    ballots = {oof.name: oof.probs for oof in variant.oofs}
    names = voted_names(ballots, schema)
    _check_routes(options, names)
    tasks = {}
    for name in names:
        task = _task(name, variant.oofs, schema, people, options.routes.get(name, ""))
        if task is not None:
            tasks[name] = task
    if not tasks:
        raise TrainError(
            "no photo is in the out-of-fold predictions of all runs: name runs of the same photos "
            "with --runs RUN"
        )
    return tasks


def _task(
    name: str, oofs: Sequence[Oof], schema: LabelSchema, people: Mapping[str, str], route: str
) -> _Task | None:
    voters = voters_for(oofs, name, schema)
    if route:
        known = {id(oof) for oof in voters}
        voters += [oof for oof in voters_for(oofs, route, schema) if id(oof) not in known]
    if not voters:
        return None
    joined, targets, _ = join(voters, name, schema)
    keys = joined[0].keys
    if not keys:
        return None
    ballots = {oof.name: oof.probs for oof in joined}
    conditions = {oof.name: oof.condition if len(joined) > 1 else None for oof in joined}
    says: dict[str, Floats] = {run: np.ones(len(keys)) for run in ballots}
    if any(conditions.values()):
        found = condition_weights(list(ballots.values()), list(conditions.values()), schema)
        says = dict(zip(ballots, found, strict=True))
    tables = tables_for(name, ballots, schema)
    states = None
    if route:
        ballot = plan_vote(ballots, schema, Plan(), conditions=conditions)
        states = dict(zip(schema.class_names(route), ballot.probs[route].T, strict=True))
    problem = Problem(
        name,
        targets,
        number_people(keys, people),
        tuple(tables),
        np.stack([*tables.values()]),
        np.stack([says[run] for run in tables]),
        route=route,
        states=states,
    )
    return _Task(problem, keys, problem.answer(equal_plan(problem.runs)).preds)


def _compare(name: str, before: Mapping[str, _Task], after: Mapping[str, _Task]) -> list[Step]:
    """The equal vote of other predictions against that of the plain ones."""
    steps = []
    for task, old in before.items():
        new, problem = after[task], old.problem
        score = problem.score(new.equal)
        gain = problem.gain(old.equal, new.equal)
        steps.append(Step(task, name, score, gain, False, "equal vote"))
    return steps


def _mean_gain(steps: Sequence[Step]) -> float:
    return float(np.mean([step.gain.value for step in steps if step.gain]))


def _code_steps(
    searches: Sequence[TaskSearch], tasks: Mapping[str, _Task], schema: LabelSchema
) -> list[Step]:
    """What the parts' gains come to in the combined code."""
    combined = schema.combined
    found = {each.name: each for each in searches}
    if combined is None or not set(combined.tasks) <= set(found):
        return []
    shared = sorted(set.intersection(*(set(tasks[part].keys) for part in combined.tasks)))
    if not shared:
        return []
    rows: dict[str, list[int]] = {}
    for part in combined.tasks:
        place = {key: row for row, key in enumerate(tasks[part].keys)}
        rows[part] = [place[key] for key in shared]

    def code(columns: Mapping[str, Ints]) -> Ints:
        made = combine_codes({part: columns[part][rows[part]] for part in rows}, schema)
        assert made is not None
        return made

    truth = code({part: tasks[part].problem.targets for part in rows})
    equal = code({part: tasks[part].equal for part in rows})
    chosen = code({part: found[part].chosen.preds for part in rows})
    first = combined.tasks[0]
    people = tasks[first].problem.people[rows[first]]
    size = schema.num_classes(combined.name)
    gain = paired_difference([Paired(people, truth, (equal, chosen), size)])
    return [
        Step(combined.name, "equal", macro_f1(truth, equal, size), None, False),
        Step(combined.name, "chosen", macro_f1(truth, chosen, size), gain, True, "of its tasks"),
    ]


def _check_routes(options: Options, names: Sequence[str]) -> None:
    for task, route in options.routes.items():
        for name in (task, route):
            if name not in names:
                raise TrainError(
                    f"--route {task}={route}: the runs do not vote on {name}, they do on "
                    f"{', '.join(names)}"
                )
        if task == route or route in options.routes:
            raise TrainError(f"--route {task}={route}: a route leads from one task to another")


def _folder(oof: Oof) -> Path:
    """The run's folder.

    Raises:
        TrainError: a fold was named alone.
    """
    assert oof.path is not None
    if not (oof.path / "schema.json").is_file():
        raise TrainError(f"{oof.path} is a fold: name its run with --runs {oof.path.parent}")
    return oof.path


def _about(
    steps: Sequence[Step], searches: Sequence[TaskSearch], notes: Sequence[str], seconds: float
) -> dict[str, Any]:
    """What people may want to know of how the plan came about."""
    ece = {
        found.name: dict(zip(("equal", "chosen", "change"), map(asdict, found.ece), strict=True))
        for found in searches
    }
    return {
        "steps": [asdict(step) for step in steps],
        "ece": ece,
        "notes": list(notes),
        "seconds": round(seconds, 1),
    }

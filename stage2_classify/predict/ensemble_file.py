"""ensemble.json: what `ensemble` found, and which runs it is for.

Runs are known by the hashes of their weights, so that they may be moved and renamed, and a run that
was trained again is noticed. Reads and writes JSON; loads no weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.predict.tta import build_views
from cropfirst.stage2_classify.runs.checkpoint import read_json, write_json
from cropfirst.stage2_classify.runs.checkpoints import FoundMembers, find_members, run_of
from cropfirst.stage2_classify.voting.blend import Plan, TaskPlan

FORMAT = 1
KIND = "ensemble"
FILE = "ensemble.json"


@dataclass(frozen=True)
class Ensemble:
    """A plan, and the members that it was made for."""

    checkpoint: str
    """Which checkpoint of each fold votes."""
    views: tuple[str, ...]
    """Test-time augmentation."""
    runs: Mapping[str, tuple[str, ...]]
    """Run -> hashes of its members' weights, sorted."""
    plan: Plan


@dataclass(frozen=True)
class Team:
    """Who predicts, and how they vote."""

    found: FoundMembers
    names: tuple[str, ...]
    """The run of each member, by the name that the plan knows it by."""
    plan: Plan | None
    """None: all members weigh the same."""
    views: tuple[str, ...]
    note: str
    """One line on where the votes' weights come from."""


def write_ensemble(path: Path, ensemble: Ensemble, *, about: Mapping[str, Any]) -> None:
    """Write ensemble.json in one step.

    Args:
        about: what is of interest to people, such as the gain of each step.
    """
    tasks = {name: asdict(plan) for name, plan in ensemble.plan.tasks.items()}
    data = {
        "format": FORMAT,
        "kind": KIND,
        "checkpoint": ensemble.checkpoint,
        "views": list(ensemble.views),
        "runs": {run: list(hashes) for run, hashes in ensemble.runs.items()},
        "tasks": tasks,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**data, **about})


def read_ensemble(path: Path) -> Ensemble:
    """Read an ensemble.json back.

    Raises:
        TrainError: there is none, it is of another format, or it is not one.
    """
    if not path.is_file():
        raise TrainError(f"there is no ensemble in {path}: run cli.py ensemble first")
    data = read_json(path)
    if data.get("kind") != KIND or data.get("format") != FORMAT:
        raise TrainError(
            f"{path} is {data.get('kind')!r} of format {data.get('format')!r}, wanted {KIND!r} of "
            f"format {FORMAT}: run cli.py ensemble again"
        )
    try:
        tasks = {str(name): _task_plan(plan) for name, plan in data["tasks"].items()}
        runs = {str(run): tuple(map(str, each)) for run, each in data["runs"].items()}
        views = tuple(map(str, data["views"]))
        build_views(views)
        return Ensemble(str(data["checkpoint"]), views, runs, Plan(tasks))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrainError(
            f"{path} is not as it was written ({error!r}): run cli.py ensemble again"
        ) from error


def choose_team(
    runs: Sequence[Path],
    *,
    checkpoint: str | None = None,
    ensemble: Path | None = None,
    default: Path | None = None,
) -> Team:
    """The members, and the plan that was made for them, where there is one.

    Args:
        checkpoint: which of each fold's; None is the plan's own, or best_f1.
        ensemble: a plan that was asked for; it must fit.
        default: one that is taken where it is there and fits, and left aside where not.

    Raises:
        TrainError: no members; or a plan that was asked for does not fit them.
    """
    path = ensemble or (default if default is not None and default.is_file() else None)
    if path is None:
        return _equal(find_members(runs, checkpoint=checkpoint or "best_f1"), "all runs' folds")
    plan = read_ensemble(path)
    fault = ""
    if checkpoint not in (None, plan.checkpoint):
        fault = f"it is for --checkpoint {plan.checkpoint}"
    else:
        try:
            found = find_members(runs, checkpoint=plan.checkpoint)
            names, fault = _match(found, plan)
        except TrainError as error:
            if plan.checkpoint == "best_f1":
                raise
            fault = f"there is no {plan.checkpoint} of each fold any more: {error}"
    if not fault:
        return _voting(found, names, plan, path)
    if ensemble is not None:
        raise TrainError(f"{path} does not fit the runs: {fault}; run cli.py ensemble again")
    found = find_members(runs, checkpoint=checkpoint or "best_f1")
    return _equal(found, f"{path} is left aside ({fault}), so all folds")


def hashes_of(found: FoundMembers) -> dict[Path, tuple[str, ...]]:
    """Run folder -> hashes of its members' weights, sorted."""
    hashes: dict[Path, list[str]] = {}
    for folder, meta in zip(found.folders, found.metas, strict=True):
        hashes.setdefault(run_of(folder).resolve(), []).append(str(meta.get("weights_hash")))
    return {run: tuple(sorted(each)) for run, each in hashes.items()}


def _match(found: FoundMembers, plan: Ensemble) -> tuple[tuple[str, ...], str]:
    """Each member's run by the plan's name, and what does not fit."""
    known = {hashes: run for run, hashes in plan.runs.items()}
    given = hashes_of(found)
    strange = [run.name for run, hashes in given.items() if hashes not in known]
    absent = [run for run, hashes in plan.runs.items() if hashes not in given.values()]
    if strange:
        return (), f"{', '.join(strange)} is not as, or not among, what it was made for"
    if absent:
        return (), f"it was made with {', '.join(absent)} too"
    return tuple(known[given[run_of(folder).resolve()]] for folder in found.folders), ""


def _equal(found: FoundMembers, why: str) -> Team:
    names = tuple(str(run_of(folder)) for folder in found.folders)
    return Team(found, names, None, (), f"{why} weigh the same")


def _voting(found: FoundMembers, names: Sequence[str], ensemble: Ensemble, path: Path) -> Team:
    """The members that have a say; the others need not look at any photo."""
    say = {run for plan in ensemble.plan.tasks.values() for run in plan.runs}
    # Who says which part of the photos a run is about has a say too.
    if any(found.conditions):
        say = set(names)
    rows = [row for row, name in enumerate(names) if name in say]
    part = FoundMembers(
        tuple(found.folders[row] for row in rows),
        tuple(found.metas[row] for row in rows),
        found.schema,
        found.unfinished,
        tuple(found.conditions[row] for row in rows),
    )
    silent = sorted(set(names) - say)
    left = f"; {', '.join(silent)} has no say" if silent else ""
    seen = f", seen {len(build_views(ensemble.views))} ways each" if ensemble.views else ""
    note = f"votes as in {path}: {ensemble.checkpoint} of {len(set(names)) - len(silent)} runs"
    kept = tuple(names[row] for row in rows)
    return Team(part, kept, ensemble.plan, ensemble.views, f"{note}{seen}{left}")


def _task_plan(data: Mapping[str, Any]) -> TaskPlan:
    plan = TaskPlan(
        weights={
            str(state): {str(run): float(weight) for run, weight in weights.items()}
            for state, weights in data["weights"].items()
        },
        route=str(data["route"]),
        vote=str(data["vote"]),
        temperature=float(data["temperature"]),
        offsets=tuple(float(x) for x in data["offsets"]),
    )
    if plan.vote not in ("soft", "hard") or plan.temperature <= 0 or not plan.runs:
        raise ValueError(f"vote {plan.vote!r}, temperature {plan.temperature}, runs {plan.runs}")
    return plan

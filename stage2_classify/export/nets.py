"""The choice of what a bundle has: the networks of each run, and the tasks.

Reads folder names and JSON; loads no weights but those that a soup is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cropfirst.core.errors import BundleError
from cropfirst.stage2_classify.predict.ensemble_file import Ensemble
from cropfirst.stage2_classify.runs.json_files import read_json
from cropfirst.stage2_classify.runs.run_folder import RunFolder
from cropfirst.stage2_classify.runs.run_paths import META_FILE, is_fold, run_of
from cropfirst.stage2_classify.runs.soup import SOUP, soup_of_run
from cropfirst.stage2_classify.voting.vote_plan import ANY_CLASS

DEFAULT_TASK = "mask"
PERSONAL = ("gender", "sex", "age")
"""Tasks that sort people by what the law protects; a bundle has them only where they are named."""
REFUSED = ("race", "ethnicity", "skin", "skin_color")
"""Tasks that no bundle has."""


@dataclass(frozen=True)
class NetChoice:
    """The networks of a run that go into a bundle; by default, that of its best fold."""

    fold: int | None = None
    all_data: bool = False
    soup: bool = False
    members: int | None = None
    checkpoint: str = "best_f1"

    def __post_init__(self) -> None:
        asked = [self.fold is not None, self.all_data, self.soup, self.members is not None]
        if sum(asked) > 1:
            raise BundleError("give one of --fold, --all-data, --soup and --members")

    @property
    def is_default(self) -> bool:
        """Whether nothing was asked for."""
        return self == NetChoice(checkpoint=self.checkpoint)


@dataclass(frozen=True)
class RunNets:
    """The networks of one run that go into a bundle."""

    run: Path
    folders: tuple[Path, ...]
    """Checkpoint folders."""
    note: str
    """Description of the networks in words."""
    held_out: str
    """The people that their score holds for, in words; "unknown" where nobody was held out."""


def find_nets(run: Path, choice: NetChoice) -> RunNets:
    """Find the networks of a run, and make its soup if that was asked for.

    Args:
        run: folder of a run, of one fold or of one checkpoint.

    Raises:
        BundleError: there is no such network.
    """
    one = (run / META_FILE).is_file() or is_fold(run)
    if one and not choice.is_default:
        raise BundleError(
            f"{run} is one network: give the run's folder with --fold, --all-data, --soup or "
            "--members"
        )
    if (run / META_FILE).is_file():
        note = f"the checkpoint {run.parent.name}/{run.name}"
        return RunNets(run_of(run), (run,), note, "unknown")
    if is_fold(run):
        is_all = run.resolve().name == "all"
        number = None if is_all else int(run.resolve().name[4:])
        folder = run.resolve().parent
        part = NetChoice(fold=number, all_data=is_all, checkpoint=choice.checkpoint)
        return find_nets(folder, part)
    if not (run / "run.json").is_file():
        raise BundleError(f"{run} is no run: wanted a folder that train wrote, such as runs/NAME")
    if choice.all_data:
        return _all_data(run)
    return _of_folds(run, choice)


def _all_data(run: Path) -> RunNets:
    folder = RunFolder(run).all_data
    if not (folder / "metrics.json").is_file():
        raise BundleError(
            f"{run} has no model of all photos: run cropfirst train with --all-data first"
        )
    return RunNets(run, (folder / "last",), "the model of all photos", "unknown")


def _of_folds(run: Path, choice: NetChoice) -> RunNets:
    folds = RunFolder(run).finished_folds()
    if not folds:
        if (RunFolder(run).all_data / "metrics.json").is_file() and choice.is_default:
            return _all_data(run)
        raise BundleError(f"{run} has no finished fold: run cropfirst train again to resume it")
    name = choice.checkpoint

    def folder(fold: int) -> Path:
        path = RunFolder(run).fold(fold) / name
        if not (path / META_FILE).is_file():
            raise BundleError(f"there is no checkpoint {path}: choose another --checkpoint")
        return path

    if choice.soup:
        path = run / SOUP / "folds"
        soup_of_run([folder(fold).parent for fold in folds], path, checkpoint=name)
        return RunNets(run, (path,), f"the mean of the weights of {len(folds)} folds", "unknown")
    if choice.members is not None:
        if choice.members > len(folds):
            raise BundleError(
                f"--members {choice.members}: {run} has {len(folds)} finished folds, give fewer"
            )
        chosen = folds[: choice.members]
        held_out = "the people held out from each fold"
        return RunNets(run, tuple(map(folder, chosen)), f"{len(chosen)} folds, voting", held_out)
    if choice.fold is not None and choice.fold not in folds:
        known = ", ".join(map(str, folds))
        raise BundleError(f"--fold {choice.fold}: {run} has the finished folds {known}")
    fold = _best_fold(run, folds) if choice.fold is None else choice.fold
    return RunNets(run, (folder(fold),), f"fold {fold}", f"the people held out from fold {fold}")


def _best_fold(run: Path, folds: Sequence[int]) -> int:
    """Return the fold with the highest mean macro F1 on its held-out people."""

    def score(fold: int) -> float:
        tasks = read_json(RunFolder(run).fold(fold) / "metrics.json")["tasks"]
        return sum(float(each["macro_f1"]) for each in tasks.values()) / len(tasks)

    return max(folds, key=score)


def choose_tasks(trained: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """Return the tasks of a bundle, in the schema's order.

    By default it is `mask` alone, or the only task where that is not about what people are.

    Args:
        trained: tasks that the networks predict.
        asked: tasks that were named; () = the default.

    Raises:
        BundleError: a task that no network predicts or no bundle may have, or a choice is needed.
    """
    refused = [name for name in asked if name.lower() in REFUSED]
    if refused:
        raise BundleError(
            f"--tasks {refused[0]}: no bundle sorts people by {refused[0]}; leave it out"
        )
    allowed = [name for name in trained if name.lower() not in REFUSED]
    unknown = [name for name in asked if name not in trained]
    if unknown:
        raise BundleError(f"--tasks {unknown[0]}: the networks predict {', '.join(trained)}")
    if asked:
        return tuple(name for name in allowed if name in asked)
    if DEFAULT_TASK in allowed:
        return (DEFAULT_TASK,)
    if len(allowed) == 1 and allowed[0].lower() not in PERSONAL:
        return (allowed[0],)
    raise BundleError(
        f"the networks predict {', '.join(trained)}, and no task {DEFAULT_TASK}: say with --tasks "
        "which of them the bundle is to have"
    )


def task_weights(
    voting: Ensemble, runs: Sequence[Path], tasks: Sequence[str]
) -> list[dict[str, float]]:
    """Return the weight of each run's vote on each task that it predicts.

    Args:
        voting: the checkpoints that vote.
        runs: resolved run folders, in the order of the classifiers.

    Raises:
        BundleError: the vote is of a kind that a bundle does not have.
    """
    schema, found = voting.found.schema, voting.found
    if any(found.conditions) or voting.tta:
        what = "test-time augmentation" if voting.tta else "a run trained on a part of the photos"
        raise BundleError(f"a bundle cannot have {what}: give --ensemble none, or other runs")
    weights: list[dict[str, float]] = []
    for run in runs:
        rows = [row for row, folder in enumerate(found.folders) if run_of(folder).resolve() == run]
        heads = {name for row in rows for name in found.metas[row]["heads"]}
        own = [task for task in tasks if task in schema.tasks_of(heads)]
        names = {voting.run_names[row] for row in rows}
        weights.append({task: _weight(voting, task, names, len(rows)) for task in own})
    return weights


def _weight(voting: Ensemble, task: str, names: set[str], count: int) -> float:
    plan = voting.plan.tasks.get(task) if voting.plan is not None else None
    if plan is None:
        # As the vote of all members: each weighs the same; by a plan, each run does.
        return float(count) if voting.plan is None else 1.0
    if plan.route or plan.vote != "soft":
        raise BundleError(
            f"ensemble.json votes on {task} by routes or by majority, which a bundle cannot: give "
            "--ensemble none, or run cropfirst ensemble without --routes and --hard"
        )
    return sum(plan.weights[ANY_CLASS].get(name, 0.0) for name in names)


def scores_of(run: Path, task: str) -> dict[str, Any]:
    """Return the scores of a task in a run's metrics.json; empty if there are none."""
    path = run / "metrics.json"
    if not path.is_file():
        return {}
    return dict(read_json(path)["tasks"].get(task) or {})

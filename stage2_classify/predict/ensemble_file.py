"""ensemble.json: how an ensemble's runs vote, and which runs it is for.

Runs are identified by the hashes of their weights, so that they may be moved and renamed, and a run
that was trained again is noticed. Reads and writes JSON; loads no weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.predict.calibration import ENTRY, Calibration, read_calibration
from cropfirst.stage2_classify.predict.tta import build_tta
from cropfirst.stage2_classify.runs.baselines import Voters
from cropfirst.stage2_classify.runs.checkpoints import (
    Checkpoints,
    find_checkpoints,
    voting_checkpoints,
)
from cropfirst.stage2_classify.runs.json_files import read_json, write_json
from cropfirst.stage2_classify.runs.run_paths import run_folder, run_of
from cropfirst.stage2_classify.voting.blend import vote_members
from cropfirst.stage2_classify.voting.soft_vote import Floats, Vote, select_tasks, vote
from cropfirst.stage2_classify.voting.vote_plan import TaskPlan, VotePlan

FORMAT = 1
KIND = "ensemble"
FILE = "ensemble.json"
_VOTE = ("format", "kind", "checkpoint", "views", "runs", "tasks", ENTRY)
"""Entries that decide the vote and its calibration; all others are for people to read."""


@dataclass(frozen=True)
class EnsembleSpec:
    """The content of an ensemble.json: a vote plan, and the runs that it was made for."""

    checkpoint: str
    """Checkpoint of each fold that votes, such as best_f1."""
    tta: tuple[str, ...]
    """Kinds of test-time augmentation, see `tta.TTA_KINDS`."""
    runs: Mapping[str, tuple[str, ...]]
    """Run -> hashes of its members' weights, sorted."""
    plan: VotePlan
    calibration: Calibration | str = ""
    """Limits of the sets of classes, or why there are none."""


@dataclass(frozen=True)
class Ensemble:
    """The checkpoints that predict together, and how they vote."""

    found: Checkpoints
    run_names: tuple[str, ...]
    """Run of each member, by its name in the plan."""
    plan: VotePlan | None
    """The plan by which the runs vote; None = all members weigh the same."""
    tta: tuple[str, ...]
    """Kinds of test-time augmentation, see `tta.TTA_KINDS`."""
    note: str
    """One line that says where the weights come from."""
    voters: Voters
    """The tasks that each run votes on, and notes on baselines."""
    calibration: Calibration | str = ""
    """Limits of the sets of classes, or why there are none."""

    def set_limits(self, alpha: float) -> dict[str, npt.NDArray[np.float64]]:
        """Return task -> (C,) limits: classes whose probability reaches them stay possible.

        Args:
            alpha: error rate of the sets, within (0, 1).

        Raises:
            TrainError: there is no calibration for this vote, or too few people for this alpha.
        """
        if isinstance(self.calibration, str):
            why = self.calibration or self.note
            raise TrainError(
                f"--alpha needs a calibration of exactly these runs and their vote ({why}): run "
                "cropfirst calibrate RUN... first"
            )
        try:
            return self.calibration.limits(alpha)
        except ValueError as error:
            raise TrainError(
                f"{error}. Take a larger --alpha, or calibrate with more people (cropfirst "
                "calibrate RUN... --data HELD_OUT)"
            ) from error

    def vote(
        self,
        probs: Sequence[Mapping[str, Floats]],
        *,
        priors: Sequence[Mapping[str, npt.NDArray[np.float64]]] = (),
    ) -> Vote:
        """Return the vote of the members; arguments as for `soft_vote.vote`."""
        schema, conditions = self.found.schema, self.found.conditions
        # A baseline may vote on a part of what it predicts: its meta has the heads that vote.
        probs = [
            select_tasks(own, schema.tasks_of(meta["heads"]), schema)
            for own, meta in zip(probs, self.found.metas, strict=True)
        ]
        if self.plan is None:
            return vote(probs, schema, priors=priors, conditions=conditions)
        return vote_members(
            probs, self.run_names, schema, self.plan, conditions=conditions, priors=priors
        )


def write_ensemble(path: Path, spec: EnsembleSpec, *, about: Mapping[str, Any]) -> None:
    """Write ensemble.json in one step.

    Args:
        about: further entries for people to read, such as the gain of each step.
    """
    tasks = {name: asdict(plan) for name, plan in spec.plan.tasks.items()}
    data = {
        "format": FORMAT,
        "kind": KIND,
        "checkpoint": spec.checkpoint,
        "views": list(spec.tta),
        "runs": {run: list(hashes) for run, hashes in spec.runs.items()},
        "tasks": tasks,
    }
    if isinstance(spec.calibration, Calibration):
        about = {**about, ENTRY: spec.calibration.to_dict(data)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**data, **about})


def about_of(path: Path) -> dict[str, Any]:
    """Return the entries of an ensemble.json that are for people; empty where there is no file."""
    if not path.is_file():
        return {}
    return {name: value for name, value in read_json(path).items() if name not in _VOTE}


def ensemble_beside(runs: Sequence[Path]) -> Path | None:
    """Return WORK/ensemble/ensemble.json of runs in WORK/runs; None where they are not in one."""
    folders = {run_folder(path) for path in runs}
    parents = {
        (folder.parent if (folder / "schema.json").is_file() else folder) for folder in folders
    }
    return parents.pop().parent / "ensemble" / FILE if len(parents) == 1 else None


def read_ensemble(path: Path) -> EnsembleSpec:
    """Read an ensemble.json.

    Raises:
        TrainError: no such file, or one of another kind or format.
    """
    if not path.is_file():
        raise TrainError(f"there is no ensemble in {path}: run cropfirst ensemble first")
    data = read_json(path)
    if data.get("kind") != KIND or data.get("format") != FORMAT:
        raise TrainError(
            f"{path} is {data.get('kind')!r} of format {data.get('format')!r}, wanted {KIND!r} of "
            f"format {FORMAT}: run cropfirst ensemble again"
        )
    try:
        tasks = {str(name): _task_plan(plan) for name, plan in data["tasks"].items()}
        runs = {str(run): tuple(map(str, each)) for run, each in data["runs"].items()}
        tta = tuple(map(str, data["views"]))
        build_tta(tta)
        calibration = read_calibration(data)
        return EnsembleSpec(str(data["checkpoint"]), tta, runs, VotePlan(tasks), calibration)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrainError(
            f"{path} is damaged or was edited ({error!r}): run cropfirst ensemble again"
        ) from error


def choose_ensemble(
    runs: Sequence[Path],
    *,
    checkpoint: str | None = None,
    ensemble: Path | None = None,
    default: Path | None = None,
) -> Ensemble:
    """Find the checkpoints of some runs that vote, and read how they vote.

    Args:
        runs: runs, of which a baseline is named itself, or folders of runs, of which baselines are
            left out; see `runs.baselines`.
        checkpoint: checkpoint of each fold; None = that of ensemble.json, or best_f1.
        ensemble: path of an ensemble.json, which must be for these runs.
        default: path of one that is used if it exists and is for these runs.

    Raises:
        TrainError: no checkpoints, or an `ensemble` that is for other runs.
    """
    path = ensemble or (default if default is not None and default.is_file() else None)
    if path is None:
        return _equal(
            find_checkpoints(runs, checkpoint=checkpoint or "best_f1"), runs, "all runs' folds"
        )
    spec = read_ensemble(path)
    fault = ""
    if checkpoint not in (None, spec.checkpoint):
        fault = f"it is for --checkpoint {spec.checkpoint}"
    else:
        try:
            everything = find_checkpoints(runs, checkpoint=spec.checkpoint)
            found, voters = voting_checkpoints(everything, runs)
            fault = _baseline_fault(everything, spec, voters)
            if not fault:
                names, fault = _match(found, spec)
        except TrainError as error:
            if spec.checkpoint == "best_f1":
                raise
            fault = f"{spec.checkpoint} is missing in some folds: {error}"
    if not fault:
        return _weighted(found, names, spec, path, voters)
    if ensemble is not None:
        raise TrainError(
            f"{path} is not for these runs: {fault}; run cropfirst ensemble again, or for one fold "
            "cropfirst calibrate RUN/foldK --ensemble FILE"
        )
    found = find_checkpoints(runs, checkpoint=checkpoint or "best_f1")
    return _equal(found, runs, f"{path} is not used ({fault}), so all folds")


def hashes_of(found: Checkpoints) -> dict[Path, tuple[str, ...]]:
    """Return run folder -> hashes of its members' weights, sorted."""
    hashes: dict[Path, list[str]] = {}
    for folder, meta in zip(found.folders, found.metas, strict=True):
        hashes.setdefault(run_of(folder).resolve(), []).append(str(meta.get("weights_hash")))
    return {run: tuple(sorted(each)) for run, each in hashes.items()}


def _match(found: Checkpoints, spec: EnsembleSpec) -> tuple[tuple[str, ...], str]:
    """Return each member's run by its name in the plan, and a text on runs that differ."""
    known = {hashes: run for run, hashes in spec.runs.items()}
    given = hashes_of(found)
    unknown = [run.name for run, hashes in given.items() if hashes not in known]
    absent = [run for run, hashes in spec.runs.items() if hashes not in given.values()]
    if unknown:
        return (), _other_folds(found, spec) or (
            f"it was made without {', '.join(unknown)}, or before the last training of it"
        )
    if absent:
        return (), f"it was made with {', '.join(absent)} too"
    return tuple(known[given[run_of(folder).resolve()]] for folder in found.folders), ""


def _other_folds(found: Checkpoints, spec: EnsembleSpec) -> str:
    """Return a text on a run of which an ensemble.json has other folds; "" where there is none."""
    for run in dict.fromkeys(run_of(folder) for folder in found.folders):
        everything = find_checkpoints([run], checkpoint=spec.checkpoint)
        name_of = {
            str(meta.get("weights_hash")): folder.parent.name
            for folder, meta in zip(everything.folders, everything.metas, strict=True)
        }
        given = [each.parent.name for each in found.folders if run_of(each) == run]
        for hashes in spec.runs.values():
            theirs = sorted(name_of[each] for each in hashes if each in name_of)
            if len(theirs) == len(hashes) and theirs != given:
                return (
                    f"it is for {' and '.join(theirs)} of {run.resolve().name}, not for "
                    f"{' and '.join(given)}"
                )
    return ""


def _baseline_fault(everything: Checkpoints, spec: EnsembleSpec, voters: Voters) -> str:
    """Return a text on a baseline that a plan lets vote, and that does not vote; "" without one.

    Earlier versions let baselines vote like all other runs.
    """
    for run, hashes in hashes_of(everything).items():
        for name, own in spec.runs.items():
            if own != hashes:
                continue
            planned = [task for task, plan in spec.plan.tasks.items() if name in plan.runs]
            wrong = everything.schema.tasks_of(planned) - voters.of(run)
            if wrong or not voters.of(run):
                on = f" on {', '.join(sorted(wrong))}" if wrong else ""
                return (
                    f"it lets {name} vote{on}, a baseline whose crops show the background, which "
                    "votes only where the run itself is named"
                )
    return ""


def _equal(everything: Checkpoints, runs: Sequence[Path], why: str) -> Ensemble:
    found, voters = voting_checkpoints(everything, runs)
    names = tuple(str(run_of(folder)) for folder in found.folders)
    return Ensemble(found, names, None, (), f"{why} weigh the same", voters)


def _weighted(
    found: Checkpoints, names: Sequence[str], spec: EnsembleSpec, path: Path, voters: Voters
) -> Ensemble:
    """Return the members with a weight above 0; the others need not predict."""
    used = {run for plan in spec.plan.tasks.values() for run in plan.runs}
    if any(found.conditions):  # whether they are met depends on runs of any weight
        used = set(names)
    rows = [row for row, name in enumerate(names) if name in used]
    part = Checkpoints(
        tuple(found.folders[row] for row in rows),
        tuple(found.metas[row] for row in rows),
        found.schema,
        found.unfinished,
        tuple(found.conditions[row] for row in rows),
    )
    unused = sorted(set(names) - used)
    note = f"as in {path}: {spec.checkpoint} of {len(set(names)) - len(unused)} runs"
    if spec.tta:
        note += f", {len(build_tta(spec.tta))} transforms of each crop"
    if unused:
        note += f"; weight 0: {', '.join(unused)}"
    calibration = spec.calibration
    if isinstance(calibration, str):
        calibration = f"{path}: {calibration}"
    return Ensemble(
        part, tuple(names[row] for row in rows), spec.plan, spec.tta, note, voters, calibration
    )


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

"""Finding the checkpoints of runs: one for every finished fold.

Reads folder names and meta.json; loads no weights and knows nothing of crops.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.baselines import Candidate, Voters, baseline_background, choose
from cropfirst.stage2_classify.runs.checkpoint import read_meta
from cropfirst.stage2_classify.runs.run_paths import ALL, META_FILE, is_fold, run_folder, run_of
from cropfirst.stage2_classify.voting.soft_vote import Condition, select_tasks


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of some runs, all of one label schema."""

    folders: tuple[Path, ...]
    """Checkpoint folders, sorted by run and fold."""
    metas: tuple[Mapping[str, Any], ...]
    """Contents of their meta.json."""
    schema: LabelSchema
    unfinished: tuple[Path, ...]
    """Folds that are left out because they are not trained to their end."""
    conditions: tuple[Condition | None, ...]
    """Condition on the photos that each was trained on; None = all photos."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of what the checkpoints were trained on, in schema order."""
        trained = {name for meta in self.metas for name in meta["heads"]}
        return tuple(name for name in self.schema.names if name in trained)


def find_checkpoints(paths: Sequence[Path], *, checkpoint: str = "best_f1") -> Checkpoints:
    """Find one checkpoint of every finished fold of every run.

    Args:
        paths: folders of runs, of one run, of one fold, or of one checkpoint.
        checkpoint: which of a fold's checkpoints: best_f1, best_accuracy, best_loss, last or soup.

    Raises:
        TrainError: a path does not exist, nothing is trained, or the label schemas differ.
    """
    folders: dict[Path, Path] = {}
    unfinished: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise TrainError(
                f"no runs in {path}: there is no such folder; run cropfirst train first"
            )
        if (path / META_FILE).is_file():
            folders[path.resolve()] = path
        for fold in _folds(path):
            # Training on all photos has no validation part, so no best epoch.
            folder = fold / ("last" if fold.name == ALL else checkpoint)
            # A fold's metrics.json is written last; before it, best_f1 is the best so far.
            if (folder / META_FILE).is_file() and (fold / "metrics.json").is_file():
                folders[folder.resolve()] = folder
            else:
                unfinished.append(fold)
    if not folders:
        where = ", ".join(str(path) for path in paths) or "(no folder given)"
        raise TrainError(f"{where}: {_nothing(unfinished, checkpoint)}")
    found = [(folder, read_meta(folder)) for folder in folders.values()]
    schema = _shared_schema(found)
    return Checkpoints(
        folders=tuple(folder for folder, _ in found),
        metas=tuple(meta for _, meta in found),
        schema=schema,
        unfinished=tuple(dict.fromkeys(unfinished)),
        conditions=_conditions(found, schema),
    )


def voting_checkpoints(found: Checkpoints, paths: Sequence[Path]) -> tuple[Checkpoints, Voters]:
    """Leave out the checkpoints of baselines, except where they vote.

    The meta of a baseline that votes on a part of its tasks has only these in `heads` and
    `class_prior`.

    Args:
        paths: paths that `found` was found by; a run that is one of them is named.
    """
    named = {run_folder(path) for path in paths}
    runs: dict[Path, Candidate] = {}
    for folder, meta, condition in zip(found.folders, found.metas, found.conditions, strict=True):
        run = run_of(folder).resolve()
        background = baseline_background(meta["crop_set"], meta.get("config"))
        tasks = found.schema.tasks_of(meta["heads"])
        runs[run] = Candidate(run_of(folder), tasks, background, run in named, condition)
    voters = choose(runs, paths)
    votes = [voters.of(run_of(folder)) for folder in found.folders]
    rows = [row for row, tasks in enumerate(votes) if tasks]
    kept = Checkpoints(
        tuple(found.folders[row] for row in rows),
        tuple(_restrict(found.metas[row], votes[row], found.schema) for row in rows),
        found.schema,
        found.unfinished,
        tuple(found.conditions[row] for row in rows),
    )
    return kept, voters


def shared_crop_config(found: Checkpoints) -> Mapping[str, Any]:
    """Return the config of the crop set that all checkpoints were trained on.

    Raises:
        TrainError: they were trained on different crop sets.
    """
    first = found.metas[0]["crop_set"]
    for folder, meta in zip(found.folders, found.metas, strict=True):
        if meta["crop_set"]["fingerprint"] != first["fingerprint"]:
            raise TrainError(
                f"{run_of(found.folders[0])} was trained on crops {first['name']}, "
                f"{run_of(folder)} on {meta['crop_set']['name']}: one photo gets one crop, so "
                "name runs of one crop set with --runs RUN"
            )
    config: Mapping[str, Any] = first["config"]
    return config


def _folds(path: Path) -> Iterator[Path]:
    """Yield the folders of folds in a path, or itself, ordered by number."""
    if is_fold(path):
        yield path
        return
    inside = sorted(item for item in path.iterdir() if item.is_dir() and item.name[0] != ".")
    folds = [item for item in inside if is_fold(item)]
    yield from sorted(folds, key=_number)
    if not folds:
        for run in inside:
            yield from sorted((item for item in run.iterdir() if is_fold(item)), key=_number)


def _number(fold: Path) -> float:
    """Return the sort key: folds by number, then the model of all photos."""
    return math.inf if fold.name == ALL else int(fold.name[4:])


def _nothing(unfinished: Sequence[Path], checkpoint: str) -> str:
    if not unfinished:
        return "no trained model there; run cropfirst train first"
    if checkpoint == "soup" and any((fold / "metrics.json").is_file() for fold in unfinished):
        return "no soup of a fold there; run cropfirst ensemble DATA --soup epochs first"
    return (
        f"no fold there is trained to its end ({len(unfinished)} begun, such as {unfinished[0]}); "
        "run cropfirst train again with the same settings to resume"
    )


def _conditions(
    found: Sequence[tuple[Path, Mapping[str, Any]]], schema: LabelSchema
) -> tuple[Condition | None, ...]:
    """Return the condition that each checkpoint was trained on.

    Raises:
        TrainError: no checkpoint without a condition predicts whether one is met.
    """
    known = schema.tasks_of(
        name for _, meta in found if not meta.get("where") for name in meta["heads"]
    )
    for folder, meta in found:
        for task, name in (meta.get("where") or {}).items():
            if task not in known:
                raise TrainError(
                    f"{run_of(folder)} was trained on {task} {name} alone, and no run that is "
                    f"named says the {task} of a photo: name one with --runs RUN, or train one "
                    f"(cropfirst train DATA --task {task})"
                )
    return tuple(
        Condition.from_names(meta.get("where") or {}, meta.get("routing", "soft"), schema)
        for _, meta in found
    )


def _shared_schema(found: Sequence[tuple[Path, Mapping[str, Any]]]) -> LabelSchema:
    first_folder, first = found[0]
    schema = LabelSchema.from_dict(first["schema"], where=str(first_folder / META_FILE))
    for folder, meta in found[1:]:
        if LabelSchema.from_dict(meta["schema"], where=str(folder / META_FILE)) != schema:
            raise TrainError(
                f"{run_of(first_folder)} and {run_of(folder)} were trained with different label "
                "schemas: their answers cannot be put together. Name runs of one schema with "
                "--runs RUN, or train one of them again with the other's --schema"
            )
    return schema


def _restrict(
    meta: Mapping[str, Any], tasks: frozenset[str], schema: LabelSchema
) -> Mapping[str, Any]:
    """Return a checkpoint's meta with the heads that vote on some tasks, and their priors."""
    if tasks == schema.tasks_of(meta["heads"]):
        return meta
    priors = {name: np.asarray(shares)[None] for name, shares in meta["class_prior"].items()}
    chosen = select_tasks(priors, tasks, schema)
    return {
        **meta,
        "heads": {name: list(schema.class_names(name)) for name in chosen},
        "class_prior": {name: shares[0].tolist() for name, shares in chosen.items()},
    }

"""Out-of-fold predictions of runs, read back from the oof.parquet that train writes.

Knows tables and the label schema; knows nothing of models or scores. No torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.tables import read_parquet
from cropfirst.stage2_classify.voting.soft_vote import Condition, combine_codes, split_codes

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Oof:
    """One run's out-of-fold predictions, one row a photo."""

    name: str
    keys: tuple[str, ...]
    statuses: tuple[str, ...]
    probs: Mapping[str, npt.NDArray[np.float32]]
    """What the run was trained on -> (N, classes)."""
    targets: Mapping[str, Ints]
    """Everything that follows from its labels -> (N,) class numbers."""
    condition: Condition | None = None
    """The part of the photos that it was trained on; None = all. It has predicted all of them."""
    applies: npt.NDArray[np.bool_] | None = None
    """(N,) where that condition is truly met."""
    path: Path | None = None
    """The run's or fold's folder."""

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, keys: Sequence[str]) -> Oof:
        """The rows of some of its keys, in their order."""
        place = {key: row for row, key in enumerate(self.keys)}
        rows = np.array([place[key] for key in keys], dtype=np.int64)
        return Oof(
            self.name,
            tuple(keys),
            tuple(self.statuses[row] for row in rows),
            {name: table[rows] for name, table in self.probs.items()},
            {name: codes[rows] for name, codes in self.targets.items()},
            self.condition,
            None if self.applies is None else self.applies[rows],
            self.path,
        )

    def its_part(self) -> Oof:
        """The rows of the part that it was trained on."""
        if self.applies is None:
            return self
        part = self.take([key for key, yes in zip(self.keys, self.applies, strict=True) if yes])
        return replace(part, applies=None)


def read_runs(paths: Sequence[Path]) -> tuple[LabelSchema, list[Oof], list[str]]:
    """The out-of-fold predictions of every run.

    Args:
        paths: runs directories, run directories or fold directories.

    Returns:
        The runs' schema, one `Oof` a run, and notes on what is not there yet.

    Raises:
        TrainError: no run with predictions, or runs of different label schemas.
    """
    folders: dict[Path, Path] = {}
    notes: list[str] = []
    for path in paths:
        if not path.is_dir():
            raise TrainError(f"no runs in {path}: there is no such folder; run cli.py train first")
        for run in _runs(path):
            if (run / "oof.parquet").is_file():
                folders[run.resolve()] = run
            else:
                notes.append(f"left out: {run} has no finished fold")
    if not folders:
        where = ", ".join(str(path) for path in paths) or "(no folder given)"
        found = "; ".join([f"no out-of-fold predictions in {where}", *notes])
        raise TrainError(f"{found}: run cli.py train first")
    runs = list(folders.values())
    schema = _shared_schema(runs)
    notes += [note for run in runs if (note := _unfinished(run))]
    names = [_name(run) for run in runs]
    return (
        schema,
        [
            read_oof(run, schema, name=name if names.count(name) == 1 else str(run))
            for run, name in zip(runs, names, strict=True)
        ],
        notes,
    )


def read_oof(run: Path, schema: LabelSchema, *, name: str) -> Oof:
    """The out-of-fold predictions of one run or fold.

    Raises:
        TrainError: the table is not one that train writes under this schema.
    """
    path = run / "oof.parquet"
    table = read_parquet(path)
    trained = [task for task in schema.names if f"{task}_target" in table.columns]
    wanted = ["key", "status", *(f"{task}_probs" for task in trained)]
    missing = [column for column in wanted if column not in table.columns]
    if missing or not trained:
        raise TrainError(
            f"{path} has no column {', '.join(missing) or 'of a task'} for the tasks "
            f"{', '.join(schema.names)}: train again"
        )
    if table["key"].n_unique() < table.height:
        raise TrainError(f"{path} holds photos twice: train again")
    about = read_about(run)
    applies = table["applies"].to_numpy() if "applies" in table.columns else None
    return Oof(
        condition=Condition.from_names(
            about.get("where") or {}, about.get("routing", "soft"), schema
        ),
        applies=applies,
        name=name,
        keys=tuple(table["key"].to_list()),
        statuses=tuple(table["status"].to_list()),
        probs={
            task: _probs(table[f"{task}_probs"], schema.num_classes(task), path) for task in trained
        },
        path=run,
        targets=_targets({task: table[f"{task}_target"].to_numpy() for task in trained}, schema),
    )


def read_people(runs: Sequence[Path]) -> dict[str, str]:
    """Key -> person, of all photos of some runs; a photo of nobody known is its own person."""
    people = {}
    for run in runs:
        for key, group in read_parquet(run / "oof.parquet").select("key", "group").iter_rows():
            people[key] = f"photo {key}" if group is None else f"person {group}"
    return people


def _targets(own: Mapping[str, Ints], schema: LabelSchema) -> dict[str, Ints]:
    """The class numbers that a run has, and those that follow from them."""
    targets = dict(own)
    if schema.combined is not None:
        if schema.combined.name in own:
            targets = split_codes(own[schema.combined.name], schema) | targets
        elif (codes := combine_codes(own, schema)) is not None:
            targets[schema.combined.name] = codes
    return targets


def _probs(column: pl.Series, n_classes: int, path: Path) -> npt.NDArray[np.float32]:
    if len(column) and set(column.list.len().to_list()) != {n_classes}:
        raise TrainError(f"{path}: {column.name} wants {n_classes} numbers a row: train again")
    table = column.list.to_array(n_classes).to_numpy()
    return table.reshape(len(column), n_classes).astype(np.float32)


def _runs(path: Path) -> Iterator[Path]:
    """Run directories in, or of, a path; a fold directory counts as a run of one fold."""
    if (path / "oof.parquet").is_file() or (path / "schema.json").is_file():
        yield path
        return
    for item in sorted(path.iterdir()):
        if (item / "schema.json").is_file():
            yield item


def _name(run: Path) -> str:
    path = run.resolve()
    return path.name if (path / "schema.json").is_file() else f"{path.parent.name}/{path.name}"


def _read_schema(run: Path) -> LabelSchema:
    path = next((p for p in (run, run.resolve().parent) if (p / "schema.json").is_file()), run)
    try:
        data = json.loads((path / "schema.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TrainError(f"{path / 'schema.json'} cannot be read ({error}): train again") from error
    return LabelSchema.from_dict(data, where=str(path / "schema.json"))


def read_about(run: Path) -> dict[str, Any]:
    """A run's run.json, also from one of its folds; empty where there is none.

    Raises:
        TrainError: it cannot be read.
    """
    path = next((p for p in (run, run.resolve().parent) if (p / "run.json").is_file()), run)
    try:
        data = json.loads((path / "run.json").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise TrainError(f"{path / 'run.json'} cannot be read ({error}): train again") from error
    return data if isinstance(data, dict) else {}


def _shared_schema(runs: Sequence[Path]) -> LabelSchema:
    schema = _read_schema(runs[0])
    for run in runs[1:]:
        if _read_schema(run) != schema:
            raise TrainError(
                f"{runs[0]} and {run} were trained with different label schemas: evaluate them "
                "one at a time with --runs RUN"
            )
    return schema


def _unfinished(run: Path) -> str | None:
    """A note on a run of which only some folds are trained."""
    if not (run / "folds.parquet").is_file():
        return None
    n_all = read_parquet(run / "folds.parquet").height
    n_done = read_parquet(run / "oof.parquet").height
    if n_done == n_all:
        return None
    return f"{run}: out-of-fold predictions of {n_done} of its {n_all} photos, other folds are open"

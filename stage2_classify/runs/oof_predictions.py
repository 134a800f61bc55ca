"""Out-of-fold predictions of runs, read from the oof.parquet that train writes.

Knows tables and the label schema; knows nothing of models or scores. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.json_files import read_json
from cropfirst.stage2_classify.runs.parquet import read_parquet
from cropfirst.stage2_classify.runs.swapped_scores import SWAPPED_FILE
from cropfirst.stage2_classify.voting.soft_vote import Condition, combine_codes, split_codes

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class OofPredictions:
    """One run's out-of-fold predictions, one row per photo."""

    name: str
    keys: tuple[str, ...]
    statuses: tuple[str, ...]
    probs: Mapping[str, npt.NDArray[np.float32]]
    """Trained task or code -> (N, classes) probabilities."""
    targets: Mapping[str, Ints]
    """Task or code that follows from the labels -> (N,) class numbers."""
    condition: Condition | None = None
    """Condition on the photos that it was trained on; None = all. It has predicted all photos."""
    applies: npt.NDArray[np.bool_] | None = None
    """(N,) whether the true labels meet that condition."""
    path: Path | None = None
    """Folder of the run or fold."""
    swapped: OofPredictions | None = None
    """Predictions of the same models in swapped rooms, of the photos that have a swapped crop; None
    if the run is not scored there."""

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, keys: Sequence[str]) -> OofPredictions:
        """Return the rows of some keys, in their order."""
        place = {key: row for row, key in enumerate(self.keys)}
        rows = np.array([place[key] for key in keys], dtype=np.int64)
        return OofPredictions(
            self.name,
            tuple(keys),
            tuple(self.statuses[row] for row in rows),
            {name: table[rows] for name, table in self.probs.items()},
            {name: codes[rows] for name, codes in self.targets.items()},
            self.condition,
            None if self.applies is None else self.applies[rows],
            self.path,
        )

    def own_part(self) -> OofPredictions:
        """Return the rows that meet the run's condition."""
        if self.applies is None:
            return self
        part = self.take([key for key, yes in zip(self.keys, self.applies, strict=True) if yes])
        return replace(part, applies=None)


def read_oof_runs(paths: Sequence[Path]) -> tuple[LabelSchema, list[OofPredictions], list[str]]:
    """Read the out-of-fold predictions of every run.

    Args:
        paths: folders of runs, of one run or of one fold.

    Returns:
        The runs' schema, one `OofPredictions` per run, and notes on what is missing.

    Raises:
        TrainError: no run has predictions, or the runs have different label schemas.
    """
    folders: dict[Path, Path] = {}
    notes: list[str] = []
    for path in paths:
        if not path.is_dir():
            raise TrainError(
                f"no runs in {path}: there is no such folder; run cropfirst train first"
            )
        for run in _runs(path):
            if (run / "oof.parquet").is_file():
                folders[run.resolve()] = run
            else:
                notes.append(f"left out: {run} has no finished fold")
    if not folders:
        where = ", ".join(str(path) for path in paths) or "(no folder given)"
        found = "; ".join([f"no out-of-fold predictions in {where}", *notes])
        raise TrainError(f"{found}: run cropfirst train first")
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


def read_oof(run: Path, schema: LabelSchema, *, name: str) -> OofPredictions:
    """Read the out-of-fold predictions of one run or fold, also those in swapped rooms.

    Raises:
        TrainError: a table does not fit the schema.
    """
    found = _read_table(run / "oof.parquet", run, schema, name=name)
    if not (run / SWAPPED_FILE).is_file():
        return found
    return replace(found, swapped=_read_table(run / SWAPPED_FILE, run, schema, name=name))


def _read_table(path: Path, run: Path, schema: LabelSchema, *, name: str) -> OofPredictions:
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
    return OofPredictions(
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
    """Return key -> person of all photos of some runs; an unknown person is one of its own."""
    people = {}
    for run in runs:
        for key, group in read_parquet(run / "oof.parquet").select("key", "group").iter_rows():
            people[key] = f"photo {key}" if group is None else f"person {group}"
    return people


def _targets(own: Mapping[str, Ints], schema: LabelSchema) -> dict[str, Ints]:
    """Return the class numbers that a run has, and those that follow from them."""
    targets = dict(own)
    if schema.combined is not None:
        if schema.combined.name in own:
            targets = split_codes(own[schema.combined.name], schema) | targets
        elif (codes := combine_codes(own, schema)) is not None:
            targets[schema.combined.name] = codes
    return targets


def _probs(column: pl.Series, n_classes: int, path: Path) -> npt.NDArray[np.float32]:
    if len(column) and set(column.list.len().to_list()) != {n_classes}:
        raise TrainError(f"{path}: {column.name} expects {n_classes} numbers per row: train again")
    table = column.list.to_array(n_classes).to_numpy()
    return table.reshape(len(column), n_classes).astype(np.float32)


def _runs(path: Path) -> Iterator[Path]:
    """Yield the run folders in a path, or itself; a fold's folder counts as a run of one fold."""
    if (path / "oof.parquet").is_file() or (path / "schema.json").is_file():
        yield path
        return
    for item in sorted(path.iterdir()):
        if (item / "schema.json").is_file():
            yield item


def _name(run: Path) -> str:
    path = run.resolve()
    return path.name if (path / "schema.json").is_file() else f"{path.parent.name}/{path.name}"


def read_about(run: Path) -> dict[str, Any]:
    """Read the run.json of a run or of a fold's run; empty if there is none.

    Raises:
        TrainError: the file cannot be read.
    """
    path = _run_file(run, "run.json")
    return read_json(path) if path.is_file() else {}


def _read_schema(run: Path) -> LabelSchema:
    path = _run_file(run, "schema.json")
    return LabelSchema.from_dict(read_json(path), where=str(path))


def _run_file(run: Path, name: str) -> Path:
    """Return the path of a run's file, given the folder of the run or of a fold."""
    above = run.resolve().parent / name
    return above if above.is_file() and not (run / name).is_file() else run / name


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
    """Return a note if only some folds of a run are trained."""
    if not (run / "folds.parquet").is_file():
        return None
    n_all = read_parquet(run / "folds.parquet").height
    n_done = read_parquet(run / "oof.parquet").height
    if n_done == n_all:
        return None
    return f"{run}: out-of-fold predictions of {n_done} of its {n_all} photos, other folds are open"

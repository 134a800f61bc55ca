"""The runs that are audited, with their folds and crops; and the choice of photos.

Reads a run's tables and meta.json; loads no weights and opens no photo. No torch at import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cropfirst.cache import Cache, CropSet
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.metrics.chance import ChanceTest, compare_with_chance
from cropfirst.stage2_classify.metrics.intervals import number_people
from cropfirst.stage2_classify.runs.oof_predictions import OofPredictions, read_oof
from cropfirst.stage2_classify.runs.parquet import read_parquet
from cropfirst.stage2_classify.runs.run_paths import META_FILE

Ints = npt.NDArray[np.integer]

CHECKPOINT = "best_f1"
"""Checkpoint of each fold that is audited."""


@dataclass(frozen=True)
class AuditRun:
    """A finished run with everything that the audit needs of it."""

    path: Path
    oof: OofPredictions
    """Out-of-fold predictions, of the photos that the run was trained on."""
    schema: LabelSchema
    fold_of: Mapping[str, int]
    """Key -> fold whose model has not seen the photo's person."""
    person_of: Mapping[str, str]
    """Key -> person."""
    checkpoints: Mapping[int, Path]
    """Fold -> checkpoint folder."""
    metas: Mapping[int, Mapping[str, Any]]
    """Fold -> meta.json of its checkpoint."""
    crops: CropSet

    @property
    def name(self) -> str:
        """Name of the run in tables."""
        return self.oof.name

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that it was trained on, in schema order."""
        return tuple(name for name in self.schema.names if name in self.oof.probs)

    @property
    def backbone(self) -> str:
        """Name of the backbone, or of both joined by +."""
        meta = next(iter(self.metas.values()))
        second = meta.get("second")
        return f"{meta['backbone']}+{second['backbone']}" if second else str(meta["backbone"])

    @property
    def background(self) -> str:
        """The part of the photo that its crops keep, as `detect --background` names it."""
        return str(self.crops.config["crop"]["background"])

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Key -> row of its crop."""
        table = self.crops.manifest.read().drop_nulls("crop_hash")
        return {row["key"]: row for row in table.to_dicts()}

    @property
    def detected(self) -> list[str]:
        """Keys of the photos whose face was plainly detected."""
        return [key for key, row in self.rows.items() if row["status"] == "detected"]

    @cached_property
    def targets(self) -> dict[str, dict[str, int]]:
        """Task -> key -> class number."""
        return {
            task: dict(zip(self.oof.keys, self.oof.targets[task].tolist(), strict=True))
            for task in self.tasks
        }


def compare_oof_with_chance(run: AuditRun, task: str) -> ChanceTest:
    """Compare a run's out-of-fold predictions of all its photos with chance."""
    targets, preds = run.oof.targets[task], run.oof.probs[task].argmax(1)
    people = number_people(run.oof.keys, run.person_of)
    return compare_with_chance(people, targets, preds, run.schema.num_classes(task))


def find_work(paths: Sequence[Path]) -> Path:
    """Return the first folder above the first run that has a cache in it.

    Raises:
        TrainError: there is no such folder, or the run does not exist.
    """
    for path in paths[:1]:
        if not path.exists():
            raise TrainError(f"no such folder: {path}; wanted a run or a folder of runs")
        for folder in (path.resolve(), *path.resolve().parents):
            if (folder / "cache" / "cache.json").is_file():
                return folder
    where = paths[0] if paths else "(no run given)"
    raise TrainError(
        f"no folder above {where} has a cache, whose crops the runs were trained on: name it with "
        "--cache DIR"
    )


def open_runs(paths: Sequence[Path], cache: Cache) -> list[AuditRun]:
    """Open the runs at, or in, some paths.

    Args:
        paths: run directories, or directories of runs.
        cache: with the crops that they were trained on.

    Raises:
        TrainError: no run there, one without out-of-fold predictions or finished folds, or runs of
            different label schemas.
        CacheError: the crops of one are not in the cache.
    """
    folders: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise TrainError(
                f"no run in {path}: there is no such folder; run cropfirst train first"
            )
        folders |= {folder.resolve(): folder for folder in _runs(path)}
    if not folders:
        where = ", ".join(str(path) for path in paths)
        raise TrainError(f"no run in {where}: wanted folders that cropfirst train has written")
    names = [folder.name for folder in folders]
    runs = [
        _open(at, cache, name=name if names.count(name) == 1 else str(at))
        for at, name in zip(folders.values(), names, strict=True)
    ]
    for run in runs[1:]:
        if run.schema != runs[0].schema:
            raise TrainError(
                f"{runs[0].path} and {run.path} were trained with different label schemas: audit "
                "them one at a time"
            )
    return runs


def pick_keys(runs: Sequence[AuditRun], *, limit: int | None, seed: int = 0) -> list[str]:
    """Choose the photos to audit: all photos of random persons, until there are `limit`.

    Args:
        runs: whose photos are chosen from.
        limit: number of photos; None takes all.
        seed: of the random order of persons.

    Raises:
        TrainError: the photos are of one person; there is nobody to exchange backgrounds with.
    """
    people: dict[str, list[str]] = {}
    for key, person in {k: v for run in runs for k, v in run.person_of.items()}.items():
        people.setdefault(person, []).append(key)
    if len(people) < 2:
        raise TrainError(
            "the audit puts each head before another person's background, and the runs know "
            f"{len(people)} person: train on at least two persons"
        )
    names = sorted(people)
    np.random.default_rng(seed).shuffle(names)
    chosen: list[str] = []
    for count, name in enumerate(names):
        if limit is not None and len(chosen) >= limit and count >= 2:
            break
        chosen += people[name]
    return sorted(chosen)


def _runs(path: Path) -> list[Path]:
    if (path / "schema.json").is_file():
        return [path]
    return [item for item in sorted(path.iterdir()) if (item / "schema.json").is_file()]


def _open(run: Path, cache: Cache, *, name: str) -> AuditRun:
    from cropfirst.stage2_classify.runs.checkpoint import read_meta
    from cropfirst.stage2_classify.runs.crop_sets import find_crop_set
    from cropfirst.stage2_classify.runs.json_files import read_json

    if not (run / "oof.parquet").is_file():
        raise TrainError(
            f"{run} has no out-of-fold predictions, so no photo has a model that has not seen its "
            "person: finish it with cropfirst train and the same settings"
        )
    schema = LabelSchema.from_dict(read_json(run / "schema.json"), where=str(run / "schema.json"))
    oof = read_oof(run, schema, name=name).own_part()
    table = read_parquet(run / "oof.parquet").select("key", "group", "fold")
    folds = sorted(set(table["fold"].to_list()))
    checkpoints = {fold: run / f"fold{fold}" / CHECKPOINT for fold in folds}
    gone = [str(folder) for folder in checkpoints.values() if not (folder / META_FILE).is_file()]
    if gone:
        raise TrainError(
            f"{run} has out-of-fold predictions and no checkpoint {gone[0]}: delete its fold's "
            "folder, and run cropfirst train again with the same settings"
        )
    metas = {fold: read_meta(folder) for fold, folder in checkpoints.items()}
    crops = find_crop_set(next(iter(metas.values())), cache, defaults=None)
    known = set(oof.keys)
    rows = [row for row in table.iter_rows() if row[0] in known]
    return AuditRun(
        path=run,
        oof=oof,
        schema=schema,
        fold_of={key: fold for key, _, fold in rows},
        person_of={key: f"photo {key}" if group is None else group for key, group, _ in rows},
        checkpoints=checkpoints,
        metas=metas,
        crops=crops,
    )

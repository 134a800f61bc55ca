"""A run's folder: what it was made from, which folds are finished, who is writing.

    runs/NAME/{config.yaml, schema.json, run.json, folds.parquet}                written first
    runs/NAME/fold0/{best_f1,best_accuracy,best_loss,last,state}/                one a fold
    runs/NAME/fold0/{history.csv, oof.parquet, metrics.json}
    runs/NAME/all/{last,state}/, {history.csv, metrics.json}                     of --all-data
    runs/NAME/{oof.parquet, metrics.json}, tensorboard/                          of all folds

A fold's metrics.json is written last: where it is, the fold is finished. Knows nothing of models.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cropfirst.cache import CropSet
from cropfirst.configs import load_yaml, save_config
from cropfirst.core.errors import TrainError
from cropfirst.core.provenance import describe_versions, git_commit
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.data.folds import check_folds
from cropfirst.stage2_classify.data.training_set import TrainingSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.checkpoint import write_json
from cropfirst.stage2_classify.runs.tables import FORMAT, read_parquet, write_parquet

LIBRARIES = ("torch", "timm", "albumentations", "numpy")
"""Decide a model's numbers; their versions are kept with it."""
FREE = (
    "device", "name", "data.workers", "data.preload", "folds.fold", "folds.all_data", "trackers",
    "project",
)  # fmt: skip
"""Settings that may change between calls for one run: they decide no result."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    def fold(self, fold: int) -> Path:
        """Where a fold's checkpoints and results lie."""
        return self.path / f"fold{fold}"

    @property
    def all_data(self) -> Path:
        """Where the model of all photos and its results lie."""
        return self.path / "all"

    def is_finished(self, fold: int) -> bool:
        """Whether a fold has nothing left to do."""
        return (self.fold(fold) / "metrics.json").is_file()

    def finished_folds(self) -> list[int]:
        """Numbers of the finished folds, rising."""
        names = [path.parent.name[4:] for path in self.path.glob("fold*/metrics.json")]
        return sorted(int(name) for name in names if name.isdigit())


def open_run(
    path: Path,
    *,
    config: TrainConfig,
    schema: LabelSchema,
    training: TrainingSet,
    crops: CropSet,
) -> RunFolder:
    """Begin a run's folder, or check that the one there is of the same making.

    One in which no epoch was finished is begun again: its settings may have been what failed.

    Raises:
        TrainError: it was made with other settings, labels, photos or crops, or is no run.
    """
    run_file = path / "run.json"
    if not run_file.is_file() or not any(path.glob("fold*/last/meta.json")):
        _begin(path, config=config, schema=schema, training=training, crops=crops)
        return RunFolder(path)
    way_out = f"train under another --name, or delete {path}"
    _check_config(config, path, way_out)
    stored = _load_json(run_file)
    check_format(stored, run_file)
    if stored.get("crop_set") != describe_crops(crops):
        name = (stored.get("crop_set") or {}).get("name")
        raise TrainError(f"{path} was trained on crops {name}, not on {crops.name}: {way_out}")
    if _load_json(path / "schema.json") != schema.to_dict():
        raise TrainError(
            f"{path} was trained with another label schema, see schema.json: {way_out}"
        )
    folds = read_parquet(path / "folds.parquet")
    check_folds(folds["fold"].to_numpy(), folds["group"].to_list())
    if not folds.equals(training.table):
        raise TrainError(
            f"{path} was trained on {folds.height} photos, and now there are {len(training)}, or "
            f"their persons or labels changed: {way_out}"
        )
    return RunFolder(path)


def check_format(about: Mapping[str, Any], path: Path) -> None:
    """Refuse a run of a newer format; one without a number is of the first.

    Raises:
        TrainError: this version does not know the format.
    """
    found = about.get("format", 1)
    if not isinstance(found, int) or not 1 <= found <= FORMAT:
        raise TrainError(
            f"{path} has format {found!r}, this version reads up to {FORMAT}: use the cropfirst "
            "that wrote it, or train under another --name"
        )


def describe_crops(crops: CropSet) -> dict[str, Any]:
    """What a checkpoint says of the crops it was trained on."""
    return {"name": crops.name, "fingerprint": crops.fingerprint, "config": dict(crops.config)}


@contextmanager
def hold(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Be the one process that writes below `path`; the system frees the lock at its death.

    Raises:
        TrainError: another process is, and `wait` is false.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / "lock").open("a+") as file:
        try:
            # POSIX record locks: forked loader workers do not inherit them.
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            file.seek(0)
            holder = file.read(200).strip() or "another process"
            raise TrainError(
                f"{path} is being trained by {holder}: wait for it, or train under another --name"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _begin(
    path: Path,
    *,
    config: TrainConfig,
    schema: LabelSchema,
    training: TrainingSet,
    crops: CropSet,
) -> None:
    if path.exists() and (not path.is_dir() or _holds_others(path)):
        raise TrainError(f"{path} is there and is no run: train under another --name, or move it")
    path.mkdir(parents=True, exist_ok=True)
    save_config(config, path / "config.yaml")
    write_json(path / "schema.json", schema.to_dict())
    write_parquet(path / "folds.parquet", training.table)
    about = {
        "format": FORMAT,
        "crop_set": describe_crops(crops),
        "excluded": dict(training.excluded),
        "rules": dict(training.rules),
        "where": dict(config.where),
        "routing": config.routing,
        "versions": describe_versions(*LIBRARIES),
        "git_commit": git_commit(),
    }
    write_json(path / "run.json", about)  # last: a folder without it is begun again


def _holds_others(path: Path) -> bool:
    ours = re.compile(
        r"config\.yaml|(schema|run)\.json|folds\.parquet|fold\d+|all|tensorboard|lock|.*\.tmp"
    )
    return any(not ours.fullmatch(name) for name in os.listdir(path))


def _check_config(config: TrainConfig, path: Path, way_out: str) -> None:
    try:
        stored = TrainConfig.model_validate(load_yaml(path / "config.yaml"))
    except (ValueError, OSError) as error:
        raise TrainError(f"{path / 'config.yaml'} is not of this version: {way_out}") from error
    old, new = (_flatten(each.model_dump(mode="json")) for each in (stored, config))
    changed = [
        f"{key} was {old.get(key)!r}, now {new.get(key)!r}"
        for key in dict.fromkeys([*old, *new])
        if key not in FREE and old.get(key) != new.get(key)
    ]
    if changed:
        what = "; ".join(changed)
        raise TrainError(f"{path} was trained with other settings ({what}): {way_out}")


def _flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and key not in ("kwargs", "augment_classes"):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _load_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TrainError(f"{path} cannot be read ({error}): delete {path.parent}") from error
    return data if isinstance(data, dict) else {}

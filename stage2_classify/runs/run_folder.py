"""The folder of a run: its settings, its finished folds, and the lock of who writes.

    runs/NAME/{config.yaml, schema.json, run.json, folds.parquet}                written first
    runs/NAME/fold0/{best_f1,best_accuracy,best_loss,last,state}/                one per fold
    runs/NAME/fold0/{history.csv, oof.parquet, swapped.parquet, metrics.json}
    runs/NAME/all/{last,state}/, {history.csv, metrics.json}                     of --all-data
    runs/NAME/{oof.parquet, swapped.parquet, metrics.json}, tensorboard/         of all folds

A fold is finished when it has its metrics.json, which is written last. Knows nothing of models.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cropfirst.cache import CropSet
from cropfirst.configs import flatten, load_yaml, save_config
from cropfirst.core.errors import TrainError
from cropfirst.core.provenance import describe_versions, git_commit
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.data.folds import check_folds
from cropfirst.stage2_classify.data.training_set import TrainingSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.json_files import read_json, write_json
from cropfirst.stage2_classify.runs.parquet import FORMAT, read_parquet, write_parquet

LIBRARIES = ("torch", "timm", "albumentations", "numpy")
"""Libraries that decide a model's numbers; their versions are saved with it."""
CHANGEABLE = (
    "device", "name", "data.workers", "data.preload", "folds.fold", "folds.all_data", "trackers",
    "project",
)  # fmt: skip
"""Settings that may differ between calls for one run, because they change no result."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    def fold(self, fold: int) -> Path:
        """Return the folder of a fold's checkpoints and results."""
        return self.path / f"fold{fold}"

    @property
    def all_data(self) -> Path:
        """Folder of the model that is trained on all photos."""
        return self.path / "all"

    def is_finished(self, fold: int) -> bool:
        """Tell whether a fold is trained to its end."""
        return (self.fold(fold) / "metrics.json").is_file()

    def finished_folds(self) -> list[int]:
        """Return the numbers of the finished folds, in ascending order."""
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
    """Create a run's folder, or check that the existing one is of the same run.

    A folder in which no epoch is finished is created again: its settings may have been wrong.

    Raises:
        TrainError: the folder was made with other settings, labels, photos or crops, or is no run.
    """
    run_file = path / "run.json"
    if not has_epochs(path):
        _create(path, config=config, schema=schema, training=training, crops=crops)
        return RunFolder(path)
    way_out = _way_out(path)
    _check_config(config, path)
    stored = read_json(run_file)
    check_format(stored, run_file)
    if stored.get("crop_set") != describe_crops(crops):
        name = (stored.get("crop_set") or {}).get("name")
        raise TrainError(f"{path} was trained on crops {name}, not on {crops.name}: {way_out}")
    if read_json(path / "schema.json") != schema.to_dict():
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


def has_epochs(path: Path) -> bool:
    """Tell whether a folder is a run's, and has the state or a checkpoint of a finished epoch."""
    names = ("last/meta.json", "state/state.json")
    return (path / "run.json").is_file() and any(
        file.is_file() for name in names for file in path.glob(f"fold*/{name}")
    )


def stored_config(path: Path) -> TrainConfig:
    """Read the settings of an existing run.

    Raises:
        TrainError: they are missing, damaged or of another version.
    """
    try:
        return TrainConfig.model_validate(load_yaml(path / "config.yaml"))
    except (ValueError, OSError) as error:
        raise TrainError(
            f"{path / 'config.yaml'} is not of this version: {_way_out(path)}"
        ) from error


def check_format(about: Mapping[str, Any], path: Path) -> None:
    """Check the format of a run.json; without a number it is the first format.

    Raises:
        TrainError: the format is newer than this version.
    """
    found = about.get("format", 1)
    if not isinstance(found, int) or not 1 <= found <= FORMAT:
        raise TrainError(
            f"{path} has format {found!r}, this version reads up to {FORMAT}: use the cropfirst "
            "that wrote it, or train under another --name"
        )


def describe_crops(crops: CropSet) -> dict[str, Any]:
    """Return the entry of meta.json about the crops that a model was trained on."""
    return {"name": crops.name, "fingerprint": crops.fingerprint, "config": dict(crops.config)}


@contextmanager
def run_lock(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Lock a folder for writing by this process; the system frees the lock when it ends.

    Args:
        wait: wait for another process that holds the lock.

    Raises:
        TrainError: another process holds the lock, and `wait` is false.
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


def _create(
    path: Path,
    *,
    config: TrainConfig,
    schema: LabelSchema,
    training: TrainingSet,
    crops: CropSet,
) -> None:
    if path.exists() and (not path.is_dir() or _has_other_files(path)):
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
    write_json(path / "run.json", about)  # last: a folder without it is created again


def _has_other_files(path: Path) -> bool:
    ours = re.compile(
        r"config\.yaml|(schema|run)\.json|folds\.parquet|fold\d+|all|tensorboard|lock|.*\.tmp"
    )
    return any(not ours.fullmatch(name) for name in os.listdir(path))


def _way_out(path: Path) -> str:
    return f"train under another --name, or delete {path}"


def _check_config(config: TrainConfig, path: Path) -> None:
    stored = stored_config(path)
    old, new = (flatten(each.model_dump(mode="json")) for each in (stored, config))
    changed = [
        f"{key} was {old.get(key)!r}, now {new.get(key)!r}"
        for key in dict.fromkeys([*old, *new])
        if key not in CHANGEABLE and old.get(key) != new.get(key)
    ]
    if changed:
        what = "; ".join(changed)
        raise TrainError(f"{path} was trained with other settings ({what}): {_way_out(path)}")

"""Checks a run before anything is trained, settles its open settings and makes its folder.

Knows settings, labels, crops and run folders; trains nothing.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cropfirst.cache import CropSet
from cropfirst.cache.swapped import SwappedTwin
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.data.build_training_set import build_training_set
from cropfirst.stage2_classify.data.swapped_rows import SwappedRows, build_swapped_rows
from cropfirst.stage2_classify.data.training_set import TrainingSet
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.model.backbones import check_backbone
from cropfirst.stage2_classify.runs.crop_sets import DEFAULT_BACKGROUND
from cropfirst.stage2_classify.runs.run_folder import (
    RunFolder,
    has_epochs,
    open_run,
    stored_config,
)
from cropfirst.stage2_classify.train.checks import (
    check_counts,
    check_settings,
    check_single_crops,
    tasks_of_data_settings,
)
from cropfirst.stage2_classify.train.distributed import SINGLE_PROCESS, ProcessGroup
from cropfirst.stage2_classify.train.fold_setup import default_batch_size
from cropfirst.stage2_classify.train.network import build_network, load_initial_weights
from cropfirst.stage2_classify.train.swapped import find_twin, settle_swapping
from cropfirst.stage2_classify.train.tracking import check_trackers
from cropfirst.stage2_classify.train.warm_start import WarmStart, open_warm_start


@dataclass(frozen=True)
class PreparedRun:
    """A run that can be trained."""

    config: TrainConfig
    """Its settings, with the batch size and the score to choose by."""
    training: TrainingSet
    run: RunFolder
    warm_start: WarmStart | None
    twin: SwappedTwin | None
    """The swapped crops that it is scored on; None if it cannot be."""
    no_twin: str
    """Why it cannot be scored in swapped rooms; "" if it can."""

    def swapped_rows(self) -> SwappedRows | None:
        """Number the swapped crops that the run is scored and trained on."""
        if self.twin is None:
            return None
        data = self.config.data
        n_draws = (data.swap_draws or 0) if data.swap_rooms else 0
        keys = self.training.table["key"].to_list()
        return build_swapped_rows(self.twin, keys, n_training_draws=n_draws)


def prepare_run(
    photos: PhotoSet,
    schema: LabelSchema,
    crops: CropSet,
    config: TrainConfig,
    *,
    runs_dir: Path,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> PreparedRun:
    """Check that the run can be trained, then create its folder, or check the one that exists.

    Of several processes, only the main one touches the folder. The config that is returned and
    stored has the batch size and the score to choose by that were chosen, if none was set.

    Raises:
        TrainError: the task, labels, persons, backbone, trackers or run folder do not allow it.
    """
    check_trackers(config.tracker_names)
    check_backbone(config.model.backbone)
    check_settings(config, crops)
    path = runs_dir / run_name(config, crops)
    stored = stored_config(path) if has_epochs(path) else None
    warm_start = _open_warm_start(config, photos, runs_dir, path)
    training = build_training_set(
        photos,
        schema,
        crops,
        tasks=config.tasks,
        n_folds=config.folds.n_folds,
        seed=config.folds.seed,
        heads=config.head,
        rules=config.labels,
        where=config.where,
        known_folds=None if warm_start is None else warm_start.folds_of,
        extra_tasks=tasks_of_data_settings(config, schema),
    )
    config = _choose_batch_size(config, training, stored, processes=processes.size)
    twin, no_twin = find_twin(crops, training)
    config = settle_swapping(config, twin, no_twin, stored=stored)
    check_counts(config, training, folds_to_train(config), processes=processes.size)
    _try_network(
        config, training, crops, warm_start=warm_start, loads=stored is None and processes.is_main
    )
    run = RunFolder(path)
    if processes.is_main:
        run = open_run(path, config=config, schema=schema, training=training, crops=crops)
    return PreparedRun(config, training, run, warm_start, twin, no_twin)


def _choose_batch_size(
    config: TrainConfig, training: TrainingSet, stored: TrainConfig | None, *, processes: int
) -> TrainConfig:
    """Return the config with a batch size, if it has none; that of an existing run stays."""
    if config.data.batch_size is not None:
        return config
    if stored is not None:
        size = stored.data.batch_size
    else:
        size = default_batch_size(
            smallest_part(config, training),
            accumulate=config.optim.accumulate,
            processes=processes,
        )
    data = config.data.model_copy(update={"batch_size": size})
    return config.model_copy(update={"data": data})


def smallest_part(config: TrainConfig, training: TrainingSet) -> int:
    """Return the number of crops in the smallest training part of all folds, trained or not."""
    return min(len(training.rows(k, held_out=False)) for k in range(config.folds.n_folds))


def run_name(config: TrainConfig, crops: CropSet) -> str:
    """Return the name of the run's folder: TASK-BACKBONE, unless the config names it.

    The crops' background is added if it is not the default, so that runs on several crop sets have
    different names.
    """
    background = crops.name.partition("-")[0]
    is_short = config.name is not None or background == DEFAULT_BACKGROUND
    return config.run_name if is_short else f"{config.run_name}-{background}"


def possible_runs(config: TrainConfig, runs_dir: Path) -> list[Path]:
    """Return the existing folders that a run of this config has on crops of some background."""
    folders = [runs_dir / config.run_name]
    if config.name is None:
        folders += sorted(runs_dir.glob(f"{glob.escape(config.run_name)}-*"))
    return folders


def folds_to_train(config: TrainConfig) -> Sequence[int]:
    """Return the folds to train: the one that the config names, or all."""
    folds = config.folds
    return range(folds.n_folds) if folds.fold is None else [folds.fold]


def _open_warm_start(
    config: TrainConfig, photos: PhotoSet, runs_dir: Path, run: Path
) -> WarmStart | None:
    """Open the run of --init-from: a path, or a name in the runs folder."""
    if config.init_from is None:
        return None
    path, in_runs = Path(config.init_from), runs_dir / config.init_from
    if in_runs.is_dir() and not path.is_dir():
        path = in_runs
    samples = photos.by_split("train")
    return open_warm_start(path, n_folds=config.folds.n_folds, run=run, samples=samples)


def _try_network(
    config: TrainConfig,
    training: TrainingSet,
    crops: CropSet,
    *,
    warm_start: WarmStart | None,
    loads: bool,
) -> None:
    """Build the network once, so that an impossible one is found before anything is written.

    Args:
        loads: whether its initial weights are loaded, too.

    Raises:
        TrainError: the backbone refuses the image size, an argument or batches of one crop, or
            the initial weights cannot be fetched or are of another architecture.
    """
    size = config.data.image_size
    if size is None:
        reader = crops.reader()
        size = max(reader[training.table["key"][0]].shape[:2])
        reader.close()
    with torch.random.fork_rng(devices=[]):
        model = build_network(config, training, image_size=size, pretrained=loads)
        if loads:
            load_initial_weights(
                model, config, f"fold{folds_to_train(config)[0]}",
                class_names=training.class_names, warm_start=warm_start,
            )  # fmt: skip
        n_rows = [len(training.rows(k, held_out=False)) for k in folds_to_train(config)]
        if min(config.data.batch_size or min(n_rows), *n_rows) == 1:
            check_single_crops(model, config)

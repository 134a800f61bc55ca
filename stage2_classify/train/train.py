"""Training: every fold of one run, resumable at each epoch.

All randomness of an epoch comes from (seed, fold, epoch), so a run that was killed and goes on
ends, on the CPU, with the same bits as one that was left alone. Knows crops and class numbers;
opens no photo.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from cropfirst.cache import CropSet
from cropfirst.core.device import describe_device, resolve_amp
from cropfirst.core.fingerprint import content_hash
from cropfirst.core.provenance import describe_versions
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.data.crop_dataset import CropSource
from cropfirst.stage2_classify.data.training_set import (
    TrainingSet,
    absent_classes,
    build_training_set,
)
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.model.backbones import check_backbone
from cropfirst.stage2_classify.progress import TrainProgress, say
from cropfirst.stage2_classify.runs.checkpoint import read_json
from cropfirst.stage2_classify.runs.folder import LIBRARIES, RunFolder, open_run
from cropfirst.stage2_classify.runs.summary import RunSummary, finish_run, summary_table
from cropfirst.stage2_classify.train.distributed import SINGLE_PROCESS, ProcessGroup
from cropfirst.stage2_classify.train.fold_job import (
    EpochCallback,
    FoldJob,
    ignore_epoch,
    pick_place,
)
from cropfirst.stage2_classify.train.network import model_of
from cropfirst.stage2_classify.train.preflight import check_counts, check_settings, wanted_tasks
from cropfirst.stage2_classify.train.tracking import check_trackers
from cropfirst.stage2_classify.train.train_fold import train_fold
from cropfirst.stage2_classify.train.warm_start import Origin, open_origin


def train(
    photos: PhotoSet,
    schema: LabelSchema,
    crops: CropSet,
    config: TrainConfig,
    *,
    runs_dir: Path,
    console: Console | None = None,
    on_epoch: EpochCallback = ignore_epoch,
    processes: ProcessGroup | None = None,
) -> RunSummary:
    """Train the folds of a run that are not finished, and score all that are.

    Out-of-fold predictions, and what the ensemble uses, come from each fold's `best_f1`: the epoch
    with the highest macro F1 on its validation part (mean over the tasks). So they are a little
    too good: that part has chosen the epoch.

    Args:
        runs_dir: the run goes to `runs_dir / run_name(config, crops)`.
        console: None is silent.
        on_epoch: is told of every epoch, and ends the training by raising.
        processes: those that train each fold together, all of which call this; None = one.

    Raises:
        TrainError: the task, labels, persons, backbone or run folder do not allow it.
        DeviceError: a GPU was asked for and is not there.
    """
    started = time.perf_counter()
    console = console or Console(quiet=True)
    processes = processes or SINGLE_PROCESS
    with processes.share_errors():
        device = processes.device(config.device)
        amp = resolve_amp(config.optim.amp, device)
        training, run, origin = prepare_run(
            photos, schema, crops, config, runs_dir=runs_dir, processes=processes
        )
    if processes.size > 1:
        processes.check_same(_facts(config, training, crops, device))
    folds = config.folds
    wanted = _wanted(config)
    todo = processes.broadcast([fold for fold in wanted if not run.is_finished(fold)])
    everything = processes.broadcast(
        folds.all_data and not (run.all_data / "metrics.json").is_file()
    )
    _say_start(console, config, training, run, todo=todo, finished=len(wanted) - len(todo))
    _say_levers(console, config, training, origin, todo=todo)
    if todo or everything:
        _say_device(
            console, asked=config.device, shown=describe_device(device), processes=processes
        )
        source = CropSource(
            crops,
            training.table["key"].to_list(),
            image_size=config.data.image_size,
            preload=pick_place(config.data, device),
            device=device,
            sharers=processes.local_size,
        )

        def job(fold: int, epochs: int) -> FoldJob:
            return FoldJob(
                fold,
                run,
                config,
                schema,
                training,
                crops,
                source,
                device,
                amp,
                epochs,
                origin=origin,
                on_epoch=on_epoch,
                processes=processes,
            )

        epochs = config.optim.epochs
        total = (len(todo) + int(everything)) * epochs * len(training)
        with TrainProgress(console, total=total) as progress:
            for fold in todo:
                train_fold(job(fold, epochs), progress)
            if everything:
                chosen = processes.broadcast(chosen_epochs(run) if processes.is_main else None)
                progress.say(f"all data: {chosen} epochs, the median of those that the folds chose")
                train_fold(job(folds.n_folds, chosen), progress)
    # Once the first process has written, the others read.
    for writes in (True, False) if processes.size > 1 else (True,):
        with processes.share_errors():
            if writes == processes.is_main:
                summary = finish_run(
                    run,
                    training,
                    trained_folds=todo,
                    seconds=time.perf_counter() - started,
                    device=describe_device(device),
                    writes=writes,
                )
    console.print(summary_table(summary))
    say(console, f"run: {run.path}")
    return summary


def prepare_run(
    photos: PhotoSet,
    schema: LabelSchema,
    crops: CropSet,
    config: TrainConfig,
    *,
    runs_dir: Path,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> tuple[TrainingSet, RunFolder, Origin | None]:
    """Refuse what cannot be trained, then begin the run's folder, or find it as it was.

    Of several processes, the first alone does the latter.

    Raises:
        TrainError: the task, labels, persons, backbone, trackers or run folder do not allow it.
    """
    check_trackers(config.tracker_names)
    check_backbone(config.model.backbone)
    check_settings(config, crops)
    path = runs_dir / run_name(config, crops)
    origin = _open_origin(config, runs_dir, path)
    training = _load_training(photos, schema, crops, config, origin=origin)
    check_counts(config, training, _wanted(config), processes=processes.size)
    _try_network(config, training, crops)
    if not processes.is_main:
        return training, RunFolder(path), origin
    run = open_run(path, config=config, schema=schema, training=training, crops=crops)
    return training, run, origin


def _facts(
    config: TrainConfig, training: TrainingSet, crops: CropSet, device: torch.device
) -> dict[str, str]:
    """What processes must agree on that train together, in words and hashes."""
    return {
        "settings": content_hash(config.model_dump_json().encode()),
        "photos, labels or folds": content_hash(training.table.write_ndjson().encode()),
        "crops": crops.fingerprint,
        "device": device.type,
        "versions": str(describe_versions(*LIBRARIES)),
    }


def _wanted(config: TrainConfig) -> Sequence[int]:
    folds = config.folds
    return range(folds.n_folds) if folds.fold is None else [folds.fold]


def chosen_epochs(run: RunFolder) -> int:
    """How long to train on all data: the median of the folds' best epochs by macro F1."""
    best = [
        int(read_json(run.fold(fold) / "metrics.json")["epoch"]) for fold in run.finished_folds()
    ]
    return max(round(statistics.median(best)), 1)


def _open_origin(config: TrainConfig, runs_dir: Path, run: Path) -> Origin | None:
    """The run behind --init-from: a path, or a name beside the new run."""
    if config.init_from is None:
        return None
    path, beside = Path(config.init_from), runs_dir / config.init_from
    if beside.is_dir() and not path.is_dir():
        path = beside
    return open_origin(path, n_folds=config.folds.n_folds, run=run)


def _load_training(
    photos: PhotoSet,
    schema: LabelSchema,
    crops: CropSet,
    config: TrainConfig,
    *,
    origin: Origin | None,
) -> TrainingSet:
    """The photos, folds and targets that the config asks for."""
    return build_training_set(
        photos,
        schema,
        crops,
        tasks=config.tasks,
        n_folds=config.folds.n_folds,
        seed=config.folds.seed,
        heads=config.head,
        rules=config.labels,
        where=config.where,
        known_folds=None if origin is None else origin.folds_of,
        also=wanted_tasks(config, schema),
    )


def _try_network(config: TrainConfig, training: TrainingSet, crops: CropSet) -> None:
    """Refuse a network that cannot be before anything is made on disk or read into memory.

    Raises:
        TrainError: the backbone refuses the image size or an argument.
    """
    size = config.data.image_size
    if size is None:
        reader = crops.reader()
        size = max(reader[training.table["key"][0]].shape[:2])
        reader.close()
    with torch.random.fork_rng(devices=[]):
        model_of(config, training, image_size=size, pretrained=False)


def run_name(config: TrainConfig, crops: CropSet) -> str:
    """TASK-BACKBONE, and the crops' background where it is not the default: runs on several crop
    sets are there to be compared."""
    background = crops.name.partition("-")[0]
    usual = config.name is not None or background == "ellipse"
    return config.run_name if usual else f"{config.run_name}-{background}"


def _say_start(
    console: Console,
    config: TrainConfig,
    training: TrainingSet,
    run: RunFolder,
    *,
    todo: list[int],
    finished: int,
) -> None:
    groups = training.table["group"]
    persons = groups.drop_nulls().n_unique() + groups.null_count()
    text = f"{config.task}: {len(training)} photos, {persons} persons, {config.folds.n_folds} folds"
    say(console, f"{text}, {config.model.title}")
    for reason, count in training.excluded.items():
        say(console, f"  left out: {count} photos, {reason}")
    if not todo:
        say(console, f"{run.path} is finished already: nothing to train")
    elif finished:
        say(console, f"{finished} folds are finished already")


def _say_levers(
    console: Console,
    config: TrainConfig,
    training: TrainingSet,
    origin: Origin | None,
    *,
    todo: list[int],
) -> None:
    """What training does otherwise than usual, and for how many photos."""
    if config.where:
        part = int(training.table["applies"].sum())
        only = ", ".join(f"{task} {name}" for task, name in config.where.items())
        say(console, f"  trained on {only} alone: {part} photos")
    for rule, count in training.rules.items():
        note = f"  in training alone: {count} photos, {rule}"
        say(console, note, style="" if count else "yellow")
    if origin is not None:
        keys, groups = (training.table[name].to_list() for name in ("key", "group"))
        new = list(origin.folds_of(keys, groups)).count(None)
        say(console, f"  goes on from {origin.path}: {new} photos are of new people")
    for fold in todo:
        for task, names in absent_classes(training, fold).items():
            text = f"  fold {fold} is not trained on {', '.join(names)} of {task}, and asked for it"
            say(console, f"{text}: too few people have it", style="yellow")


def _say_device(console: Console, *, asked: str, shown: str, processes: ProcessGroup) -> None:
    if processes.size > 1:
        shown = f"{shown}, in each of {processes.size} processes"
    if asked == "auto" and shown.startswith("cpu"):
        text = f"No GPU: training on the {shown}, many times slower."
        say(console, text, style="bold yellow")
    else:
        say(console, f"device: {shown}")

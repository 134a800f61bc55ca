"""Training of a run: all of its folds, each resumable after every epoch.

All randomness of an epoch follows from (seed, fold, epoch), so a killed run that is resumed ends,
on the CPU, with the same bits as an undisturbed one. Knows crops and class numbers; opens no photo.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from cropfirst.cache import CropSet
from cropfirst.core.device import describe_device, resolve_amp
from cropfirst.core.fingerprint import content_hash
from cropfirst.core.provenance import describe_versions
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.data.crop_source import CropSource
from cropfirst.stage2_classify.data.swapped_rows import SwappedRows
from cropfirst.stage2_classify.data.training_set import TrainingSet
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.progress import TrainProgress, say
from cropfirst.stage2_classify.runs.json_files import read_json
from cropfirst.stage2_classify.runs.results import (
    RunSummary,
    explain_pooled,
    finish_run,
    summary_table,
)
from cropfirst.stage2_classify.runs.run_folder import (
    LIBRARIES,
    RunFolder,
)
from cropfirst.stage2_classify.train.distributed import SINGLE_PROCESS, ProcessGroup
from cropfirst.stage2_classify.train.fold_batches import preload_setting
from cropfirst.stage2_classify.train.fold_setup import (
    EpochCallback,
    FoldSetup,
    ignore_epoch,
)
from cropfirst.stage2_classify.train.messages import (
    say_batch_size,
    say_copies,
    say_device,
    say_rooms,
    say_special_settings,
    say_start,
)
from cropfirst.stage2_classify.train.prepare import (
    PreparedRun,
    folds_to_train,
    prepare_run,
    smallest_part,
)
from cropfirst.stage2_classify.train.rescore import needs_swapped_scores, score_in_swapped_rooms
from cropfirst.stage2_classify.train.train_fold import train_fold


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
    """Train the folds of a run that are not finished, and score all finished ones.

    Out-of-fold predictions, and those of the ensemble, come from each fold's `best_f1`: the epoch
    with the highest macro F1 on its validation part (mean over the tasks). So they are slightly
    optimistic: that part has chosen the epoch.

    Args:
        runs_dir: the run's folder is `runs_dir / run_name(config, crops)`.
        console: where to print; None is silent.
        on_epoch: called after every epoch; an error that it raises ends the training.
        processes: those that train each fold together, all of which call this function; None = one.

    Raises:
        TrainError: the task, labels, persons, backbone or run folder do not allow the training.
        DeviceError: the device does not exist.
    """
    started = time.perf_counter()
    console = console or Console(quiet=True)
    processes = processes or SINGLE_PROCESS

    # Check everything before anything is trained, then find out what is left to do.
    with processes.share_errors():
        device = processes.device(config.device)
        amp = resolve_amp(config.optim.amp, device)
        sets_batch = config.data.batch_size is not None
        prepared = prepare_run(
            photos, schema, crops, config, runs_dir=runs_dir, processes=processes
        )
    config, training, run = prepared.config, prepared.training, prepared.run
    if processes.size > 1:
        processes.check_same(_shared_facts(config, training, crops, device))
    swapped = prepared.swapped_rows()
    fingerprint = None if swapped is None else swapped.fingerprint
    todo = _find_todo(config, run, fingerprint, processes)
    n_finished = len(folds_to_train(config)) - len(todo.folds)
    say_start(console, config, training, run, todo=todo.folds, finished=n_finished)
    say_special_settings(console, config, training, prepared.warm_start, todo=todo.folds)
    if todo.folds:
        if not sets_batch:
            say_batch_size(console, config, n_rows=smallest_part(config, training))
        say_copies(console, training, crops)

    if todo.folds or todo.all_data or todo.rescored:
        name = describe_device(device)
        say_device(console, asked=config.device, name=name, n_processes=processes.size)
        first = FoldSetup(
            fold=0,
            epochs=config.optim.epochs,
            run=run,
            config=config,
            schema=schema,
            training=training,
            crops=crops,
            source=_open_crops(
                crops, config, training, swapped, device=device, processes=processes
            ),
            device=device,
            amp=amp,
            swapped=swapped,
            swapped_fingerprint=fingerprint,
            warm_start=prepared.warm_start,
            on_epoch=on_epoch,
            processes=processes,
        )
        _train_folds(first, todo, console=console)

    seconds = time.perf_counter() - started
    summary = _score(prepared, todo.folds, seconds=seconds, device=device, processes=processes)
    console.print(summary_table(summary))
    if note := explain_pooled(summary):
        say(console, note)
    say_rooms(console, summary, reason=prepared.no_twin)
    say(console, f"run: {run.path}")
    return summary


def _open_crops(
    crops: CropSet,
    config: TrainConfig,
    training: TrainingSet,
    swapped: SwappedRows | None,
    *,
    device: torch.device,
    processes: ProcessGroup,
) -> CropSource:
    return CropSource(
        crops,
        training.table["key"].to_list(),
        image_size=config.data.image_size,
        preload=preload_setting(config.data, device),
        device=device,
        sharers=processes.local_size,
        more=() if swapped is None else swapped.parts,
    )


@dataclass(frozen=True)
class _Todo:
    """The parts of a run that are not finished."""

    folds: Sequence[int]
    rescored: Sequence[int]
    """Finished folds that are not scored on the present swapped crops."""
    all_data: bool
    """Whether the model of all data is to be trained."""


def _find_todo(
    config: TrainConfig, run: RunFolder, fingerprint: str | None, processes: ProcessGroup
) -> _Todo:
    """Return what is left to do, which the main process decides.

    Args:
        fingerprint: that of the present swapped crops; None without any.
    """
    all_data = config.folds.all_data and not (run.all_data / "metrics.json").is_file()
    rescored = [
        fold for fold in run.finished_folds() if needs_swapped_scores(run, fold, fingerprint)
    ]
    todo = _Todo(
        folds=[fold for fold in folds_to_train(config) if not run.is_finished(fold)],
        rescored=rescored,
        all_data=all_data,
    )
    found: _Todo = processes.broadcast(todo)
    return found


def _train_folds(setup: FoldSetup, todo: _Todo, *, console: Console) -> None:
    """Train the folds, then the model of all data for as many epochs as the folds decide.

    Args:
        setup: setup of any fold.
    """
    run, processes = setup.run, setup.processes
    last = [setup.config.folds.n_folds] if todo.all_data else []
    total = setup.epochs * sum(replace(setup, fold=fold).n_crops for fold in [*todo.folds, *last])
    total += sum(replace(setup, fold=fold).n_swapped for fold in todo.rescored)
    with TrainProgress(console, total=total) as progress:
        for fold in todo.rescored:
            score_in_swapped_rooms(replace(setup, fold=fold), progress)
        for fold in todo.folds:
            train_fold(replace(setup, fold=fold), progress)
        if todo.all_data:
            chosen = processes.broadcast(chosen_epochs(run) if processes.is_main else None)
            progress.say(f"all data: {chosen} epochs, the median of those that the folds chose")
            n_folds = setup.config.folds.n_folds
            train_fold(replace(setup, fold=n_folds, epochs=chosen), progress)


def _score(
    prepared: PreparedRun,
    todo: Sequence[int],
    *,
    seconds: float,
    device: torch.device,
    processes: ProcessGroup,
) -> RunSummary:
    """Score the run: the main process writes the results, then the others read them."""
    for main_turn in (True, False) if processes.size > 1 else (True,):
        with processes.share_errors():
            if main_turn == processes.is_main:
                summary = finish_run(
                    prepared.run,
                    prepared.training,
                    trained_folds=todo,
                    seconds=seconds,
                    device=describe_device(device),
                    choose_by=prepared.config.choose_by,
                    writes=main_turn,
                )
    return summary


def chosen_epochs(run: RunFolder) -> int:
    """Return the number of epochs to train on all data: the median of the folds' best epochs."""
    best = [
        int(read_json(run.fold(fold) / "metrics.json")["epoch"]) for fold in run.finished_folds()
    ]
    return max(round(statistics.median(best)), 1)


def _shared_facts(
    config: TrainConfig, training: TrainingSet, crops: CropSet, device: torch.device
) -> dict[str, str]:
    """Return what must be the same in all processes that train together, as words and hashes."""
    return {
        "settings": content_hash(config.model_dump_json().encode()),
        "photos, labels or folds": content_hash(training.table.write_ndjson().encode()),
        "crops": crops.fingerprint,
        "device": device.type,
        "versions": str(describe_versions(*LIBRARIES)),
    }

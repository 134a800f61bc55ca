"""The training loop of one fold, from its initial weights or a saved state to its results.

Each epoch ends with three writes: the history, the state to resume from, and the checkpoints. The
state decides what is true: a resumed run writes the checkpoints of its epoch that are missing. So a
process that is killed at any moment loses at most the epoch it is in.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cropfirst.core.errors import PeerError, TrainError
from cropfirst.core.files import remove_torn
from cropfirst.core.provenance import describe_versions, git_commit
from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.progress import TrainProgress, epoch_line
from cropfirst.stage2_classify.runs.checkpoint import load_state, save_state
from cropfirst.stage2_classify.runs.json_files import write_json
from cropfirst.stage2_classify.runs.parquet import read_parquet
from cropfirst.stage2_classify.runs.results import score_oof
from cropfirst.stage2_classify.runs.run_folder import LIBRARIES, describe_crops, run_lock
from cropfirst.stage2_classify.train.checkpoint_saver import SCORES, CheckpointSaver
from cropfirst.stage2_classify.train.distributed import SEE_MAIN_PROCESS
from cropfirst.stage2_classify.train.epochs import LossNotFiniteError, train_one_epoch
from cropfirst.stage2_classify.train.fold_batches import FoldBatches, build_batches
from cropfirst.stage2_classify.train.fold_setup import FoldSetup
from cropfirst.stage2_classify.train.messages import explain_divergence, explain_memory
from cropfirst.stage2_classify.train.network import (
    build_criterion_of_fold,
    build_model_of_fold,
    describe_network,
)
from cropfirst.stage2_classify.train.tracked_fold import TrackedFold
from cropfirst.stage2_classify.train.tracking import Trackers, open_trackers
from cropfirst.stage2_classify.train.train_state import TrainState, build_train_state
from cropfirst.stage2_classify.train.validation import (
    OOF_FILE,
    ValidationResult,
    restore_tables,
    validate_fold,
)


def train_fold(setup: FoldSetup, progress: TrainProgress) -> None:
    """Train a fold to its end, resuming it if some of its epochs are finished.

    Of several processes, the main one locks the fold and writes its files.

    Raises:
        TrainError: the loss became NaN or infinite, memory ran out, or another process is training
            the fold.
    """
    devices = [setup.device] if setup.device.type == "cuda" else []
    processes = setup.processes
    with ExitStack() as stack:
        with processes.share_errors():
            if processes.is_main:
                stack.enter_context(run_lock(setup.folder))
        stack.enter_context(torch.random.fork_rng(devices=devices))
        # Another process may have finished the fold a moment ago.
        if processes.broadcast((setup.folder / "metrics.json").is_file()):
            return
        for folder in (setup.folder, *setup.folder.glob("*/")) if processes.is_main else ():
            remove_torn(folder)
        try:
            _run_epochs(setup, progress)
        except LossNotFiniteError as error:
            if not processes.is_main:  # all processes see the same loss
                raise PeerError(SEE_MAIN_PROCESS) from error
            raise TrainError(explain_divergence(setup)) from error
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            raise TrainError(explain_memory(setup)) from error
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):  # torch's message on the CPU
                raise
            raise TrainError(explain_memory(setup)) from error


@dataclass
class _FoldRun:
    """The parts that all epochs of a fold share, and the results of those that are finished."""

    setup: FoldSetup
    batches: FoldBatches
    state: TrainState
    fixed_meta: Mapping[str, Any]
    """Entries of a checkpoint's meta.json that are the same in every epoch."""
    saver: CheckpointSaver
    history: list[dict[str, float]] = field(default_factory=list)


def _run_epochs(setup: FoldSetup, progress: TrainProgress) -> None:
    """Run the epochs that are left, from the initial weights or the saved state."""
    run = _begin(setup, progress)
    setup = run.setup
    with _open_trackers(setup, progress, run.history) as trackers:
        for row in run.history:
            setup.on_epoch(setup.fold, row)
        for epoch in range(len(run.history) + 1, setup.epochs + 1):
            if _stops_early(setup, run.saver, epoch - 1, progress):
                break
            row, result = _run_epoch(run, epoch, progress)

            # Until the state is written, a resumed run repeats this epoch.
            is_best = run.saver.update(epoch, result.scores)
            run.history.append(row)
            if trackers is not None:  # in the process that writes
                trackers.log(epoch, {name: row[name] for name in row if name != "epoch"})
                _save_epoch(run, epoch, result)

            line = epoch_line(setup.title, row, epochs=setup.epochs, best=is_best)
            progress.say(line, style="green" if is_best else "")
            setup.on_epoch(setup.fold, row)
    if setup.processes.is_main:
        _finish(setup, run.saver, n_epochs=len(run.history))


def _begin(setup: FoldSetup, progress: TrainProgress) -> _FoldRun:
    """Build everything that the epochs need, and restore the saved state of a killed run."""
    processes = setup.processes
    with processes.share_errors():
        saved = load_state(setup.folder / "state")
    processes.check_same({"a state to go on from, of epoch": str(saved and saved[1]["epoch"])})
    if saved is not None and saved[1].get("swapped") != setup.swapped_fingerprint:
        setup = _on_other_swapped_crops(setup)
    torch.manual_seed(setup.seed_of(0))
    model = build_model_of_fold(setup, progress, initial_weights=saved is None)
    batches = build_batches(setup, model)
    state = build_train_state(
        model,
        setup.config.optim,
        batches_per_epoch=len(batches.training),
        amp=setup.amp,
        criterion=build_criterion_of_fold(model, setup).to(setup.device),
        processes=processes,
    )
    fixed_meta = _fixed_meta(setup, model)
    run = _FoldRun(setup, batches, state, fixed_meta, CheckpointSaver(setup.folder))
    if saved is not None:
        state.load(*saved)
        run.history = saved[1]["history"]
        with processes.share_errors():
            if processes.is_main:
                run.saver = _restore_checkpoints(setup, state, saved, fixed_meta)
        run.saver.best = processes.broadcast(run.saver.best)
        progress.say(f"{setup.title}: goes on after epoch {len(run.history)}")
        progress.advance(len(run.history) * setup.n_crops)
    return run


def _run_epoch(
    run: _FoldRun, epoch: int, progress: TrainProgress
) -> tuple[dict[str, float], ValidationResult]:
    """Train and validate one epoch; return its row of the history, and what validation found.

    All randomness of the epoch follows from (seed, fold, epoch), so that a resumed run ends with
    the same weights.
    """
    setup, batches, state = run.setup, run.batches, run.state
    settings = setup.config.optim
    progress.begin_epoch(fold=setup.title, epoch=epoch, epochs=setup.epochs)
    torch.manual_seed(setup.seed_of(epoch))
    batches.sampler.epoch = epoch
    batches.training.seed = (*setup.seed, epoch)

    started = time.perf_counter()
    trained = train_one_epoch(
        state,
        batches.training,
        first_update=(epoch - 1) * state.updates_per_epoch,
        frozen=epoch <= settings.freeze_epochs,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    row = {
        "epoch": epoch,
        "lr": state.schedule.lr,
        "train_loss": trained.loss,
        "train_f1": trained.f1,
    }

    result = validate_fold(setup, batches, state.eval_model, state.criterion, progress)
    row |= {**result.row, "crops_per_s": batches.sampler.n_crops / seconds}
    row["seconds"] = time.perf_counter() - started
    if result.scores:
        monitored = result.scores[settings.monitor] * SCORES[settings.monitor]
        state.schedule.end_epoch(monitored)
    return row, result


def _save_epoch(run: _FoldRun, epoch: int, result: ValidationResult) -> None:
    """Write the state to resume from, then the checkpoints."""
    state, folder = run.state, run.setup.folder
    data = {
        "epoch": epoch,
        "history": run.history,
        "best": run.saver.best,
        "metrics": result.metrics,
        "swapped": run.setup.swapped_fingerprint,
        **state.numbers(),
    }
    save_state(folder / "state", state.tensors() | result.tensors(), data)
    meta = {**run.fixed_meta, "epoch": epoch, "metrics": result.metrics}
    run.saver.save(epoch, model=state.eval_model, meta=meta, oof=result.tables)


def _open_trackers(
    setup: FoldSetup, progress: TrainProgress, history: Sequence[Mapping[str, float]]
) -> AbstractContextManager[Trackers | None]:
    """Open the trackers; gives None in a process that writes nothing."""
    if not setup.processes.is_main:
        return nullcontext()
    tracked = TrackedFold(
        run=setup.run.path.name,
        fold=setup.fold,
        folder=setup.folder,
        project=setup.config.project,
        config=setup.config.model_dump(mode="json"),
        first_epoch=len(history) + 1,
    )
    return open_trackers(
        setup.config.tracker_names,
        tracked,
        rows=history,
        tensorboard=setup.run.path / "tensorboard" / setup.folder.name,
        warn=partial(progress.say, style="bold yellow"),
    )


def _restore_checkpoints(
    setup: FoldSetup,
    state: TrainState,
    saved: tuple[Mapping[str, Tensor], Mapping[str, Any]],
    fixed_meta: Mapping[str, Any],
) -> CheckpointSaver:
    """Write the checkpoints of the saved state's epoch that a killed process has not written."""
    tensors, data = saved
    saver = CheckpointSaver(setup.folder, data["best"])
    if "metrics" in data:  # absent from the states of earlier versions
        oof = restore_tables(setup, tensors)
        meta = {**fixed_meta, "epoch": data["epoch"], "metrics": data["metrics"]}
        saver.save(data["epoch"], model=state.eval_model, meta=meta, oof=oof, missing_only=True)
    saver.drop_stale()
    return saver


def _on_other_swapped_crops(setup: FoldSetup) -> FoldSetup:
    """Return the setup of a fold that was begun with other swapped crops, or with none.

    It is scored on them when it is finished: its earlier epochs were not.

    Raises:
        TrainError: the scores of these crops choose the epoch.
    """
    if setup.config.choose_by == "swapped":
        raise TrainError(
            f"{setup.title} was begun with other swapped crops, and its epochs cannot be compared: "
            f"delete {setup.folder} to train this fold again"
        )
    return replace(setup, swapped_fingerprint=None)


def _stops_early(
    setup: FoldSetup, saver: CheckpointSaver, epoch: int, progress: TrainProgress
) -> bool:
    """Tell whether early stopping ends the fold after `epoch`."""
    settings = setup.config.optim
    waited = saver.epochs_without_best(settings.monitor, epoch)
    if not settings.early_stop or setup.all_data or waited < settings.early_stop:
        return False
    progress.say(
        f"{setup.title}: stopped after epoch {epoch}, {waited} without a better {settings.monitor}"
    )
    return True


def _finish(setup: FoldSetup, saver: CheckpointSaver, *, n_epochs: int) -> None:
    """Write the fold's metrics.json, which marks it as finished, and delete its state.

    Raises:
        TrainError: the best checkpoint of a resumed run is missing or damaged.
    """
    done: dict[str, Any] = {"fold": setup.fold, "epochs": n_epochs}
    if setup.all_data:
        done |= {"all_data": True, "epoch": n_epochs}
    elif "f1" not in saver.best:
        raise TrainError(
            f"{setup.folder / 'best_f1'} is missing or damaged, and all epochs are trained: delete "
            f"{setup.folder} to train this fold again"
        )
    else:
        scores = score_oof(read_parquet(setup.folder / OOF_FILE), setup.training.tasks)
        done |= {
            "epoch": saver.best["f1"]["epoch"],
            "macro_f1": float(np.mean([score.macro_f1 for score in scores.values()])),
            "best": saver.best,
            "choose_by": setup.config.choose_by,
            "tasks": {task: asdict(score) for task, score in scores.items()},
            "swapped": setup.swapped_fingerprint,
        }
    write_json(setup.folder / "metrics.json", done)
    shutil.rmtree(setup.folder / "state")


def _fixed_meta(setup: FoldSetup, model: Classifier) -> dict[str, Any]:
    """Return the entries of a checkpoint's meta.json that are the same in every epoch."""
    return {
        **describe_network(setup.config, setup.training),
        "image_size": model.image_size,
        "n_params": sum(weight.numel() for weight in model.parameters()),
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        "fold": setup.fold,
        "all_data": setup.all_data,
        "schema": setup.schema.to_dict(),
        "crop_set": describe_crops(setup.crops),
        "class_prior": setup.training.class_prior(setup.fold),
        "config": setup.config.model_dump(mode="json"),
        "versions": describe_versions(*LIBRARIES),
        "git_commit": git_commit(),
        **({"processes": setup.processes.size} if setup.processes.size > 1 else {}),
    }

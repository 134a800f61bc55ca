"""One fold from its first weights, or from where a killed process left it, to its results.

Each epoch ends with three writes: the checkpoints, the history, and last the state to resume from.
So a kill at any moment repeats at most the epoch it fell into.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch

from cropfirst.core.errors import PeerError, TrainError
from cropfirst.core.files import remove_torn
from cropfirst.core.provenance import describe_versions, git_commit
from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.progress import TrainProgress, epoch_line
from cropfirst.stage2_classify.runs.checkpoint import load_state, save_state, write_json
from cropfirst.stage2_classify.runs.folder import LIBRARIES, describe_crops, hold
from cropfirst.stage2_classify.runs.summary import TaskScore, oof_table, score_oof
from cropfirst.stage2_classify.runs.tables import read_parquet
from cropfirst.stage2_classify.train.checkpoint_saver import SCORES, Keeper
from cropfirst.stage2_classify.train.distributed import SEE_MAIN_PROCESS
from cropfirst.stage2_classify.train.epochs import LossNotFiniteError, train_one_epoch, validate
from cropfirst.stage2_classify.train.fold_job import Feeds, FoldJob, build_feeds, build_model
from cropfirst.stage2_classify.train.network import make_criterion, network_meta
from cropfirst.stage2_classify.train.tracked_fold import TrackedFold
from cropfirst.stage2_classify.train.tracking import Trackers, open_trackers
from cropfirst.stage2_classify.train.train_state import Learner, build_learner


def train_fold(job: FoldJob, progress: TrainProgress) -> None:
    """Train a fold to the end, whatever part of it is done already.

    Of several processes, the first holds the fold, and writes.

    Raises:
        TrainError: the loss is no number any more, memory is short, another process is at it.
    """
    devices = [job.device] if job.device.type == "cuda" else []
    processes = job.processes
    with ExitStack() as opened:
        with processes.share_errors():
            if processes.is_main:
                opened.enter_context(hold(job.folder))
        opened.enter_context(torch.random.fork_rng(devices=devices))
        if processes.broadcast((job.folder / "metrics.json").is_file()):  # another's, a moment ago
            return
        for folder in (job.folder, *job.folder.glob("*/")) if processes.is_main else ():
            remove_torn(folder)
        try:
            _run_epochs(job, progress)
        except LossNotFiniteError as error:
            if not processes.is_main:  # all see the same loss
                raise PeerError(SEE_MAIN_PROCESS) from error
            raise TrainError(_explain_divergence(job)) from error
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            raise TrainError(_explain_memory(job)) from error
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):  # what torch says on the CPU
                raise
            raise TrainError(_explain_memory(job)) from error


def _run_epochs(job: FoldJob, progress: TrainProgress) -> None:
    """The training loop."""
    settings, processes = job.config.optim, job.processes

    # The state of a killed run, or the start of a new one.
    with processes.share_errors():
        state = load_state(job.folder / "state")
    processes.check_same({"a state to go on from, of epoch": str(state and state[1]["epoch"])})
    torch.manual_seed(job.seed_of(0))
    model = build_model(job, progress, fresh=state is None)
    feeds = build_feeds(job, model)
    n_steps = len(feeds.training)
    criterion = make_criterion(model, job.config, job.training, fold=job.fold).to(job.device)
    learner = build_learner(
        model,
        settings,
        batches_per_epoch=n_steps,
        amp=job.amp,
        criterion=criterion,
        processes=processes,
    )
    history: list[dict[str, float]] = []
    keeper = Keeper(job.folder, writes=processes.is_main)
    if state is not None:
        tensors, data = state
        learner.load(tensors, data)
        history = data["history"]
        keeper = Keeper(job.folder, data["best"], writes=processes.is_main)
        progress.say(f"{job.title}: goes on after epoch {len(history)}")
        progress.advance(len(history) * len(job.training))

    first = len(history) + 1
    updates_per_epoch = -(-n_steps // settings.accumulate)
    about = _describe_model(job, model)
    with _open_trackers(job, progress, history) as trackers:
        for row in history:
            job.on_epoch(job.fold, row)
        for epoch in range(first, job.epochs + 1):
            if _is_enough(job, keeper, epoch - 1, progress):
                break
            progress.begin_epoch(fold=job.title, epoch=epoch, epochs=job.epochs)
            torch.manual_seed(job.seed_of(epoch))
            feeds.sampler.epoch = epoch
            feeds.training.seed = (*job.seed, epoch)
            started = time.perf_counter()
            trained = train_one_epoch(
                learner,
                feeds.training,
                first_update=(epoch - 1) * updates_per_epoch,
                frozen=epoch <= settings.freeze_epochs,
                progress=progress,
            )
            seconds = time.perf_counter() - started
            row = {
                "epoch": epoch,
                "lr": learner.schedule.lr,
                "train_loss": trained.loss,
                "train_f1": trained.f1,
            }
            result = _validate(job, feeds, learner, progress)
            row |= {**result.row, "crops_per_s": feeds.sampler.n_crops / seconds}
            row["seconds"] = time.perf_counter() - started
            if result.scores:
                watched = result.scores[settings.monitor] * SCORES[settings.monitor]
                learner.schedule.end_epoch(watched)

            # The state comes last: until it is written, a resumed run does this epoch again.
            meta = {**about, "epoch": epoch, "metrics": result.metrics}
            is_best = keeper.keep(
                epoch, result.scores, model=learner.kept, meta=meta, oof=result.oof
            )
            history.append(row)
            if trackers is not None:  # in the process that writes
                trackers.log(epoch, {name: row[name] for name in row if name != "epoch"})
                best = {"best": keeper.best, **learner.numbers()}
                data = {"epoch": epoch, "history": history, **best}
                save_state(job.folder / "state", learner.tensors(), data)
            line = epoch_line(job.title, row, epochs=job.epochs, best=is_best)
            progress.say(line, style="green" if is_best else "")
            job.on_epoch(job.fold, row)
    if processes.is_main:
        _finish(job, keeper, n_epochs=len(history))


def _open_trackers(
    job: FoldJob, progress: TrainProgress, history: Sequence[Mapping[str, float]]
) -> AbstractContextManager[Trackers | None]:
    """The trackers; None in a process that writes nothing."""
    if not job.processes.is_main:
        return nullcontext()
    about = TrackedFold(
        run=job.run.path.name,
        fold=job.fold,
        folder=job.folder,
        project=job.config.project,
        config=job.config.model_dump(mode="json"),
        first_epoch=len(history) + 1,
    )
    return open_trackers(
        job.config.tracker_names,
        about,
        rows=history,
        tensorboard=job.run.path / "tensorboard" / job.folder.name,
        warn=partial(progress.say, style="bold yellow"),
    )


@dataclass(frozen=True)
class _Result:
    """What validating an epoch came to; all empty where nobody is held out."""

    row: dict[str, float] = field(default_factory=dict)
    """For the history."""
    scores: dict[str, float] = field(default_factory=dict)
    """f1, accuracy and loss."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """For meta.json."""
    oof: pl.DataFrame | None = None


def _validate(job: FoldJob, feeds: Feeds, learner: Learner, progress: TrainProgress) -> _Result:
    if not len(feeds.held_out):
        return _Result()
    validated = validate(
        learner.kept,
        feeds.validation,
        learner.criterion,
        amp=job.amp,
        progress=progress,
        processes=job.processes,
    )
    oof = oof_table(job.training, feeds.held_out, validated.probs)
    by_task = score_oof(oof, job.training.tasks)
    f1 = float(np.mean([score.macro_f1 for score in by_task.values()]))
    accuracy = float(np.mean([score.accuracy for score in by_task.values()]))
    row = {"val_loss": validated.loss, "val_f1": f1}
    for task, score in by_task.items():
        row |= {f"{task}_f1": score.macro_f1, f"{task}_accuracy": score.accuracy}
    return _Result(
        row,
        {"f1": f1, "accuracy": accuracy, "loss": validated.loss},
        {
            "val_loss": validated.loss,
            "macro_f1": f1,
            "accuracy": accuracy,
            "tasks": _as_json(by_task),
        },
        oof,
    )


def _is_enough(job: FoldJob, keeper: Keeper, epoch: int, progress: TrainProgress) -> bool:
    """Whether early stopping ends the fold after `epoch`."""
    settings = job.config.optim
    waited = keeper.epochs_without(settings.monitor, epoch)
    if not settings.early_stop or job.all_data or waited < settings.early_stop:
        return False
    progress.say(
        f"{job.title}: stopped after epoch {epoch}, {waited} without a better {settings.monitor}"
    )
    return True


def _finish(job: FoldJob, keeper: Keeper, *, n_epochs: int) -> None:
    done: dict[str, Any] = {"fold": job.fold, "epochs": n_epochs}
    if job.all_data:
        done |= {"all_data": True, "epoch": n_epochs}
    else:
        scores = score_oof(read_parquet(job.folder / "oof.parquet"), job.training.tasks)
        best = keeper.best
        done |= {"epoch": best["f1"]["epoch"], "macro_f1": best["f1"]["value"], "best": best}
        done["tasks"] = _as_json(scores)
    write_json(job.folder / "metrics.json", done)
    shutil.rmtree(job.folder / "state")  # nothing is left to resume


def _describe_model(job: FoldJob, model: Classifier) -> dict[str, Any]:
    """What a checkpoint's meta.json says that is the same at every epoch."""
    return {
        **network_meta(job.config, job.training),
        "image_size": model.image_size,
        "n_params": sum(weight.numel() for weight in model.parameters()),
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        "fold": job.fold,
        "all_data": job.all_data,
        "schema": job.schema.to_dict(),
        "crop_set": describe_crops(job.crops),
        "class_prior": job.training.class_prior(job.fold),
        "config": job.config.model_dump(mode="json"),
        "versions": describe_versions(*LIBRARIES),
        "git_commit": git_commit(),
        **({"processes": job.processes.size} if job.processes.size > 1 else {}),
    }


def _explain_divergence(job: FoldJob) -> str:
    settings = job.config.optim
    return (
        f"{job.title}: the loss became NaN or infinite; {_what_is_kept(job)}. Train under another "
        f"--name with a lower optim.lr (now {settings.lr:g}), a longer optim.warmup_epochs (now "
        f"{settings.warmup_epochs:g}), optim.clip_grad=1 (now {settings.clip_grad:g}) or "
        f"optim.amp=off (now {settings.amp})"
    )


def _explain_memory(job: FoldJob) -> str:
    accumulate = job.config.optim.accumulate
    place = "the GPU's memory" if job.device.type == "cuda" else "the memory"
    half = max(job.batch_size // 2, 1)
    return (
        f"{job.title}: {place} is too small for {job.config.model.title} with "
        f"data.batch_size={job.batch_size} and {job.source.image_size} pixels; "
        f"{_what_is_kept(job)}. Train under another --name with data.batch_size={half} and "
        f"optim.accumulate={2 * accumulate}, which learns the same, or a smaller data.image_size"
    )


def _what_is_kept(job: FoldJob) -> str:
    last = job.folder / "last"
    return f"the checkpoint before is kept in {last}" if last.is_dir() else "no epoch was finished"


def _as_json(scores: Mapping[str, TaskScore]) -> dict[str, Any]:
    return {task: asdict(score) for task, score in scores.items()}

"""One fold from its first weights, or from where a killed process left it, to its results.

Each epoch ends with three writes: the checkpoints, the history, and last the state to resume from.
So a kill at any moment repeats at most the epoch it fell into.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cropfirst.cache import CropSet, TrainError
from cropfirst.cache.files import remove_torn
from cropfirst.cache.provenance import describe_versions, git_commit
from cropfirst.stage2_classify.augment import Augment
from cropfirst.stage2_classify.checkpoint import (
    load_state,
    model_state,
    save_checkpoint,
    save_state,
    write_json,
)
from cropfirst.stage2_classify.config import OptimConfig, TrainConfig
from cropfirst.stage2_classify.crop_dataset import (
    CropDataset,
    CropSource,
    EpochSampler,
    make_loader,
    pick_workers,
)
from cropfirst.stage2_classify.epochs import LossNotFiniteError, train_one_epoch, validate
from cropfirst.stage2_classify.labels import LabelSchema
from cropfirst.stage2_classify.models import Classifier, build_classifier
from cropfirst.stage2_classify.optim import (
    build_optimizer,
    cosine_lr,
    load_optimizer_tensors,
    optimizer_tensors,
)
from cropfirst.stage2_classify.progress import TrainProgress, epoch_line
from cropfirst.stage2_classify.run_tables import read_parquet, write_parquet
from cropfirst.stage2_classify.runs import (
    LIBRARIES,
    RunFolder,
    describe_crops,
    hold,
)
from cropfirst.stage2_classify.summary import TaskScore, oof_table, score_oof
from cropfirst.stage2_classify.tracking import CsvTracker, TensorBoardTracker, Trackers
from cropfirst.stage2_classify.training_set import TrainingSet
from cropfirst.stage2_classify.weights import load_backbone_weights


@dataclass(frozen=True)
class FoldJob:
    """One fold to train, and all that this needs."""

    fold: int
    run: RunFolder
    config: TrainConfig
    schema: LabelSchema
    training: TrainingSet
    crops: CropSet
    source: CropSource
    device: torch.device
    amp: torch.dtype | None

    @property
    def folder(self) -> Path:
        """Where the fold's files go."""
        return self.run.fold(self.fold)

    def seed_of(self, epoch: int) -> int:
        """The seed of one epoch; epoch 0 is the initial weights."""
        sequence = np.random.SeedSequence((self.config.seed, self.fold, epoch))
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def train_fold(job: FoldJob, progress: TrainProgress) -> None:
    """Train a fold to the end, whatever part of it is done already.

    Raises:
        TrainError: the loss is no number any more, memory is short, another process is at it.
    """
    devices = [job.device] if job.device.type == "cuda" else []
    with hold(job.folder), torch.random.fork_rng(devices=devices):
        if job.run.is_finished(job.fold):  # by another process, a moment ago
            return
        for folder in (job.folder, *job.folder.glob("*/")):
            remove_torn(folder)
        try:
            _run_epochs(job, progress)
        except LossNotFiniteError as error:
            raise TrainError(_explain_divergence(job)) from error
        except torch.cuda.OutOfMemoryError as error:
            raise TrainError(
                f"the GPU's memory is too small for {job.config.model.backbone} with "
                f"data.batch_size={job.config.data.batch_size}: lower it"
            ) from error


def _run_epochs(job: FoldJob, progress: TrainProgress) -> None:
    """The training loop."""
    settings = job.config.optim
    training_loader, validation_loader, held_out = _make_loaders(job)
    sampler = training_loader.batch_sampler
    assert isinstance(sampler, EpochSampler)

    # The state of a killed run, or the start of a new one.
    state = load_state(job.folder / "state")
    torch.manual_seed(job.seed_of(0))
    model = _build_model(job, progress, fresh=state is None)
    optimizer = build_optimizer(model, lr=settings.lr, weight_decay=settings.weight_decay)
    scaler = torch.amp.GradScaler(job.device.type, enabled=job.amp is torch.float16)
    history: list[dict[str, float]] = []
    best: dict[str, Any] = {"epoch": 0, "f1": -1.0}
    if state is not None:
        tensors, data = state
        _restore(model, optimizer, tensors)
        scaler.load_state_dict(data["scaler"])
        history, best = data["history"], data["best"]
        progress.say(f"fold {job.fold}: goes on after epoch {len(history)}")
        progress.advance(len(history) * len(job.training))

    first = len(history) + 1
    schedule = _make_schedule(settings, steps_per_epoch=len(training_loader))
    about = _describe_model(job, model)
    with Trackers(
        CsvTracker(job.folder / "history.csv", rows=history),
        TensorBoardTracker(job.run.path / "tensorboard" / f"fold{job.fold}", purge_step=first),
    ) as trackers:
        for epoch in range(first, settings.epochs + 1):
            progress.begin_epoch(fold=job.fold, epoch=epoch, epochs=settings.epochs)
            torch.manual_seed(job.seed_of(epoch))
            sampler.epoch = epoch
            started = time.perf_counter()
            trained = train_one_epoch(
                model,
                training_loader,
                optimizer,
                lr_at=partial(schedule, epoch),
                amp=job.amp,
                scaler=scaler,
                settings=settings,
                progress=progress,
            )
            seconds = time.perf_counter() - started
            validated = validate(model, validation_loader, amp=job.amp, progress=progress)
            oof = oof_table(job.training, held_out, validated.probs)
            scores = score_oof(oof, job.training.tasks)
            f1 = float(np.mean([score.macro_f1 for score in scores.values()]))
            row = {
                "epoch": epoch,
                "lr": schedule(epoch, len(training_loader) - 1),
                "train_loss": trained.loss,
                "train_f1": trained.f1,
                "val_loss": validated.loss,
                "val_f1": f1,
                **_flatten_scores(scores),
                "crops_per_s": len(sampler.rows) / seconds,
            }
            metrics = {"val_loss": validated.loss, "macro_f1": f1, "tasks": _as_json(scores)}
            meta = {**about, "epoch": epoch, "metrics": metrics}

            # The state comes last: until it is written, a resumed run does this epoch again.
            is_best = f1 > best["f1"]
            save_checkpoint(job.folder / "last", model, meta)
            if is_best:
                best = {"epoch": epoch, "f1": f1}
                write_parquet(job.folder / "oof.parquet", oof)
                save_checkpoint(job.folder / "best_f1", model, meta)
            history.append(row)
            trackers.log(epoch, {name: row[name] for name in row if name != "epoch"})
            data = {"epoch": epoch, "history": history, "best": best, "scaler": scaler.state_dict()}
            save_state(job.folder / "state", _collect(model, optimizer), data)
            line = epoch_line(job.fold, row, epochs=settings.epochs, best=is_best)
            progress.say(line, style="green" if is_best else "")
    _finish(job, best)


def _finish(job: FoldJob, best: Mapping[str, Any]) -> None:
    scores = score_oof(read_parquet(job.folder / "oof.parquet"), job.training.tasks)
    done = {"fold": job.fold, "epoch": best["epoch"], "macro_f1": best["f1"]}
    write_json(job.folder / "metrics.json", {**done, "tasks": _as_json(scores)})
    shutil.rmtree(job.folder / "state")  # nothing is left to resume


def _build_model(job: FoldJob, progress: TrainProgress, *, fresh: bool) -> Classifier:
    """The model; weights from elsewhere are fetched only for a fold's first epoch."""
    settings = job.config.model
    model = build_classifier(
        settings.backbone,
        {task: len(job.training.class_names[task]) for task in job.training.tasks},
        image_size=job.source.image_size,
        pretrained=fresh and settings.pretrained and settings.weights is None,
        drop_rate=settings.drop_rate,
        drop_path_rate=settings.drop_path_rate,
        kwargs=settings.kwargs,
    )
    if fresh and settings.weights is not None:
        report = load_backbone_weights(model.backbone, Path(settings.weights))
        progress.say(
            f"{settings.weights}: {len(report.matched)} tensors loaded, "
            f"{_name_some('missing', report.missing)}, "
            f"{_name_some('not used', report.unexpected)}"
        )
    model.to(job.device)
    model.set_channels_last(job.config.optim.channels_last)
    return model


def _make_schedule(settings: OptimConfig, *, steps_per_epoch: int) -> Callable[[int, int], float]:
    """(epoch from 1, step within it from 0) -> learning rate."""

    def lr_of(epoch: int, step: int) -> float:
        return cosine_lr(
            (epoch - 1) * steps_per_epoch + step,
            base_lr=settings.lr,
            total_steps=settings.epochs * steps_per_epoch,
            warmup_steps=round(settings.warmup_epochs * steps_per_epoch),
        )

    return lr_of


def _make_loaders(job: FoldJob) -> tuple[Any, Any, NDArray[np.int64]]:
    """Loaders of the training and the validation part, and the rows of the latter."""
    data, seed = job.config.data, (job.config.seed, job.fold)
    rows = job.training.rows(job.fold, held_out=False)
    held_out = job.training.rows(job.fold, held_out=True)
    workers = pick_workers(data.workers, n_photos=len(rows), device=job.device)
    targets = job.training.targets
    training = make_loader(
        CropDataset(job.source, targets, augment=Augment(data.augment), seed=seed),
        EpochSampler(rows, batch_size=data.batch_size, seed=seed),
        workers=workers,
        device=job.device,
    )
    validation = make_loader(
        CropDataset(job.source, targets, augment=Augment("none")),
        EpochSampler(held_out, batch_size=data.batch_size, seed=None),
        workers=workers,
        device=job.device,
    )
    return training, validation, held_out


def _describe_model(job: FoldJob, model: Classifier) -> dict[str, Any]:
    """What a checkpoint's meta.json says that is the same at every epoch."""
    return {
        "backbone": job.config.model.backbone,
        "model_kwargs": dict(job.config.model.kwargs),
        "heads": {task: list(names) for task, names in job.training.class_names.items()},
        "image_size": model.image_size,
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        "fold": job.fold,
        "schema": job.schema.to_dict(),
        "crop_set": describe_crops(job.crops),
        "class_prior": job.training.class_prior(job.fold),
        "config": job.config.model_dump(mode="json"),
        "versions": describe_versions(*LIBRARIES),
        "git_commit": git_commit(),
    }


def _collect(model: Classifier, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    moments = {f"optimizer.{key}": value for key, value in optimizer_tensors(optimizer).items()}
    return {f"model.{key}": value for key, value in model_state(model).items()} | moments


def _restore(
    model: Classifier, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

    model.load_state_dict(part("model."))
    load_optimizer_tensors(optimizer, part("optimizer."))


def _explain_divergence(job: FoldJob) -> str:
    settings = job.config.optim
    last = job.folder / "last"
    kept = f"the checkpoint before is kept in {last}" if last.is_dir() else "no epoch was finished"
    return (
        f"fold {job.fold}: the loss became NaN or infinite; {kept}. Train under another --name "
        f"with a lower optim.lr (now {settings.lr:g}), a longer optim.warmup_epochs (now "
        f"{settings.warmup_epochs:g}), optim.clip_grad=1 (now {settings.clip_grad:g}) or "
        f"optim.amp=off (now {settings.amp})"
    )


def _as_json(scores: Mapping[str, TaskScore]) -> dict[str, Any]:
    return {task: asdict(score) for task, score in scores.items()}


def _flatten_scores(scores: Mapping[str, TaskScore]) -> dict[str, float]:
    flat = {}
    for task, score in scores.items():
        flat[f"{task}_f1"] = score.macro_f1
        flat[f"{task}_accuracy"] = score.accuracy
    return flat


def _name_some(what: str, names: Sequence[str], *, limit: int = 3) -> str:
    some = ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
    return f"{len(names)} {what}" + (f" ({some})" if names else "")

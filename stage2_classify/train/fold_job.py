"""One fold to train, and what its training starts from: feeds of batches, a model, a learner.

Knows the config, the crops and who is in which fold; trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cropfirst.cache import CropSet
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import DataConfig, TrainConfig
from cropfirst.stage2_classify.data.augment import Augmenter
from cropfirst.stage2_classify.data.crop_dataset import (
    CropDataset,
    CropSource,
    Preload,
    make_loader,
    pick_workers,
)
from cropfirst.stage2_classify.data.mixing import Mixer
from cropfirst.stage2_classify.data.prefetcher import Feed
from cropfirst.stage2_classify.data.sampling import EpochSampler, part_of, pick_balance, rarest_rows
from cropfirst.stage2_classify.data.training_set import TrainingSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.progress import TrainProgress
from cropfirst.stage2_classify.runs.folder import RunFolder
from cropfirst.stage2_classify.train.distributed import SINGLE_PROCESS, ProcessGroup
from cropfirst.stage2_classify.train.network import load_first_weights, model_of
from cropfirst.stage2_classify.train.warm_start import Origin

DEFAULT_BATCH = 64
EpochCallback = Callable[[int, Mapping[str, float]], None]
"""Is told the fold and the history's row of each epoch, after it is kept on disk; in a resumed fold
also those of the epochs before. What it raises ends the training."""


def ignore_epoch(fold: int, row: Mapping[str, float]) -> None:
    """The callback of those who do not ask."""


@dataclass(frozen=True)
class FoldJob:
    """One fold to train, and all that this needs."""

    fold: int
    """From 0; the number after the last one is the training on all data."""
    run: RunFolder
    config: TrainConfig
    schema: LabelSchema
    training: TrainingSet
    crops: CropSet
    source: CropSource
    device: torch.device
    amp: torch.dtype | None
    epochs: int
    """How many to train; the learning rate falls as if it were optim.epochs all the same."""
    origin: Origin | None = None
    """The run to go on from."""
    on_epoch: EpochCallback = ignore_epoch
    processes: ProcessGroup = SINGLE_PROCESS
    """The processes that train it together."""

    @property
    def all_data(self) -> bool:
        """Whether nobody is held out."""
        return self.fold == self.config.folds.n_folds

    @property
    def folder(self) -> Path:
        """Where the fold's files go."""
        return self.run.all_data if self.all_data else self.run.fold(self.fold)

    @property
    def title(self) -> str:
        """What people call it."""
        return "all data" if self.all_data else f"fold {self.fold}"

    @property
    def batch_size(self) -> int:
        """Crops in one step, of all processes together."""
        n_rows = len(self.training.rows(self.fold, held_out=False))
        return self.config.data.batch_size or min(DEFAULT_BATCH, n_rows)

    @property
    def seed(self) -> tuple[int, int]:
        """Of the order of crops, augmentation and mixing, together with the epoch."""
        return self.config.seed, self.fold

    def seed_of(self, epoch: int) -> int:
        """The seed of one epoch's dropout; epoch 0 is the initial weights.

        Several processes drop differently, and begin alike.
        """
        rank = () if self.processes.is_main or not epoch else (self.processes.rank,)
        sequence = np.random.SeedSequence((*self.seed, epoch, *rank))
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True)
class Feeds:
    """A fold's batches."""

    training: Feed
    validation: Feed
    sampler: EpochSampler
    """Of the training part; its epoch is set before each."""
    held_out: NDArray[np.int64]
    """Rows of the validation part, in the order in which they are validated."""


def build_feeds(job: FoldJob, model: Classifier) -> Feeds:
    """Feeds of the training and the validation part."""
    data, training = job.config.data, job.training
    rows = training.rows(job.fold, held_out=False)
    held_out = training.rows(job.fold, held_out=True)
    workers = pick_workers(
        data.workers, n_photos=len(rows), device=job.device, sharers=job.processes.local_size
    )
    on_device = job.source.on_device
    rare = data.mix.rare if data.mix.kind != "none" else None
    sampler = EpochSampler(
        rows,
        batch_size=job.batch_size,
        seed=job.seed,
        balance=pick_balance(
            data.sampler,
            {task: training.codes_of(task) for task in balanced_tasks(job.config)},
            tasks=balanced_tasks(job.config),
            power=data.balance_power,
            max_repeats=data.max_repeats,
        ),
        partners=None if rare is None else rarest_rows(rows, training.codes_of(rare)),
        partner_prob=data.mix.prob,
        share=job.processes.share,
    )
    on_cpu = job.device.type == "cpu"
    learning = CropDataset(
        job.source,
        training.learned_targets,
        augmenter=build_augmenter(data, training, job.schema),
        seed=job.seed,
        plan_only=augments_on_device(data, job.device),
        # The network's input is a copy of a batch before the next one is asked for.
        reuse=workers == 0 and on_cpu,
    )
    classes = {task: space.n_targets for task, space in training.spaces.items()}
    return Feeds(
        Feed(
            model,
            make_loader(learning, sampler, workers=workers, device=job.device),
            on_device,
            mixer=None if data.mix.kind == "none" else Mixer(data.mix, classes),
            reuse=on_cpu,  # a step has done with its images before the next are made
        ),
        Feed(
            model,
            make_loader(
                CropDataset(job.source, training.true_targets),
                EpochSampler(
                    held_out, batch_size=job.batch_size, seed=None, share=job.processes.share
                ),
                workers=workers,
                device=job.device,
            ),
            on_device,
            reuse=on_cpu,
        ),
        sampler,
        held_out,
    )


def balanced_tasks(config: TrainConfig) -> tuple[str, ...]:
    """The tasks whose classes the sampler balances."""
    return config.data.balance or config.tasks


def augments_on_device(data: DataConfig, device: torch.device) -> bool:
    """Whether the device does what of the augmentation it can do."""
    return data.augment_on == "device" or (data.augment_on == "auto" and device.type == "cuda")


def pick_place(data: DataConfig, device: torch.device) -> Preload:
    """`data.preload`, but for the device's memory where crops must pass the CPU first.

    Raises:
        TrainError: it was asked for all the same.
    """
    policies = (data.augment, *data.augment_classes.values())
    listed = bool(data.transforms) or not set(policies) <= {"none", "basic"}
    if augments_on_device(data, device) and not listed:
        return data.preload
    if data.preload == "device" and device.type == "cuda":
        raise TrainError(
            "data.preload=device leaves augmentation to the device, which does none and basic "
            f"alone: with data.augment={data.augment} and data.augment_on={data.augment_on}, "
            "take ram or auto"
        )
    return "cpu" if data.preload == "auto" else data.preload


def build_augmenter(data: DataConfig, training: TrainingSet, schema: LabelSchema) -> Augmenter:
    """The augmentation of every row; the first entry of `augment_classes` that fits it counts.

    Raises:
        TrainError: a class or transform that does not exist.
    """
    names = tuple(dict.fromkeys((data.augment, *data.augment_classes.values())))
    of_row = np.zeros(len(training), np.int64)
    for about, name in reversed(data.augment_classes.items()):
        task, code = read_class(about, schema)
        of_row[training.codes_of(task) == code] = names.index(name)
    return Augmenter(
        names,
        of_row if data.augment_classes else None,
        erase=data.erase,
        ops=data.ops,
        magnitude=data.magnitude,
        transforms=data.transforms,
    )


def read_class(text: str, schema: LabelSchema) -> tuple[str, int]:
    """The task and class number that "age:>=60" means.

    Raises:
        TrainError: there is none of that name.
    """
    task, colon, name = text.partition(":")
    names = schema.class_names(task) if task in schema.names else ()
    if not colon or name not in names:
        known = [f"{task}:{each}" for task in schema.names for each in schema.class_names(task)]
        raise TrainError(
            f"data.augment_classes: no class {text!r}; there are {', '.join(known[:12])}"
        )
    return task, names.index(name)


def build_model(job: FoldJob, progress: TrainProgress, *, fresh: bool) -> Classifier:
    """The model; weights from elsewhere are fetched only for a fold's first epoch.

    Of several processes, the first alone fetches them: the others get its weights from it.
    """
    config, training = job.config, job.training
    fresh = fresh and job.processes.is_main
    model = model_of(config, training, image_size=job.source.image_size, pretrained=fresh)
    if fresh:
        for line in load_first_weights(
            model, config, job.folder, class_names=training.class_names, origin=job.origin
        ):
            progress.say(f"{job.title}: {line}")
    model.to(job.device)
    model.set_channels_last(config.optim.channels_last)
    return _sync_batch_norm(model, job, progress) if job.processes.size > 1 else model


def _sync_batch_norm(model: Classifier, job: FoldJob, progress: TrainProgress) -> Classifier:
    """Batch norm over the whole batch where torch can, which is on GPUs."""
    if not any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in model.modules()):
        return model
    if job.device.type == "cuda":
        from timm.layers import convert_sync_batchnorm

        synced: Classifier = convert_sync_batchnorm(model)
        return synced
    part = len(part_of(job.batch_size, job.processes.share))
    progress.say(
        f"{job.title}: batch norm counts the {part} crops of each process apart (on GPUs, all "
        f"{job.batch_size} together)",
        style="yellow",
    )
    return model

"""The batches of one fold: sampled, loaded, augmented and mixed as the config says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import DataConfig, TrainConfig
from cropfirst.stage2_classify.data.augment import Augmenter
from cropfirst.stage2_classify.data.crop_dataset import CropDataset, choose_workers, make_loader
from cropfirst.stage2_classify.data.crop_source import Preload
from cropfirst.stage2_classify.data.mixing import Mixer
from cropfirst.stage2_classify.data.prefetcher import Prefetcher
from cropfirst.stage2_classify.data.sampling import EpochSampler, choose_balance, rarest_rows
from cropfirst.stage2_classify.data.training_set import TrainingSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.train.fold_setup import FoldSetup


@dataclass(frozen=True)
class FoldBatches:
    """The batches of a fold's training and validation part."""

    training: Prefetcher
    validation: Prefetcher
    sampler: EpochSampler
    """Sampler of the training part; its epoch is set before each epoch."""
    held_out: NDArray[np.int64]
    """(N,) rows of the validation part, in the order in which they are predicted."""
    swapped: Prefetcher | None
    """The validation part in swapped rooms; None if it is not scored there."""
    swapped_photos: NDArray[np.int64]
    """(n,) rows of the photos of `swapped`, in the order in which they are predicted."""


def build_batches(setup: FoldSetup, model: Classifier) -> FoldBatches:
    """Build the samplers and loaders of a fold."""
    held_out = setup.training.rows(setup.fold, held_out=True)
    workers = choose_workers(
        setup.config.data.workers,
        n_photos=len(setup.training.rows(setup.fold, held_out=False)),
        device=setup.device,
        sharers=setup.processes.local_size,
    )
    sampler = _training_sampler(setup)
    # On the CPU, the network is done with a batch before the next one is made.
    reuse = setup.device.type == "cpu"

    validation = CropDataset(setup.source, _extend(setup, setup.training.true_targets))

    def in_order(rows: NDArray[np.int64]) -> Prefetcher:
        order = EpochSampler(
            rows, batch_size=setup.batch_size, seed=None, share=setup.processes.share
        )
        loader = make_loader(validation, order, workers=workers, device=setup.device)
        return Prefetcher(model, loader, setup.source.on_device, reuse=reuse)

    swapped = setup.swapped
    rows = held_out[:0] if swapped is None else swapped.scored(held_out)
    return FoldBatches(
        Prefetcher(
            model,
            make_loader(
                _training_dataset(setup, reuse=workers == 0 and reuse),
                sampler,
                workers=workers,
                device=setup.device,
            ),
            setup.source.on_device,
            mixer=_mixer(setup),
            reuse=reuse,
        ),
        in_order(held_out),
        sampler,
        held_out,
        in_order(rows) if len(rows) else None,
        rows if swapped is None else swapped.photos_of(rows),
    )


def _extend(setup: FoldSetup, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return values of the photos, followed by those of the swapped crops in the source."""
    if setup.swapped is None:
        return dict(values)
    return {name: setup.swapped.extend(each) for name, each in values.items()}


def _training_sampler(setup: FoldSetup) -> EpochSampler:
    data, training = setup.config.data, setup.training
    rows = training.rows(setup.fold, held_out=False)
    balanced = balanced_tasks(setup.config)
    rare = data.mix.rare if data.mix.kind != "none" else None
    return EpochSampler(
        rows,
        batch_size=setup.batch_size,
        seed=setup.seed,
        balance=choose_balance(
            data.sampler,
            {task: training.codes_of(task) for task in balanced},
            tasks=balanced,
            power=data.balance_power,
            max_repeats=data.max_repeats,
        ),
        partners=None if rare is None else rarest_rows(rows, training.codes_of(rare)),
        partner_prob=data.mix.prob,
        swapped=setup.swapped.by_photo() if setup.swapped and data.swap_rooms else None,
        swap_prob=data.swap_rooms,
        share=setup.processes.share,
    )


def _training_dataset(setup: FoldSetup, *, reuse: bool) -> CropDataset:
    data = setup.config.data
    return CropDataset(
        setup.source,
        _extend(setup, setup.training.learned_targets),
        augmenter=_build_augmenter_of_rows(setup),
        seed=setup.seed,
        params_only=augments_on_device(data, setup.device),
        reuse=reuse,
    )


def _mixer(setup: FoldSetup) -> Mixer | None:
    mix = setup.config.data.mix
    if mix.kind == "none":
        return None
    return Mixer(mix, {task: space.n_targets for task, space in setup.training.spaces.items()})


def balanced_tasks(config: TrainConfig) -> tuple[str, ...]:
    """Return the tasks whose classes the sampler balances."""
    return config.data.balance or config.tasks


def augments_on_device(data: DataConfig, device: torch.device) -> bool:
    """Tell whether mirroring, moving and erasing are left to the device."""
    return data.augment_on == "device" or (data.augment_on == "auto" and device.type == "cuda")


def preload_setting(data: DataConfig, device: torch.device) -> Preload:
    """Return `data.preload`, limited to the CPU's memory if crops are augmented there.

    Raises:
        TrainError: the device's memory was asked for all the same.
    """
    policies = (data.augment, *data.augment_classes.values())
    needs_cpu = bool(data.transforms) or not set(policies) <= {"none", "basic"}
    if augments_on_device(data, device) and not needs_cpu:
        return data.preload
    if data.preload == "device" and device.type == "cuda":
        raise TrainError(
            "data.preload=device leaves augmentation to the device, which does none and basic "
            f"alone: with data.augment={data.augment} and data.augment_on={data.augment_on}, "
            "take ram or auto"
        )
    return "cpu" if data.preload == "auto" else data.preload


def _build_augmenter_of_rows(setup: FoldSetup) -> Augmenter:
    """Build the augmentation of the photos and of their swapped crops."""
    augmenter = build_augmenter(setup.config.data, setup.training, setup.schema)
    if setup.swapped is None or augmenter.of_row is None:
        return augmenter
    return replace(augmenter, of_row=setup.swapped.extend(augmenter.of_row))


def build_augmenter(data: DataConfig, training: TrainingSet, schema: LabelSchema) -> Augmenter:
    """Build the augmentation; the first entry of `augment_classes` that fits a photo counts.

    Raises:
        TrainError: a class or transform that does not exist.
    """
    names = tuple(dict.fromkeys((data.augment, *data.augment_classes.values())))
    of_row = np.zeros(len(training), np.int64)
    for text, name in reversed(data.augment_classes.items()):
        task, code = parse_class(text, schema)
        of_row[training.codes_of(task) == code] = names.index(name)
    return Augmenter(
        names,
        of_row if data.augment_classes else None,
        erase=data.erase,
        ops=data.ops,
        magnitude=data.magnitude,
        transforms=data.transforms,
    )


def parse_class(text: str, schema: LabelSchema) -> tuple[str, int]:
    """Parse a class such as "age:>=60" into its task and class number.

    Raises:
        TrainError: the schema has no such task or class.
    """
    task, colon, name = text.partition(":")
    names = schema.class_names(task) if task in schema.names else ()
    if not colon or name not in names:
        known = [f"{task}:{each}" for task in schema.names for each in schema.class_names(task)]
        raise TrainError(
            f"data.augment_classes: no class {text!r}; there are {', '.join(known[:12])}"
        )
    return task, names.index(name)

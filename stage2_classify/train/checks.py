"""Checks before training: settings that contradict each other, and too few photos.

Knows settings, labels and counts; writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cropfirst.cache import CropSet
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.data.augment_lists import build_transforms
from cropfirst.stage2_classify.data.sampling import LEAST_CROPS
from cropfirst.stage2_classify.data.training_set import TrainingSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.train.fold_batches import balanced_tasks, parse_class

UNCROPPED = ("photo", "center")
"""Backgrounds whose crops are not cut to the face."""


def tasks_of_data_settings(config: TrainConfig, schema: LabelSchema) -> tuple[str, ...]:
    """Return the tasks that sampling, mixing or augmentation needs, trained or not.

    Raises:
        TrainError: `data.augment_classes` names a class that does not exist.
    """
    data = config.data
    found = [parse_class(text, schema)[0] for text in data.augment_classes]
    if data.sampler != "shuffle":
        found += balanced_tasks(config)
    if data.mix.rare is not None and data.mix.kind != "none":
        found.append(data.mix.rare)
    return tuple(dict.fromkeys(found))


def check_settings(config: TrainConfig, crops: CropSet) -> None:
    """Check that the settings do not contradict each other.

    Raises:
        TrainError: they do; the message says how to resolve it.
    """
    data, optim = config.data, config.optim
    background = crops.name.partition("-")[0]
    if data.mix.kind == "half_cutmix" and background in UNCROPPED:
        raise TrainError(
            f"data.mix.kind=half_cutmix joins two halves of faces, and {crops.name} holds photos "
            "that are not cropped to the face: it would join rooms. Take crops of faces (--crops "
            "ellipse), or another data.mix.kind"
        )
    if config.folds.all_data and config.folds.fold is not None:
        raise TrainError("--all-data trains for the epochs that all folds chose: leave --fold away")
    if config.folds.all_data and optim.schedule == "plateau":
        raise TrainError(
            "optim.schedule=plateau looks at the validation part, and --all-data leaves none: take "
            "cosine or step"
        )
    # Built once here, so that an unknown transform is found before training starts.
    for name in (data.augment, *data.augment_classes.values()):
        build_transforms(name, ops=data.ops, magnitude=data.magnitude, transforms=data.transforms)


def check_counts(
    config: TrainConfig, training: TrainingSet, folds: Sequence[int], *, processes: int = 1
) -> None:
    """Check that there are enough photos for the batch size and the rarest class.

    Args:
        folds: the folds to train.
        processes: number of processes that share each batch.

    Raises:
        TrainError: there are too few; the message says what to change.
    """
    data = config.data
    for fold in folds:
        rows = training.rows(fold, held_out=False)
        if data.batch_size is not None and data.batch_size > len(rows):
            raise TrainError(
                f"data.batch_size={data.batch_size} is more than the {len(rows)} photos that fold "
                f"{fold} is trained on: --set data.batch_size={_power_of_two(len(rows) // 2)} or so"
            )
        batch, least = min(data.batch_size or len(rows), len(rows)), LEAST_CROPS * processes
        if processes > 1 and batch < least:
            raise TrainError(
                f"a batch of {batch} crops is too small for {processes} processes, which share it "
                f"and need {LEAST_CROPS} each: --set data.batch_size={least} or more, or fewer "
                "--num_processes"
            )
        rare = data.mix.rare if data.mix.kind != "none" else None
        if rare is not None and not np.any(training.codes_of(rare)[rows] >= 0):
            raise TrainError(
                f"data.mix.rare={rare}: no photo that fold {fold} is trained on has a label "
                "for it; name another task, or null"
            )


@torch.no_grad()
def check_single_crops(model: Classifier, config: TrainConfig) -> None:
    """Check that a network can be trained with batches of one crop; its buffers change.

    Batch norm cannot: where a feature map is one pixel, a channel of the batch has one value.

    Raises:
        TrainError: it cannot.
    """
    size = model.image_size
    try:
        model.train()(model.prepare(torch.zeros(1, size, size, 3)))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainError(
            f"data.batch_size={config.data.batch_size or 1} gives batches of one crop, and the "
            f"batch norm of {config.model.title} needs two or more: --set data.batch_size=8 or so "
            "with enough photos, or a backbone without batch norm, such as convnext_tiny"
        ) from error


def _power_of_two(limit: int) -> int:
    """Return the largest power of two up to `limit`, at least 1."""
    return 1 << max(limit.bit_length() - 1, 0)

"""What cannot be trained is refused here, before anything is written.

Knows settings, labels and counts; builds no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cropfirst.cache import CropSet
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.data.augment_lists import extra_transforms
from cropfirst.stage2_classify.data.sampling import LEAST_CROPS
from cropfirst.stage2_classify.data.training_set import TrainingSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.train.fold_job import balanced_tasks, read_class

UNCROPPED = ("photo", "center")
"""Backgrounds whose crops are no faces."""


def wanted_tasks(config: TrainConfig, schema: LabelSchema) -> tuple[str, ...]:
    """Tasks that sampling, mixing or augmentation looks at, whether they are trained or not.

    Raises:
        TrainError: `data.augment_classes` names a class that does not exist.
    """
    data = config.data
    found = [read_class(text, schema)[0] for text in data.augment_classes]
    if data.sampler != "shuffle":
        found += balanced_tasks(config)
    if data.mix.rare is not None and data.mix.kind != "none":
        found.append(data.mix.rare)
    return tuple(dict.fromkeys(found))


def check_settings(config: TrainConfig, crops: CropSet) -> None:
    """Refuse what contradicts itself.

    Raises:
        TrainError: what, and the way out.
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
    # Built once here, so that a name that does not exist ends nothing halfway.
    for name in (data.augment, *data.augment_classes.values()):
        extra_transforms(name, ops=data.ops, magnitude=data.magnitude, transforms=data.transforms)


def check_counts(
    config: TrainConfig, training: TrainingSet, folds: Sequence[int], *, processes: int = 1
) -> None:
    """Refuse what the number of photos does not allow.

    Args:
        processes: that share each batch.

    Raises:
        TrainError: what, and the way out.
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
                f"and want {LEAST_CROPS} each: --set data.batch_size={least} or more, or fewer "
                "--num_processes"
            )
        for task in (data.mix.rare,) if data.mix.kind != "none" and data.mix.rare else ():
            if not np.any(training.codes_of(task)[rows] >= 0):
                raise TrainError(
                    f"data.mix.rare={task}: no photo that fold {fold} is trained on has a label "
                    "for it; name another task, or null"
                )


def _power_of_two(limit: int) -> int:
    return 1 << max(limit.bit_length() - 1, 0)

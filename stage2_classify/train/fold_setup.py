"""The setup of one fold: its settings, photos, crops, device and epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cropfirst.cache import CropSet
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.data.crop_source import CropSource
from cropfirst.stage2_classify.data.sampling import LEAST_CROPS
from cropfirst.stage2_classify.data.swapped_rows import SwappedRows
from cropfirst.stage2_classify.data.training_set import TrainingSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.run_folder import RunFolder
from cropfirst.stage2_classify.train.distributed import SINGLE_PROCESS, ProcessGroup
from cropfirst.stage2_classify.train.warm_start import WarmStart

DEFAULT_BATCH = 64
LEAST_BATCH = 4
"""Smallest default batch: batch norm estimates variances from it."""
LEAST_STEPS = 8
"""Number of steps that an epoch has at least with the default batch, if LEAST_BATCH allows it."""
EpochCallback = Callable[[int, Mapping[str, float]], None]
"""Called with the fold and the history's row after each epoch, once the epoch is saved. In a
resumed fold it is called for the earlier epochs too. An error that it raises ends the training."""


def ignore_epoch(fold: int, row: Mapping[str, float]) -> None:
    """Do nothing: the default callback."""


def default_batch_size(n_rows: int, *, accumulate: int, processes: int) -> int:
    """Return the batch size of a run that sets none.

    Args:
        n_rows: number of crops in the smallest training part of the folds.
        accumulate: number of batches in one step.
        processes: number of processes that share each batch.
    """
    least = max(LEAST_BATCH, LEAST_CROPS * processes)
    wanted = max(n_rows // (LEAST_STEPS * accumulate), least)
    return max(min(wanted, DEFAULT_BATCH, n_rows), 1)


@dataclass(frozen=True)
class FoldSetup:
    """One fold to train, and everything that its training needs."""

    fold: int
    """From 0; the number after the last fold is the training on all data."""
    run: RunFolder
    config: TrainConfig
    schema: LabelSchema
    training: TrainingSet
    crops: CropSet
    source: CropSource
    device: torch.device
    amp: torch.dtype | None
    epochs: int
    """Number of epochs to train; the learning rate still follows optim.epochs."""
    swapped: SwappedRows | None = None
    """Rows of the swapped crops in `source`; None if the run is not scored in swapped rooms."""
    swapped_fingerprint: str | None = None
    """Fingerprint of the swapped crops that the run is scored on."""
    warm_start: WarmStart | None = None
    """The run whose weights are the initial ones."""
    on_epoch: EpochCallback = ignore_epoch
    processes: ProcessGroup = SINGLE_PROCESS
    """The processes that train it together."""

    @property
    def all_data(self) -> bool:
        """Whether this is the training on all data, with nobody held out."""
        return self.fold == self.config.folds.n_folds

    @property
    def folder(self) -> Path:
        """Folder of the fold's files."""
        return self.run.all_data if self.all_data else self.run.fold(self.fold)

    @property
    def title(self) -> str:
        """Name of the fold in messages."""
        return "all data" if self.all_data else f"fold {self.fold}"

    @property
    def batch_size(self) -> int:
        """Number of crops in one batch, of all processes together.

        Runs of earlier versions have none stored: theirs is 64, or all crops if there are fewer.
        """
        n_rows = len(self.training.rows(self.fold, held_out=False))
        return self.config.data.batch_size or min(DEFAULT_BATCH, n_rows)

    @property
    def n_crops(self) -> int:
        """Number of crops in one epoch, for training and validation, also in swapped rooms."""
        return len(self.training) + self.n_swapped

    @property
    def n_swapped(self) -> int:
        """Number of swapped crops that one epoch is scored on."""
        if self.swapped is None:
            return 0
        return len(self.swapped.scored(self.training.rows(self.fold, held_out=True)))

    @property
    def seed(self) -> tuple[int, int]:
        """Seed of the order of crops, augmentation and mixing, to be joined with the epoch."""
        return self.config.seed, self.fold

    def seed_of(self, epoch: int) -> int:
        """Return the seed of an epoch's dropout; that of epoch 0 is for the initial weights.

        Several processes draw different dropout, from the same initial weights.
        """
        rank = () if self.processes.is_main or not epoch else (self.processes.rank,)
        sequence = np.random.SeedSequence((*self.seed, epoch, *rank))
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))

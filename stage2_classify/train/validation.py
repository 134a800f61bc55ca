"""The validation of an epoch: the held-out photos as they are, and in swapped rooms.

Knows a model, the batches of a fold and their scores; writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from cropfirst.stage2_classify.data.prefetcher import Prefetcher
from cropfirst.stage2_classify.model.criterion import Criterion
from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.progress import TrainProgress
from cropfirst.stage2_classify.runs.results import TaskScore, oof_table, score_oof
from cropfirst.stage2_classify.runs.swapped_scores import SWAPPED_FILE
from cropfirst.stage2_classify.train.epochs import validate
from cropfirst.stage2_classify.train.fold_batches import FoldBatches
from cropfirst.stage2_classify.train.fold_setup import FoldSetup

OOF_FILE = "oof.parquet"
PREFIXES = {OOF_FILE: "oof.", SWAPPED_FILE: "swapped."}
"""File of predictions -> prefix of their tensors in a saved state."""


@dataclass(frozen=True)
class ValidationResult:
    """The validation of one epoch; all empty if nobody is held out."""

    row: dict[str, float] = field(default_factory=dict)
    """Columns of the history."""
    scores: dict[str, float] = field(default_factory=dict)
    """The f1, accuracy and loss that the run is chosen by."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Entry of meta.json."""
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    """File name -> predictions."""
    probs: Mapping[str, Mapping[str, NDArray[np.float32]]] = field(default_factory=dict)
    """File name -> task -> (N, classes) probabilities."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the probabilities as tensors of the saved state."""
        return {
            f"{PREFIXES[name]}{task}": torch.from_numpy(table)
            for name, tables in self.probs.items()
            for task, table in tables.items()
        }


def validate_fold(
    setup: FoldSetup,
    batches: FoldBatches,
    model: Classifier,
    criterion: Criterion,
    progress: TrainProgress,
) -> ValidationResult:
    """Predict and score the validation part, as it is and in swapped rooms.

    Raises:
        LossNotFiniteError: the loss is NaN or infinite.
    """
    if not len(batches.held_out):
        return ValidationResult()
    result = _predict(setup, batches.validation, batches.held_out, model, criterion, progress)
    scores, by_task = _score(setup, result)
    row = {"val_loss": scores["loss"], "val_f1": scores["f1"]}
    for task, score in by_task.items():
        row |= {f"{task}_f1": score.macro_f1, f"{task}_accuracy": score.accuracy}
    metrics = _describe(scores, by_task)
    tables, probs = {OOF_FILE: result.table}, {OOF_FILE: result.probs}
    if batches.swapped is not None:
        swapped = predict_swapped(setup, batches, model, criterion, progress)
        in_rooms, by_task = _score(setup, swapped)
        row |= {"swapped_loss": in_rooms["loss"], "swapped_f1": in_rooms["f1"]}
        for task, score in by_task.items():
            row[f"{task}_swapped_f1"] = score.macro_f1
        metrics["swapped"] = _describe(in_rooms, by_task)
        tables[SWAPPED_FILE], probs[SWAPPED_FILE] = swapped.table, swapped.probs
        if setup.config.choose_by == "swapped":
            scores = in_rooms
    return ValidationResult(row, scores, metrics, tables, probs)


@dataclass(frozen=True)
class Predictions:
    """Predictions of some crops by one model."""

    table: pl.DataFrame
    """Columns as in `oof_table`."""
    loss: float
    probs: Mapping[str, NDArray[np.float32]]


def predict_swapped(
    setup: FoldSetup,
    batches: FoldBatches,
    model: Classifier,
    criterion: Criterion,
    progress: TrainProgress,
) -> Predictions:
    """Predict the validation part in swapped rooms, which the fold must have."""
    assert batches.swapped is not None
    return _predict(setup, batches.swapped, batches.swapped_photos, model, criterion, progress)


def restore_tables(setup: FoldSetup, tensors: Mapping[str, Tensor]) -> dict[str, pl.DataFrame]:
    """Return file name -> predictions of a saved state; those that it lacks are left out."""
    held_out = setup.training.rows(setup.fold, held_out=True)
    photos = {OOF_FILE: held_out}
    if setup.swapped is not None:
        photos[SWAPPED_FILE] = setup.swapped.photos_of(setup.swapped.scored(held_out))
    tables = {}
    for name, rows in photos.items():
        prefix = PREFIXES[name]
        probs = {
            key.removeprefix(prefix): table.numpy()
            for key, table in tensors.items()
            if key.startswith(prefix)
        }
        if probs:
            tables[name] = oof_table(setup.training, rows, probs)
    return tables


def _predict(
    setup: FoldSetup,
    batches: Prefetcher,
    photos: NDArray[np.int64],
    model: Classifier,
    criterion: Criterion,
    progress: TrainProgress,
) -> Predictions:
    validated = validate(
        model, batches, criterion, amp=setup.amp, progress=progress, processes=setup.processes
    )
    table = oof_table(setup.training, photos, validated.probs)
    return Predictions(table, validated.loss, validated.probs)


def _score(
    setup: FoldSetup, predicted: Predictions
) -> tuple[dict[str, float], dict[str, TaskScore]]:
    by_task = score_oof(predicted.table, setup.training.tasks)
    f1 = float(np.mean([score.macro_f1 for score in by_task.values()]))
    accuracy = float(np.mean([score.accuracy for score in by_task.values()]))
    return {"f1": f1, "accuracy": accuracy, "loss": predicted.loss}, by_task


def _describe(scores: Mapping[str, float], by_task: Mapping[str, TaskScore]) -> dict[str, Any]:
    return {
        "val_loss": scores["loss"],
        "macro_f1": scores["f1"],
        "accuracy": scores["accuracy"],
        "tasks": {task: asdict(score) for task, score in by_task.items()},
    }

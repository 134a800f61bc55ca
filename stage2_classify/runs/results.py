"""The results of a run: scores of each fold and of all out-of-fold predictions.

Knows tables of predictions; knows nothing of models or crops.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from cropfirst.core.files import remove_torn
from cropfirst.stage2_classify.data.training_set import TrainingSet, probs_column, target_column
from cropfirst.stage2_classify.metrics.scores import (
    MAJORITY_NOTE,
    MajorityScore,
    accuracy,
    confusion,
    macro_f1,
    majority_score,
    per_class,
)
from cropfirst.stage2_classify.runs.json_files import read_json, write_json
from cropfirst.stage2_classify.runs.parquet import read_parquet, write_parquet
from cropfirst.stage2_classify.runs.run_folder import RunFolder, run_lock
from cropfirst.stage2_classify.runs.swapped_scores import SWAPPED_FILE, SwappedScore, score_swapped

FAR = 0.02
"""Difference between macro F1 over all folds and the folds' mean above which it is explained."""


@dataclass(frozen=True)
class TaskScore:
    """Scores of one task."""

    macro_f1: float
    accuracy: float
    n_photos: int


@dataclass(frozen=True)
class FoldResult:
    """A finished fold: the epoch of its best checkpoint, and its scores by task."""

    fold: int
    epoch: int
    scores: Mapping[str, TaskScore]


@dataclass(frozen=True)
class RunSummary:
    """Results of a run, as `train` returns them."""

    run_dir: Path
    scores: Mapping[str, TaskScore]
    """Task -> scores over the out-of-fold predictions of all finished folds."""
    majority: Mapping[str, MajorityScore]
    """Task -> scores of always predicting the most frequent class of these photos."""
    folds: tuple[FoldResult, ...]
    n_photos: int
    """Number of photos in all folds, finished or not."""
    excluded: Mapping[str, int]
    """Reason why photos of the train split are left out -> number of them."""
    trained_folds: tuple[int, ...]
    """Folds that this call has trained; the others were finished before."""
    seconds: float
    device: str
    swapped: Mapping[str, SwappedScore] = field(default_factory=dict)
    """Task -> scores in swapped rooms; empty if a finished fold was not scored there."""
    choose_by: str = "oof"
    """Score that chose the epochs: oof or swapped."""


def oof_table(
    training: TrainingSet, rows: NDArray[np.int64], probs: Mapping[str, NDArray[np.float32]]
) -> pl.DataFrame:
    """Return out-of-fold predictions: key, group, fold, status, `<task>_target`, `<task>_probs`.

    A run with a condition also has `applies`: it predicts all photos, and is scored on those.

    Args:
        rows: (N,) row numbers in the training set's table.
        probs: task -> (N, classes), rows as in `rows`.
    """
    part = training.table[rows]
    names = ("key", "group", "fold", "status", "applies")
    columns: list[pl.Series] = [part[name] for name in names if name in part.columns]
    for task in training.tasks:
        columns.append(part[target_column(task)])
        values = probs[task].astype(np.float32).tolist()
        columns.append(pl.Series(probs_column(task), values, dtype=pl.List(pl.Float32)))
    return pl.DataFrame(columns)


def score_oof(table: pl.DataFrame, tasks: Sequence[str]) -> dict[str, TaskScore]:
    """Score each task over out-of-fold predictions, those that meet the run's condition."""
    scores = {}
    table = scored_part(table)
    for task in tasks:
        targets, preds, n_classes = _columns(table, task)
        scores[task] = TaskScore(
            macro_f1(targets, preds, n_classes), accuracy(targets, preds), len(targets)
        )
    return scores


def score_majority(table: pl.DataFrame, tasks: Sequence[str]) -> dict[str, MajorityScore]:
    """Return each task's scores of always predicting the most frequent class."""
    table = scored_part(table)
    return {
        task: majority_score(np.bincount(table[target_column(task)].to_numpy())) for task in tasks
    }


def scored_part(table: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that a run is scored on: all, or those that meet its condition."""
    return table.filter("applies") if "applies" in table.columns else table


def finish_run(
    run: RunFolder,
    training: TrainingSet,
    *,
    trained_folds: Sequence[int],
    seconds: float,
    device: str,
    choose_by: str = "oof",
    writes: bool = True,
) -> RunSummary:
    """Merge the finished folds into the run's oof.parquet and metrics.json.

    Args:
        choose_by: score that chose the epochs.
        writes: False only reads, because another process writes.
    """
    # Several processes may train folds of one run at the same time.
    with run_lock(run.path, wait=True) if writes else nullcontext():
        finished = run.finished_folds()
        tables = [read_parquet(run.fold(fold) / "oof.parquet") for fold in finished]
        table = pl.concat(tables).sort("key")
        scores = score_oof(table, training.tasks)
        majority = score_majority(table, training.tasks)
        swapped = _read_swapped(run, finished)
        swapped_scores = {} if swapped is None else _score_swapped(swapped, table, training.tasks)
        folds = tuple(_read_fold(run, fold) for fold in finished)
        if writes:
            remove_torn(run.path)
            for fold in finished:  # left if a process was killed before
                shutil.rmtree(run.fold(fold) / "state", ignore_errors=True)
            write_parquet(run.path / "oof.parquet", table)
            if swapped is None:
                (run.path / SWAPPED_FILE).unlink(missing_ok=True)
            else:
                write_parquet(run.path / SWAPPED_FILE, swapped)
            done = _describe(training, scored_part(table), scores, majority, folds)
            for task, score in swapped_scores.items():
                done["tasks"][task]["swapped"] = score.to_dict()
            write_json(run.path / "metrics.json", done)
    return RunSummary(
        run_dir=run.path,
        scores=scores,
        majority=majority,
        folds=folds,
        n_photos=len(training),
        excluded=training.excluded,
        trained_folds=tuple(trained_folds),
        seconds=seconds,
        device=device,
        swapped=swapped_scores,
        choose_by=choose_by,
    )


def _read_swapped(run: RunFolder, folds: Sequence[int]) -> pl.DataFrame | None:
    """Return the predictions in swapped rooms of some folds; None if one has none."""
    paths = [run.fold(fold) / SWAPPED_FILE for fold in folds]
    if not paths or not all(path.is_file() for path in paths):
        return None
    return pl.concat([read_parquet(path) for path in paths]).sort("key")


def _score_swapped(
    swapped: pl.DataFrame, oof: pl.DataFrame, tasks: Sequence[str]
) -> dict[str, SwappedScore]:
    part = scored_part(swapped)
    return score_swapped(part, oof, tasks) if part.height else {}


def summary_table(summary: RunSummary) -> Table:
    """Return a rich table with each task's scores over all folds, and its macro F1 per fold.

    Beside each score is that of always predicting the most frequent class.
    """
    table = Table(
        title=Text(f"{summary.run_dir.name}: out-of-fold"), caption=MAJORITY_NOTE, box=SIMPLE_HEAD
    )
    table.add_column("task")
    for name in ("macro F1", "majority", "accuracy", "majority", "photos", "F1 by fold"):
        table.add_column(name, justify="right")
    for task, score in summary.scores.items():
        majority = summary.majority[task]
        values = (score.macro_f1, majority.macro_f1, score.accuracy, majority.accuracy)
        folds = " ".join(f"{fold.scores[task].macro_f1:.4f}" for fold in summary.folds)
        table.add_row(task, *(f"{value:.4f}" for value in values), str(score.n_photos), folds)
    return table


def describe_swapped(summary: RunSummary) -> list[str]:
    """Return a line for each task with its score in swapped rooms beside the one out of fold."""
    return [
        f"{task}: swapped-rooms F1 {score.macro_f1:.4f} [{score.low:.3f}, {score.high:.3f}], "
        f"out-of-fold F1 of the same {score.n_photos} photos {score.oof_macro_f1:.4f}"
        for task, score in summary.swapped.items()
    ]


def explain_pooled(summary: RunSummary) -> str | None:
    """Return a line that explains macro F1 over all folds where it is far from the folds' mean."""
    far = []
    for task, score in summary.scores.items():
        mean = float(np.mean([fold.scores[task].macro_f1 for fold in summary.folds]))
        if abs(score.macro_f1 - mean) > FAR:
            far.append(f"{task} {score.macro_f1:.4f}, mean {mean:.4f}")
    if not far:
        return None
    return (
        f"macro F1 is computed once over the photos of all folds, and is not the mean of the folds "
        f"({'; '.join(far)}): they differ where a fold has few or no photos of a class"
    )


def _read_fold(run: RunFolder, fold: int) -> FoldResult:
    data = read_json(run.fold(fold) / "metrics.json")
    scores = {task: TaskScore(**score) for task, score in data["tasks"].items()}
    return FoldResult(fold, int(data["epoch"]), scores)


def _describe(
    training: TrainingSet,
    table: pl.DataFrame,
    scores: Mapping[str, TaskScore],
    majority: Mapping[str, MajorityScore],
    folds: Sequence[FoldResult],
) -> dict[str, Any]:
    tasks = {}
    for task, score in scores.items():
        targets, preds, n_classes = _columns(table, task)
        names = training.class_names[task]
        tasks[task] = {
            **asdict(score),
            "majority_macro_f1": majority[task].macro_f1,
            "majority_accuracy": majority[task].accuracy,
            "confusion": confusion(targets, preds, n_classes).tolist(),
            "per_class": [asdict(each) for each in per_class(targets, preds, names)],
        }
    return {
        "tasks": tasks,
        "folds": [asdict(fold) for fold in folds],
        "n_photos": len(training),
        "excluded": dict(training.excluded),
    }


def _columns(table: pl.DataFrame, task: str) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    probs = np.stack(table[probs_column(task)].to_list())
    targets = table[target_column(task)].to_numpy().astype(np.int64)
    return targets, probs.argmax(1), probs.shape[1]

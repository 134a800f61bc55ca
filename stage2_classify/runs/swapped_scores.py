"""Scores of a run in swapped rooms: the held-out photos with their heads in other people's rooms.

A model that reads the room scores high on out-of-fold predictions and low here. After Mixed-Rand of
Xiao et al., "Noise or signal: the role of image backgrounds in object recognition", ICLR 2021.
Knows tables of predictions; knows nothing of models or crops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cropfirst.stage2_classify.data.training_set import probs_column, target_column
from cropfirst.stage2_classify.metrics.intervals import (
    Paired,
    number_people,
    paired_difference,
    score_intervals,
)

SWAPPED_FILE = "swapped.parquet"
"""Predictions of the swapped crops, in the folder of a run or fold: columns as in oof.parquet, a
row for each photo that has a swapped crop."""
NOT_CHECKED = (
    "not checked against other rooms: run cli.py detect DATA --swap-rooms, then train again"
)
"""What is said of a run that has no score in swapped rooms."""


@dataclass(frozen=True)
class SwappedScore:
    """Scores of one task in swapped rooms."""

    macro_f1: float
    low: float
    high: float
    """Bounds of the 95 % interval of macro F1 over people."""
    accuracy: float
    oof_macro_f1: float
    """Macro F1 of the out-of-fold predictions of the same photos in their own rooms."""
    gap_low: float
    gap_high: float
    """Bounds of the 95 % interval of `gap` over people."""
    n_photos: int
    n_people: int

    @property
    def gap(self) -> float:
        """Macro F1 in own rooms minus macro F1 in swapped rooms, of the same photos."""
        return self.oof_macro_f1 - self.macro_f1

    @property
    def falls(self) -> bool:
        """Whether the score falls in swapped rooms by more than its interval allows for."""
        return self.gap_low > 0


def score_swapped(
    swapped: pl.DataFrame, oof: pl.DataFrame, tasks: Sequence[str]
) -> dict[str, SwappedScore]:
    """Score each task in swapped rooms, and compare it with the same photos in their own rooms.

    Args:
        swapped: predictions of the swapped crops; those that meet the run's condition.
        oof: out-of-fold predictions, of these photos and others.
    """
    own = swapped.select("key").join(oof, on="key", how="left", maintain_order="left")
    people = {
        key: f"person {group}"
        for key, group in swapped.select("key", "group").iter_rows()
        if group is not None
    }
    numbers = number_people(swapped["key"].to_list(), people)
    return {task: _score_task(swapped, own, task, numbers) for task in tasks}


def _score_task(
    swapped: pl.DataFrame, own: pl.DataFrame, task: str, people: NDArray[np.integer]
) -> SwappedScore:
    targets = swapped[target_column(task)].to_numpy().astype(np.int64)
    probs, own_probs = (np.stack(table[probs_column(task)].to_list()) for table in (swapped, own))
    n_classes = probs.shape[1]
    preds, own_preds = probs.argmax(1), own_probs.argmax(1)
    f1, accuracy = score_intervals(people, targets, preds, n_classes)
    own_f1, _ = score_intervals(people, targets, own_preds, n_classes)
    difference = paired_difference([Paired(people, targets, (preds, own_preds), n_classes)])
    return SwappedScore(
        macro_f1=f1.value,
        low=f1.low,
        high=f1.high,
        accuracy=accuracy.value,
        oof_macro_f1=own_f1.value,
        gap_low=difference.low,
        gap_high=difference.high,
        n_photos=len(targets),
        n_people=len(np.unique(people)),
    )


def explain_gaps(scores: Mapping[str, SwappedScore]) -> list[str]:
    """Return a warning for each task whose score falls in swapped rooms."""
    return [
        f"{task}: macro F1 falls from {score.oof_macro_f1:.4f} to {score.macro_f1:.4f} when the "
        f"same {score.n_photos} photos are shown in other people's rooms (by {score.gap:.4f}, 95 % "
        f"interval {score.gap_low:.4f} to {score.gap_high:.4f}): the model reads the background, "
        "and the lower score is the one to expect in a new place"
        for task, score in scores.items()
        if score.falls
    ]

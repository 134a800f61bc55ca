"""Scores of a run in swapped rooms: the held-out photos with their heads in other people's rooms.

A model that reads the room scores high on out-of-fold predictions and low here. After Mixed-Rand of
Xiao et al., "Noise or signal: the role of image backgrounds in object recognition", ICLR 2021.
Knows tables of predictions; knows nothing of models or crops.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

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
from cropfirst.stage2_classify.runs.json_files import read_json

SWAPPED_FILE = "swapped.parquet"
"""Predictions of the swapped crops, in the folder of a run or fold: columns as in oof.parquet, a
row for each photo that has a swapped crop."""
UNCHECKED = "not checked against other rooms"
NOT_CHECKED = f"{UNCHECKED}: run cropfirst detect DATA --swap-rooms, then train again"
"""Message on a run that has no score in swapped rooms."""


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

    def __str__(self) -> str:
        return f"{self.macro_f1:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def falls(self) -> bool:
        """Whether the score falls in swapped rooms by more than its interval allows for."""
        return self.gap_low > 0

    def warning(self, name: str) -> str:
        """Return the warning on a score that falls; `name` says which, such as a task."""
        return (
            f"{name}: macro F1 falls from {self.oof_macro_f1:.3f} to {self} in swapped rooms: the "
            "model reads the background, and the lower score is the one to expect in a new place"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON types."""
        return {**asdict(self), "gap": self.gap}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SwappedScore:
        """Return what `to_dict` wrote."""
        return cls(**{each.name: data[each.name] for each in fields(cls)})


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
    return compare_rooms(people, targets, probs.argmax(1), own_probs.argmax(1), probs.shape[1])


def compare_rooms(
    people: NDArray[np.integer],
    targets: NDArray[np.integer],
    swapped: NDArray[np.integer],
    own: NDArray[np.integer],
    n_classes: int,
) -> SwappedScore:
    """Score predictions in swapped rooms, and compare them with those in the photos' own rooms.

    Args:
        people: (N,) numbers of persons.
        targets: (N,) class numbers.
        swapped: (N,) class numbers predicted of the swapped crops.
        own: (N,) class numbers predicted of the crops themselves.
    """
    f1, accuracy = score_intervals(people, targets, swapped, n_classes)
    own_f1, _ = score_intervals(people, targets, own, n_classes)
    difference = paired_difference([Paired(people, targets, (swapped, own), n_classes)])
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


def falling_runs(runs: Iterable[Path]) -> list[str]:
    """Return a warning for each run whose score of some task falls in swapped rooms.

    Args:
        runs: run folders; one without a metrics.json is passed over.
    """
    warnings = []
    for run in runs:
        if not (run / "metrics.json").is_file():
            continue
        for task, about in (read_json(run / "metrics.json").get("tasks") or {}).items():
            if about.get("swapped") is None:
                continue
            score = SwappedScore.from_dict(about["swapped"])
            if score.falls:
                warnings.append(score.warning(f"{task}, {run.name}"))
    return warnings

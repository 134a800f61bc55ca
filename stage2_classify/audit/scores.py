"""The audit's figures: accuracy and macro F1 per variant, and gaps with their intervals.

Knows tables of answers; knows nothing of photos or models. No torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from cropfirst.core.bootstrap import Interval
from cropfirst.stage2_classify.audit.variants import VARIANTS
from cropfirst.stage2_classify.audit.verdict import Verdict, conclude
from cropfirst.stage2_classify.metrics.chance import ChanceTest, compare_with_chance
from cropfirst.stage2_classify.metrics.intervals import mean_intervals, number_people
from cropfirst.stage2_classify.metrics.scores import (
    MajorityScore,
    accuracy,
    macro_f1,
    majority_score,
)


@dataclass(frozen=True)
class VariantScore:
    """Scores of a run on one variant."""

    accuracy: float
    macro_f1: float
    majority: MajorityScore
    """Scores of always predicting the most frequent class of these photos."""
    n_photos: int


@dataclass(frozen=True)
class TaskAudit:
    """The result of one task of one run."""

    task: str
    n_people: int
    n_photos: int
    variants: Mapping[str, VariantScore]
    gap: Interval | None
    """BG-Gap, accuracy on Mixed-Same minus Mixed-Rand over photos that have both; None if none."""
    gap_detected: Interval | None
    """BG-Gap of photos whose face was plainly detected: a borrowed box may show background."""
    chance: ChanceTest
    """Comparison with chance of the run's out-of-fold predictions of all its photos."""
    chance_mixed: ChanceTest | None
    """The same of its predictions of Mixed-Same; None where there are none."""
    verdict: Verdict
    """Conclusion on the use of the background."""
    cam: Interval | None
    """Share of Grad-CAM's mass in the face box; None without Grad-CAM."""
    cam_area: float | None
    """Share of the crop that the face box is, which an even map would have in it."""


def score_task(
    table: pl.DataFrame,
    task: str,
    *,
    n_classes: int,
    person_of: Mapping[str, str],
    chance: ChanceTest,
    detected: Collection[str] = (),
) -> TaskAudit:
    """Score the answers of a run on one task, and conclude whether it uses the background.

    Args:
        table: columns as in `answers.SCHEMA`.
        task: name of the task.
        n_classes: number of its classes.
        person_of: key -> person.
        chance: of the run's out-of-fold predictions of all its photos.
        detected: keys of photos whose face was plainly detected.
    """
    rows = table.filter(pl.col("task") == task)
    original = rows.filter(pl.col("variant") == "original")
    keys = original["key"].to_list()
    with_cam = original.filter(pl.col("cam").is_not_null() & pl.col("cam").is_not_nan())
    gap = _gap(rows, person_of)
    mixed = _chance(rows.filter(pl.col("variant") == "mixed_same"), n_classes, person_of)
    return TaskAudit(
        task=task,
        n_people=len({person_of[key] for key in keys}),
        n_photos=len(keys),
        variants={
            name: _score(rows.filter(pl.col("variant") == name), n_classes) for name in VARIANTS
        },
        gap=gap,
        gap_detected=_gap(rows.filter(pl.col("key").is_in(list(detected))), person_of),
        chance=chance,
        chance_mixed=mixed,
        verdict=conclude(gap, chance, mixed),
        cam=_mean(with_cam, "cam", person_of),
        cam_area=float(np.mean(with_cam["cam_area"].to_numpy())) if with_cam.height else None,
    )


def _score(rows: pl.DataFrame, n_classes: int) -> VariantScore:
    targets, preds = rows["target"].to_numpy(), rows["pred"].to_numpy()
    return VariantScore(
        accuracy(targets, preds),
        macro_f1(targets, preds, n_classes),
        majority_score(np.bincount(targets)),
        rows.height,
    )


def _chance(rows: pl.DataFrame, n_classes: int, person_of: Mapping[str, str]) -> ChanceTest | None:
    if not rows.height:
        return None
    rows = rows.sort("key")
    people = number_people(rows["key"].to_list(), person_of)
    targets, preds = rows["target"].to_numpy(), rows["pred"].to_numpy()
    return compare_with_chance(people, targets, preds, n_classes)


def _gap(rows: pl.DataFrame, person_of: Mapping[str, str]) -> Interval | None:
    right = rows.with_columns(right=(pl.col("target") == pl.col("pred")).cast(pl.Float64))
    same, rand = (
        right.filter(pl.col("variant") == name).select("key", "right")
        for name in ("mixed_same", "mixed_rand")
    )
    both = same.join(rand, on="key", suffix="_rand").sort("key")
    return _mean(both.select("key", gap=pl.col("right") - pl.col("right_rand")), "gap", person_of)


def _mean(rows: pl.DataFrame, column: str, person_of: Mapping[str, str]) -> Interval | None:
    if not rows.height:
        return None
    people = number_people(rows["key"].to_list(), person_of)
    return mean_intervals(people, rows[column].to_numpy().astype(np.float64)[:, None])[0]

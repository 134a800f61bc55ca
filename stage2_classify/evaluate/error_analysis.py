"""Error analysis of predictions: slices, calibration, and the most confident mistakes.

Knows predictions and crop sets; knows nothing of models. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cropfirst.cache import Cache, CropSet
from cropfirst.core.bootstrap import Interval
from cropfirst.core.errors import CropfirstError
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.labels.photo_facts import photo_facts
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.metrics.calibration import Reliability, confidence_gaps, reliability
from cropfirst.stage2_classify.metrics.chance import ChanceTest, compare_with_chance
from cropfirst.stage2_classify.metrics.intervals import (
    ece_intervals,
    number_people,
    score_intervals,
)
from cropfirst.stage2_classify.metrics.scores import MajorityScore, majority_score
from cropfirst.stage2_classify.metrics.slices import Slice, score_slices
from cropfirst.stage2_classify.runs.oof_vote import OofVote


@dataclass(frozen=True)
class Mistake:
    """A photo with a wrong prediction."""

    key: str
    true: str
    predicted: str
    confidence: float | None
    """Probability of the wrong class; None for a code that is made of several tasks' classes."""
    person: str

    @property
    def caption(self) -> str:
        """True and predicted class, and the confidence where it is known."""
        confidence = "" if self.confidence is None else f" {self.confidence:.0%}"
        return f"{self.true} → {self.predicted}{confidence}"


@dataclass(frozen=True)
class ErrorAnalysis:
    """Intervals, slices, calibration and mistakes of one task's predictions."""

    task: str
    n_photos: int
    n_people: int
    macro_f1: Interval
    accuracy: Interval
    majority: MajorityScore
    """Scores of always predicting the most frequent class of these photos."""
    chance: ChanceTest
    """Whether the predictions are better than chance."""
    slices: tuple[Slice, ...]
    """Parts of the photos, the worst first."""
    reliability: Reliability | None
    """None where there are no probabilities: for a code that is made of several tasks' classes."""
    ece: Interval | None
    mistakes: tuple[Mistake, ...]
    """All mistakes, the most confident first."""

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON types, with at most 100 mistakes."""
        bins = None
        if self.reliability is not None:
            columns = (self.reliability.confidence, self.reliability.accuracy)
            bins = [
                {"confidence": float(confidence), "accuracy": float(accuracy), "photos": int(count)}
                for confidence, accuracy, count in zip(
                    *columns, self.reliability.counts, strict=True
                )
                if count
            ]
        return {
            "task": self.task,
            "n_people": self.n_people,
            "macro_f1": vars(self.macro_f1),
            "accuracy": vars(self.accuracy),
            "majority_macro_f1": self.majority.macro_f1,
            "majority_accuracy": self.majority.accuracy,
            "chance": self.chance.to_dict(),
            "ece": vars(self.ece) if self.ece else None,
            "reliability": bins,
            "slices": [each.to_dict() for each in self.slices],
            "mistakes": [vars(each) for each in self.mistakes[:100]],
            "n_mistakes": len(self.mistakes),
        }


def analyze_task(
    task: str,
    answered: OofVote,
    schema: LabelSchema,
    *,
    people: Mapping[str, str],
    photos: PhotoSet | None,
    crop_rows: pl.DataFrame | None,
    facts: Mapping[str, Sequence[str | None]] | None = None,
) -> ErrorAnalysis:
    """Analyze one task's predictions.

    Args:
        people: key -> person.
        photos: labels for slices; None = no slices by label.
        crop_rows: a crop set's manifest for slices; None = no slices by crop.
        facts: further slices, as fact -> (N,) one value per photo, None where it is not known.
    """
    numbers = number_people(answered.keys, people)
    classes = schema.class_names(task)
    targets, preds, probs = answered.targets, answered.preds, answered.probs
    f1, accuracy = score_intervals(numbers, targets, preds, len(classes))
    facts = {**(facts or {}), **photo_facts(answered.keys, photos, schema, crop_rows)}
    ece = None
    if probs is not None:
        ece = ece_intervals(numbers, [confidence_gaps(probs, targets)])[0]
    return ErrorAnalysis(
        task,
        len(targets),
        len(np.unique(numbers)),
        f1,
        accuracy,
        majority_score(np.bincount(targets)),
        compare_with_chance(numbers, targets, preds, len(classes)),
        score_slices(
            task, targets=targets, preds=preds, people=numbers, n_classes=len(classes),
            facts=facts,
        ),
        None if probs is None else reliability(probs, targets),
        ece,
        _mistakes(answered, classes, people),
    )  # fmt: skip


def analyze_all(
    answers: Mapping[str, OofVote],
    schema: LabelSchema,
    *,
    people: Mapping[str, str],
    photos: PhotoSet | None,
    crops: CropSet | None,
    facts: Mapping[str, Sequence[str | None]] | None = None,
) -> tuple[ErrorAnalysis, ...]:
    """Analyze every task's predictions; arguments as for `analyze_task`."""
    rows = None if crops is None else crops.manifest.read()
    return tuple(
        analyze_task(
            name, answered, schema, people=people, photos=photos, crop_rows=rows, facts=facts
        )
        for name, answered in answers.items()
    )


def find_crops(cache: Cache | None, runs: Sequence[Path], notes: list[str]) -> CropSet | None:
    """Find the crops of the first run or, without a run, those of the default background.

    Args:
        notes: list that a line is added to where there are no such crops.

    Returns:
        None where there are no such crops.
    """
    from cropfirst.stage2_classify.runs.crop_sets import choose_crop_set
    from cropfirst.stage2_classify.runs.oof_predictions import read_about

    if cache is None:
        return None
    name = str((read_about(runs[0]).get("crop_set") or {}).get("name")) if runs else None
    try:
        return choose_crop_set(cache, name)[0]
    except CropfirstError as error:
        notes.append(f"no crops to show: {error}")
        return None


def people_of(photos: PhotoSet) -> dict[str, str]:
    """Return key -> person, of the photos whose person is known."""
    return {s.key: f"person {s.group}" for s in photos.samples if s.group is not None}


def _mistakes(
    answered: OofVote, classes: Sequence[str], people: Mapping[str, str]
) -> tuple[Mistake, ...]:
    rows = np.flatnonzero(answered.targets != answered.preds)
    every = np.arange(len(answered.keys))
    confidence = None if answered.probs is None else answered.probs[every, answered.preds]
    found = [
        Mistake(
            answered.keys[row],
            classes[answered.targets[row]],
            classes[answered.preds[row]],
            None if confidence is None else float(confidence[row]),
            people.get(answered.keys[row], answered.keys[row]),
        )
        for row in rows
    ]
    return tuple(sorted(found, key=lambda each: (-(each.confidence or 0), each.key)))

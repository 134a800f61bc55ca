"""Where and how the answers are wrong: slices, calibration, and the surest mistakes.

Knows answers and crop sets; knows nothing of models. No torch.
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
from cropfirst.stage2_classify.metrics.intervals import (
    ece_intervals,
    number_people,
    score_intervals,
)
from cropfirst.stage2_classify.metrics.slices import Slice, score_slices
from cropfirst.stage2_classify.runs.oof_votes import Answered


@dataclass(frozen=True)
class Mistake:
    """One photo that was answered wrongly."""

    key: str
    true: str
    predicted: str
    confidence: float | None
    """Probability of the wrong answer; None for a code put together of several tasks' answers."""
    person: str

    @property
    def caption(self) -> str:
        """In a few words."""
        sure = "" if self.confidence is None else f" {self.confidence:.0%}"
        return f"{self.true} → {self.predicted}{sure}"


@dataclass(frozen=True)
class Diagnosis:
    """One task's answers, looked into."""

    task: str
    n_photos: int
    n_people: int
    macro_f1: Interval
    accuracy: Interval
    slices: tuple[Slice, ...]
    """The worst first."""
    reliability: Reliability | None
    """None where there are no probabilities: the code of several tasks' answers."""
    ece: Interval | None
    mistakes: tuple[Mistake, ...]
    """All of them, the surest first."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        bins = None
        if self.reliability is not None:
            columns = (self.reliability.confidence, self.reliability.accuracy)
            bins = [
                {"confidence": float(said), "accuracy": float(came), "photos": int(count)}
                for said, came, count in zip(*columns, self.reliability.counts, strict=True)
                if count
            ]
        return {
            "task": self.task,
            "n_people": self.n_people,
            "macro_f1": vars(self.macro_f1),
            "accuracy": vars(self.accuracy),
            "ece": vars(self.ece) if self.ece else None,
            "reliability": bins,
            "slices": [each.to_dict() for each in self.slices],
            "mistakes": [vars(each) for each in self.mistakes[:100]],
            "n_mistakes": len(self.mistakes),
        }


def diagnose(
    task: str,
    answered: Answered,
    schema: LabelSchema,
    *,
    people: Mapping[str, str],
    photos: PhotoSet | None,
    crop_rows: pl.DataFrame | None,
    known: Mapping[str, Sequence[str | None]] | None = None,
) -> Diagnosis:
    """Look into one task's answers.

    Args:
        people: key -> person.
        photos: for slices by label; None: there are none.
        crop_rows: for slices by crop; None: there are none.
        known: by what -> one word a photo, that `photos` does not know.
    """
    numbers = number_people(answered.keys, people)
    classes = schema.class_names(task)
    targets, preds, probs = answered.targets, answered.preds, answered.probs
    f1, accuracy = score_intervals(numbers, targets, preds, len(classes))
    facts = {**(known or {}), **photo_facts(answered.keys, photos, schema, crop_rows)}
    ece = None
    if probs is not None:
        ece = ece_intervals(numbers, [confidence_gaps(probs, targets)])[0]
    return Diagnosis(
        task,
        len(targets),
        len(np.unique(numbers)),
        f1,
        accuracy,
        score_slices(
            task, targets=targets, preds=preds, people=numbers, n_classes=len(classes),
            facts=facts,
        ),
        None if probs is None else reliability(probs, targets),
        ece,
        _mistakes(answered, classes, people),
    )  # fmt: skip


def diagnose_all(
    answers: Mapping[str, Answered],
    schema: LabelSchema,
    *,
    people: Mapping[str, str],
    photos: PhotoSet | None,
    crops: CropSet | None,
    known: Mapping[str, Sequence[str | None]] | None = None,
) -> tuple[Diagnosis, ...]:
    """Look into every task's answers; arguments as for `diagnose`."""
    rows = None if crops is None else crops.manifest.read()
    return tuple(
        diagnose(name, answered, schema, people=people, photos=photos, crop_rows=rows, known=known)
        for name, answered in answers.items()
    )


def find_crops(cache: Cache | None, runs: Sequence[Path], notes: list[str]) -> CropSet | None:
    """The crops of the first of the runs; None, with a note, where there are none."""
    from cropfirst.stage2_classify.runs.oof import read_about

    if cache is None:
        return None
    name = str((read_about(runs[0]).get("crop_set") or {}).get("name"))
    try:
        return cache.find(name)
    except CropfirstError as error:
        notes.append(f"no crops to look at: {error}")
        return None


def only_crops(cache: Cache, notes: list[str]) -> CropSet | None:
    """The only crop set there is; None, with a note, where there are none or several."""
    try:
        return cache.find()
    except CropfirstError as error:
        notes.append(f"no crops to look at: {error}")
        return None


def people_of(photos: PhotoSet) -> dict[str, str]:
    """Key -> person, of the photos whose person is known."""
    return {s.key: f"person {s.group}" for s in photos.samples if s.group is not None}


def _mistakes(
    answered: Answered, classes: Sequence[str], people: Mapping[str, str]
) -> tuple[Mistake, ...]:
    rows = np.flatnonzero(answered.targets != answered.preds)
    every = np.arange(len(answered.keys))
    sure = None if answered.probs is None else answered.probs[every, answered.preds]
    found = [
        Mistake(
            answered.keys[row],
            classes[answered.targets[row]],
            classes[answered.preds[row]],
            None if sure is None else float(sure[row]),
            people.get(answered.keys[row], answered.keys[row]),
        )
        for row in rows
    ]
    return tuple(sorted(found, key=lambda each: (-(each.confidence or 0), each.key)))

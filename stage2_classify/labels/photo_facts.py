"""Facts of each photo as words, by which scores are sliced.

Knows samples, label schemas and crop rows; opens no crop and no photo. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.labels.task import LabelError

MOST_VALUES = 12
"""Largest number of values with which a raw fact, such as race, makes slices."""
SCORE_EDGES = (0.9, 0.99, 0.999)
"""Edges of the slices by the detector's score."""
Facts = dict[str, tuple[str | None, ...]]
"""Name of a fact -> one word per photo, None if unknown."""


def photo_facts(
    keys: Sequence[str],
    photos: PhotoSet | None,
    schema: LabelSchema,
    crop_rows: pl.DataFrame | None,
) -> Facts:
    """Collect the facts of some photos that have more than one value.

    Args:
        photos: the data set; None leaves out labels.
        crop_rows: a crop set's manifest; None leaves out facts of crops.
    """
    facts: Facts = {}
    if photos is not None:
        samples = photos.by_key()
        found = [samples.get(key) for key in keys]
        for task in schema.tasks:
            facts[task.name] = tuple(_class(sample, task.name, schema) for sample in found)
        facts |= _raw_facts(found, {task.name for task in schema.tasks})
    if crop_rows is not None:
        rows = {row["key"]: row for row in crop_rows.iter_rows(named=True)}
        facts |= _crop_facts([rows.get(key, {}) for key in keys])
    return {name: words for name, words in facts.items() if len(set(words) - {None}) > 1}


def in_thirds(values: npt.ArrayLike, unit: str) -> tuple[str | None, ...]:
    """Return numbers as words such as "up to 112 px", each for a third of the known ones."""
    numbers = np.asarray(values, np.float64)
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return (None,) * len(numbers)
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    names = (
        f"up to {low:.0f} {unit}",
        f"{low:.0f} to {high:.0f} {unit}",
        f"over {high:.0f} {unit}",
    )
    places = np.where(numbers <= low, 0, np.where(numbers <= high, 1, 2))
    return tuple(
        None if np.isnan(number) else names[place]
        for number, place in zip(numbers, places, strict=True)
    )


def face_height(row: Mapping[str, object]) -> float:
    """Return the height of the face's box in pixels of the photo; NaN if there is none."""
    box = row.get("box")
    return float(box[3] - box[1]) if isinstance(box, list) and len(box) == 4 else float("nan")


def _class(sample: Sample | None, task: str, schema: LabelSchema) -> str | None:
    if sample is None:
        return None
    try:
        code = schema.target(task, sample.labels, where=sample.key)
    except LabelError:
        return None
    return None if code is None else schema.class_names(task)[code]


def _raw_facts(samples: Sequence[Sample | None], known: set[str]) -> Facts:
    """Return the facts with few values that are not used by a task."""
    names = dict.fromkeys(name for sample in samples if sample for name in sample.labels)
    facts: Facts = {}
    for name in names:
        column = tuple(
            str(sample.labels[name]) if sample and name in sample.labels else None
            for sample in samples
        )
        if name not in known and len(set(column)) <= MOST_VALUES:
            facts[name] = column
    return facts


def _crop_facts(rows: Sequence[Mapping[str, object]]) -> Facts:
    scores = [row.get("prob") for row in rows]
    heights = [face_height(row) for row in rows]
    return {
        "crop": tuple(str(row["status"]) if row.get("status") else None for row in rows),
        "detector score": tuple(_score(score) for score in scores),
        "face height": in_thirds(heights, "px"),
    }


def _score(score: object) -> str | None:
    if not isinstance(score, float) or np.isnan(score):
        return None
    edges = ("0", *map(str, SCORE_EDGES), "1")
    place = int(np.searchsorted(SCORE_EDGES, score, side="right"))
    return f"{edges[place]} to {edges[place + 1]}"

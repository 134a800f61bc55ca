"""A data set before any training: counts of photos, people and classes, and their associations.

Counts samples, their labels and the rows of their crops; pixels come from a reader that is handed
in. Knows nothing of models. No torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cropfirst.cache import CropSet
from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample, Split
from cropfirst.stage2_classify.datasets.tables import read_csv
from cropfirst.stage2_classify.eda.image_stats import (
    ImageStats,
    NearDuplicate,
    ReadPhoto,
    find_near_duplicates,
    measure_photos,
)
from cropfirst.stage2_classify.labels.photo_facts import MOST_VALUES, face_height
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.labels.task import LabelError

Counts = Mapping[str, int]
FORMAT, KIND = 1, "eda"
SPLITS: tuple[Split, ...] = ("train", "eval")
UNKNOWN = "unknown"
ROOMS = "rooms.csv"
"""File in the data set's folder that says in which room each photo was taken."""


@dataclass(frozen=True)
class Eda:
    """Counts and statistics of a data set."""

    photos: Counts
    """Split -> number of photos."""
    people: Counts
    """Split -> number of known persons."""
    classes: Mapping[str, Mapping[str, Counts]]
    """Task -> split -> class -> number of photos; "unknown" where there is no label."""
    joint: Counts
    """Combination of the classes of all tasks -> number of photos that have it."""
    facts: Mapping[str, Counts]
    """Other fact with few values -> value -> number of photos."""
    ages: tuple[float, ...]
    """Ages of the training photos whose age is a number."""
    associations: Mapping[str, float]
    """"TASK and FACT" -> Cramer's V of the two over the training photos, 0 to 1."""
    rooms: Mapping[str, Counts]
    """Room -> combination of classes -> number of training photos; empty without rooms."""
    statuses: Mapping[str, Counts]
    """Split -> crop status -> number of photos; empty without crops."""
    faces: pl.DataFrame
    """Columns key, split, height (pixels), share (of the photo's height), x, y (centre, 0 to 1) and
    score."""
    stats: tuple[ImageStats, ...]
    """Statistics of the photos that could be read."""
    near_duplicates: tuple[NearDuplicate, ...]
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the content of eda.json, with distributions as quantiles."""
        return {
            "format": FORMAT,
            "kind": KIND,
            "photos": self.photos,
            "people": self.people,
            "classes": self.classes,
            "joint": self.joint,
            "facts": self.facts,
            "together": self.associations,
            "rooms": self.rooms,
            "statuses": self.statuses,
            "notes": self.notes,
            "ages": quantiles(self.ages),
            "faces": {
                name: quantiles(self.faces[name].drop_nulls().to_list())
                for name in ("height", "share", "x", "y", "score")
            },
            "brightness": quantiles([each.brightness for each in self.stats]),
            "contrast": quantiles([each.contrast for each in self.stats]),
            "twins": [asdict(pair) for pair in self.near_duplicates],
        }


def explore(
    photos: PhotoSet,
    schema: LabelSchema,
    *,
    crops: CropSet | None = None,
    rooms: Mapping[str, str] | None = None,
    read: ReadPhoto | None = None,
    on_photo: Any = lambda: None,
) -> Eda:
    """Count everything.

    Args:
        photos: the data set.
        schema: tasks and classes.
        crops: rows of their crops, for faces and statuses.
        rooms: key -> room.
        read: reads photos for brightness and near-duplicates; None leaves these out.
        on_photo: called after each photo that was read.
    """
    samples = photos.samples
    misfits: Counter[tuple[str, str]] = Counter()
    classes = {key: _classes(sample, schema, misfits) for key, sample in photos.by_key().items()}
    train = photos.by_split("train")
    facts = _facts(train, schema)
    if rooms:
        facts["room"] = {s.key: rooms[s.key] for s in train if s.key in rooms}
    stats = tuple(measure_photos(samples, read, on_photo=on_photo)) if read else ()
    rows = None if crops is None else crops.manifest.read([sample.key for sample in samples])
    notes = _describe_misfits(misfits, schema)
    if crops is None:
        notes.append("there are no crops, so no faces: run cropfirst detect")
    if read is None:
        notes.append("photos were not opened, so brightness and near-duplicates are not known")
    near_duplicates = find_near_duplicates(stats, samples)
    notes += _describe_fold_leaks(near_duplicates, train)
    return Eda(
        photos={s: len(photos.by_split(s)) for s in SPLITS if photos.by_split(s)},
        people=_people(samples),
        classes={task: _by_split(samples, classes, task, schema) for task in schema.task_names},
        joint=_joint(samples, classes, schema),
        facts={name: dict(Counter(known.values())) for name, known in facts.items()},
        ages=tuple(
            float(sample.labels["age"])
            for sample in train
            if isinstance(sample.labels.get("age"), int | float)
        ),
        associations=_associations(train, classes, facts, schema),
        rooms=_by_room(train, classes, rooms or {}, schema),
        statuses=_statuses(rows),
        faces=_faces(rows),
        stats=stats,
        near_duplicates=near_duplicates,
        notes=tuple(notes),
    )


def read_rooms(path: Path) -> dict[str, str]:
    """Read a CSV with the columns `file` (or key, or path) and `room`: key -> room.

    Raises:
        DataError: there is no such file, or a column is missing.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}: wanted a CSV with the columns file and room")
    rows = read_csv(path, required=("room",)).rows
    name = next((name for name in ("file", "key", "path") if rows and name in rows[0]), None)
    if rows and name is None:
        raise DataError(f"{path} has no column file (or key, or path) beside room")
    return {str(row[name]): str(row["room"]) for row in rows if name and row[name] and row["room"]}


def quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """Return least, quarters, largest and mean; None where there are no values."""
    if not len(values):
        return None
    names = ("least", "quarter", "median", "three quarters", "largest")
    found = np.quantile(np.asarray(values, np.float64), (0, 0.25, 0.5, 0.75, 1))
    return {**dict(zip(names, found.tolist(), strict=True)), "mean": float(np.mean(values))}


def _classes(
    sample: Sample, schema: LabelSchema, misfits: Counter[tuple[str, str]]
) -> dict[str, str | None]:
    """Return the class of each task; counts facts that fit no class as (task, fact=value)."""
    found: dict[str, str | None] = {}
    for task in schema.tasks:
        try:
            code = task.encode(sample.labels)
        except LabelError:
            code, fact = None, task.fact(sample.labels) or task.name
            misfits[task.name, f"{fact}={sample.labels[fact]}"] += 1
        found[task.name] = None if code is None else task.classes[code]
    return found


def _describe_misfits(misfits: Counter[tuple[str, str]], schema: LabelSchema) -> list[str]:
    """Return a note for each task that lists the labels which fit none of its classes."""
    notes = []
    for task in schema.tasks:
        found = [(fact, count) for (name, fact), count in misfits.items() if name == task.name]
        if found:
            ordered = sorted(found, key=lambda each: (-each[1], each[0]))
            values = ", ".join(f"{fact} ({count})" for fact, count in ordered)
            fact, _, value = ordered[0][0].partition("=")
            notes.append(
                f"{sum(count for _, count in found)} photos have labels that fit no class of task "
                f"{task.name} ({', '.join(task.classes)}), and count as unknown: {values}. "
                f"Training on {task.name} stops at them: give other bins or aliases (--schema), or "
                f'corrections, in which the row ,,{fact},"{value}", empties all of one value'
            )
    return notes


def _describe_fold_leaks(pairs: Sequence[NearDuplicate], train: Sequence[Sample]) -> list[str]:
    """Return a note on near-duplicates that training may put into different folds."""
    keys = {sample.key for sample in train}
    n_pairs = sum(pair.first in keys and pair.second in keys for pair in pairs)
    if not n_pairs:
        return []
    return [
        f"{n_pairs} of the pairs that look nearly the same are training photos of different or "
        f"unknown persons: folds may part them, so that scores measure memory. Where they show one "
        f"person, give both photos the same `group`, or remove one"
    ]


def _people(samples: Sequence[Sample]) -> dict[str, int]:
    known = {(sample.split, sample.group) for sample in samples if sample.group is not None}
    return dict(Counter(split for split, _ in sorted(known)))


def _by_split(
    samples: Sequence[Sample],
    classes: Mapping[str, Mapping[str, str | None]],
    task: str,
    schema: LabelSchema,
) -> dict[str, dict[str, int]]:
    """Return split -> class -> number of photos, both in their order."""
    counts: dict[str, Counter[str]] = {}
    for sample in samples:
        word = classes[sample.key][task] or UNKNOWN
        counts.setdefault(sample.split, Counter())[word] += 1
    words = (*schema.class_names(task), UNKNOWN)
    return {
        split: {word: counts[split][word] for word in words if counts[split][word]}
        for split in SPLITS
        if split in counts
    }


def _combination(found: Mapping[str, str | None], schema: LabelSchema) -> str | None:
    words = [found[task] for task in schema.task_names]
    return None if not words or None in words else " ".join(str(word) for word in words)


def _joint(
    samples: Sequence[Sample], classes: Mapping[str, Mapping[str, str | None]], schema: LabelSchema
) -> dict[str, int]:
    words = [_combination(classes[sample.key], schema) for sample in samples]
    return dict(Counter(word for word in words if word is not None))


def _facts(train: Sequence[Sample], schema: LabelSchema) -> dict[str, dict[str, str]]:
    """Return the facts that are no task: name -> key -> value."""
    names = {name for sample in train for name in sample.labels} - set(schema.task_names)
    facts = {}
    for name in sorted(names):
        known = {s.key: str(s.labels[name]) for s in train if name in s.labels}
        if 1 < len(set(known.values())) <= MOST_VALUES:
            facts[name] = known
    return facts


def _associations(
    train: Sequence[Sample],
    classes: Mapping[str, Mapping[str, str | None]],
    facts: Mapping[str, Mapping[str, str]],
    schema: LabelSchema,
) -> dict[str, float]:
    """Return Cramer's V of each pair of tasks and facts."""
    columns: dict[str, dict[str, str]] = {
        task: {s.key: word for s in train if (word := classes[s.key][task]) is not None}
        for task in schema.task_names
    }
    everything = {**columns, **{name: dict(known) for name, known in facts.items()}}
    names = list(everything)
    found = {}
    for place, one in enumerate(names):
        for two in names[place + 1 :]:
            keys = everything[one].keys() & everything[two].keys()
            value = cramers_v([(everything[one][key], everything[two][key]) for key in keys])
            if value is not None:
                found[f"{one} and {two}"] = value
    return found


def cramers_v(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Return Cramer's V of two columns of words, 0 to 1; None where one of them is constant."""
    from scipy.stats.contingency import association, crosstab

    firsts, seconds = ([pair[place] for pair in pairs] for place in (0, 1))
    if len(set(firsts)) < 2 or len(set(seconds)) < 2:
        return None
    table = crosstab(firsts, seconds).count
    return float(association(table, method="cramer"))


def _by_room(
    train: Sequence[Sample],
    classes: Mapping[str, Mapping[str, str | None]],
    rooms: Mapping[str, str],
    schema: LabelSchema,
) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for sample in train:
        word = _combination(classes[sample.key], schema)
        if sample.key in rooms and word is not None:
            counts.setdefault(rooms[sample.key], Counter())[word] += 1
    numbers = {room: (int(room) if room.isdigit() else -1, room) for room in counts}
    return {room: dict(counts[room]) for room in sorted(counts, key=numbers.__getitem__)}


def _statuses(rows: pl.DataFrame | None) -> dict[str, dict[str, int]]:
    if rows is None:
        return {}
    counts: dict[str, dict[str, int]] = {}
    grouped = rows.group_by("split", "status").len().sort("split", "status")
    for split, status, count in grouped.iter_rows():
        counts.setdefault(split, {})[status] = count
    return counts


def _faces(rows: pl.DataFrame | None) -> pl.DataFrame:
    schema = {
        "key": pl.String, "split": pl.String, "height": pl.Float64, "share": pl.Float64,
        "x": pl.Float64, "y": pl.Float64, "score": pl.Float64,
    }  # fmt: skip
    found = []
    for row in [] if rows is None else rows.iter_rows(named=True):
        box = row["box"]
        if not box or len(box) != 4 or not row["width"] or not row["height"]:
            continue
        tall, wide = float(row["height"]), float(row["width"])
        middle = ((box[0] + box[2]) / 2 / wide, (box[1] + box[3]) / 2 / tall)
        height = face_height(row)
        found.append((row["key"], row["split"], height, height / tall, *middle, row["prob"]))
    return pl.DataFrame(found, schema=schema, orient="row")

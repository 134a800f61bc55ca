"""A data set before any training: who is in it, how it was photographed, what goes with what.

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
from cropfirst.stage2_classify.datasets.tables import read_table
from cropfirst.stage2_classify.eda.image_stats import Look, ReadPhoto, Twin, find_twins, look_at
from cropfirst.stage2_classify.labels.photo_facts import MOST_VALUES, face_height
from cropfirst.stage2_classify.labels.schema import LabelSchema

Counts = Mapping[str, int]
FORMAT, KIND = 1, "eda"
SPLITS: tuple[Split, ...] = ("train", "eval")
UNKNOWN = "unknown"
ROOMS = "rooms.csv"
"""In the data set's folder: which room each photo was taken in."""


@dataclass(frozen=True)
class Eda:
    """What a data set is made of."""

    photos: Counts
    """Split -> photos."""
    people: Counts
    """Split -> known persons."""
    classes: Mapping[str, Mapping[str, Counts]]
    """Task -> split -> class -> photos; "unknown" where there is no label."""
    joint: Counts
    """Combination of all tasks' classes -> photos with all labels."""
    facts: Mapping[str, Counts]
    """Other facts of few values -> value -> photos."""
    ages: tuple[float, ...]
    """Of photos whose age is a number."""
    together: Mapping[str, float]
    """"TASK and FACT" -> how far they go together, Cramer's V in [0, 1], of training photos."""
    rooms: Mapping[str, Counts]
    """Room -> combination of classes -> training photos; empty where rooms are not known."""
    statuses: Mapping[str, Counts]
    """Split -> crop status -> photos; empty without crops."""
    faces: pl.DataFrame
    """key, split, height (px), share (of the photo's height), x, y (middle, in [0, 1]), score."""
    looks: tuple[Look, ...]
    twins: tuple[Twin, ...]
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: distributions as quantiles."""
        data = {name: value for name, value in vars(self).items()
                if name not in ("faces", "looks", "twins", "ages")}  # fmt: skip
        return {
            "format": FORMAT,
            "kind": KIND,
            **data,
            "ages": quantiles(self.ages),
            "faces": {
                name: quantiles(self.faces[name].drop_nulls().to_list())
                for name in ("height", "share", "x", "y", "score")
            },
            "brightness": quantiles([look.brightness for look in self.looks]),
            "contrast": quantiles([look.contrast for look in self.looks]),
            "twins": [asdict(twin) for twin in self.twins],
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
        crops: for faces and statuses.
        rooms: key -> room.
        read: for brightness and duplicates; None: they are left out.
        on_photo: called after each photo that was read.
    """
    samples = photos.samples
    classes = {key: _classes(sample, schema) for key, sample in photos.by_key().items()}
    train = photos.by_split("train")
    facts = _facts(train, schema)
    if rooms:
        facts["room"] = {s.key: rooms[s.key] for s in train if s.key in rooms}
    looks = tuple(look_at(samples, read, on_photo=on_photo)) if read else ()
    rows = None if crops is None else crops.manifest.read()
    notes = [] if crops is not None else ["no crops: nothing is said of faces; run cli.py detect"]
    if read is None:
        notes.append("photos were not opened: nothing is said of brightness and duplicates")
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
        together=_together(train, classes, facts, schema),
        rooms=_by_room(train, classes, rooms or {}, schema),
        statuses=_statuses(rows),
        faces=_faces(rows),
        looks=looks,
        twins=find_twins(looks, samples),
        notes=tuple(notes),
    )


def read_rooms(path: Path) -> dict[str, str]:
    """Key -> room, of a CSV with the columns `file` (or key, or path) and `room`.

    Raises:
        DataError: no such file, or columns missing.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}: wanted a CSV with the columns file and room")
    rows = read_table(path, required=("room",)).rows
    name = next((name for name in ("file", "key", "path") if rows and name in rows[0]), None)
    if rows and name is None:
        raise DataError(f"{path} has no column file (nor key, nor path) beside room")
    return {str(row[name]): str(row["room"]) for row in rows if name and row[name] and row["room"]}


def quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """Least, quarters, largest and mean; None where there are no values."""
    if not len(values):
        return None
    names = ("least", "quarter", "median", "three quarters", "largest")
    found = np.quantile(np.asarray(values, np.float64), (0, 0.25, 0.5, 0.75, 1))
    return {**dict(zip(names, found.tolist(), strict=True)), "mean": float(np.mean(values))}


def _classes(sample: Sample, schema: LabelSchema) -> dict[str, str | None]:
    codes = schema.encode(sample.labels, where=sample.key)
    return {
        task: None if code is None else schema.class_names(task)[code]
        for task, code in codes.items()
    }


def _people(samples: Sequence[Sample]) -> dict[str, int]:
    known = {(sample.split, sample.group) for sample in samples if sample.group is not None}
    return dict(Counter(split for split, _ in sorted(known)))


def _by_split(
    samples: Sequence[Sample],
    classes: Mapping[str, Mapping[str, str | None]],
    task: str,
    schema: LabelSchema,
) -> dict[str, dict[str, int]]:
    """Split -> class -> photos, both in their order."""
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
    return None if None in words else " ".join(str(word) for word in words)


def _joint(
    samples: Sequence[Sample], classes: Mapping[str, Mapping[str, str | None]], schema: LabelSchema
) -> dict[str, int]:
    words = [_combination(classes[sample.key], schema) for sample in samples]
    return dict(Counter(word for word in words if word is not None))


def _facts(train: Sequence[Sample], schema: LabelSchema) -> dict[str, dict[str, str]]:
    """Facts that no task is made of: name -> key -> value."""
    names = {name for sample in train for name in sample.labels} - set(schema.task_names)
    facts = {}
    for name in sorted(names):
        known = {s.key: str(s.labels[name]) for s in train if name in s.labels}
        if 1 < len(set(known.values())) <= MOST_VALUES:
            facts[name] = known
    return facts


def _together(
    train: Sequence[Sample],
    classes: Mapping[str, Mapping[str, str | None]],
    facts: Mapping[str, Mapping[str, str]],
    schema: LabelSchema,
) -> dict[str, float]:
    """Cramer's V of each task with every other task and fact."""
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
    """How far two columns of words go together, in [0, 1]; None where one of them is constant."""
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

"""Which photos a run trains on: one row a photo, its person, class numbers and fold.

Knows samples, label schemas and crop rows; opens no crop and no photo.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cropfirst.cache import CropSet
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import HeadConfig, LabelRules
from cropfirst.stage2_classify.data.folds import make_folds
from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Sample
from cropfirst.stage2_classify.labels.rules import TrainingLabels, class_number, holds
from cropfirst.stage2_classify.labels.schema import LabelSchema, load_schema
from cropfirst.stage2_classify.model.head_spec import TargetSpace, build_space


@dataclass(frozen=True)
class TrainingSet:
    """The photos of a run, in folds."""

    tasks: tuple[str, ...]
    class_names: Mapping[str, tuple[str, ...]]
    table: pl.DataFrame
    """key, group, fold, status and a `<task>_target` Int32 for each task, sorted by key. Only where
    it says something new: `<task>_true` and `<task>_learned` Int32, the training targets with and
    without label rules; `trains` and `applies` Boolean, whether a photo is trained on, and whether
    it is of the part that the run is about."""
    excluded: Mapping[str, int]
    """Why photos of the train split are left out -> how many."""
    spaces: Mapping[str, TargetSpace] = field(default_factory=dict)
    """Task -> its training targets."""
    codes: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """Other tasks, that samplers and augmentation look at -> (N,) class numbers, -1 = unknown."""
    rules: Mapping[str, int] = field(default_factory=dict)
    """Label rule in words -> photos that it has changed, in training alone."""

    def __len__(self) -> int:
        return self.table.height

    @property
    def targets(self) -> NDArray[np.int64]:
        """(N, tasks) int64 classes of the schema: the true ones."""
        columns = [self.table[target_column(task)].to_numpy() for task in self.tasks]
        return np.stack(columns, axis=1).astype(np.int64)

    @property
    def true_targets(self) -> dict[str, NDArray[np.int64]]:
        """Task -> (N,) int64 true targets, as in `spaces`, for validation.

        -1 outside of the part that the run is about.
        """
        applies = self.table["applies"].to_numpy() if "applies" in self.table.columns else True
        return {task: np.where(applies, self._either("true", task), -1) for task in self.tasks}

    @property
    def learned_targets(self) -> dict[str, NDArray[np.int64]]:
        """Task -> (N,) int64 targets as in `spaces`, after the label rules: for training."""
        return {task: self._either("learned", task) for task in self.tasks}

    def codes_of(self, task: str) -> NDArray[np.int64]:
        """(N,) classes, as training is told, of a task that is trained or was asked for besides.

        -1 where it is unknown.
        """
        if task in self.codes:
            return self.codes[task]
        classes = np.asarray(self.spaces[task].class_of, np.int64)
        return classes[self.learned_targets[task]]

    def rows(self, fold: int, *, held_out: bool) -> NDArray[np.int64]:
        """Row numbers of a fold's validation part, or of what it is trained on.

        The fold after the last one holds nobody out: it is the training on all data.
        """
        inside = self.table["fold"].to_numpy() == fold
        if held_out:
            return np.flatnonzero(inside)
        trains = self.table["trains"].to_numpy() if "trains" in self.table.columns else True
        return np.flatnonzero(~inside & trains)

    def class_counts(self, rows: NDArray[np.int64]) -> dict[str, list[int]]:
        """Task -> photos of each class of the schema among `rows`, as training is told."""
        return {
            task: np.bincount(
                self.codes_of(task)[rows], minlength=len(self.class_names[task])
            ).tolist()
            for task in self.tasks
        }

    def class_prior(self, fold: int) -> dict[str, list[float]]:
        """True shares of the classes in what `fold` is trained on, for each task."""
        part = self.targets[self.rows(fold, held_out=False)]
        counts = [
            np.bincount(column, minlength=len(self.class_names[task]))
            for task, column in zip(self.tasks, part.T, strict=True)
        ]
        return {task: (n / len(part)).tolist() for task, n in zip(self.tasks, counts, strict=True)}

    def _either(self, kind: str, task: str) -> NDArray[np.int64]:
        column = f"{task}_{kind}"
        name = column if column in self.table.columns else target_column(task)
        return self.table[name].to_numpy().astype(np.int64)


def target_column(task: str) -> str:
    """Name of a task's column of class numbers."""
    return f"{task}_target"


def probs_column(task: str) -> str:
    """Name of a task's column of probabilities."""
    return f"{task}_probs"


def build_training_set(
    photos: PhotoSet,
    schema: LabelSchema,
    crops: CropSet,
    *,
    tasks: tuple[str, ...],
    n_folds: int,
    seed: int,
    heads: HeadConfig | None = None,
    rules: LabelRules | None = None,
    where: Mapping[str, str] | None = None,
    known_folds: KnownFolds | None = None,
    also: Sequence[str] = (),
) -> TrainingSet:
    """Collect the train split's photos that have a crop and every task's label, and fold them.

    Args:
        heads: how tasks are learned, where not by their classes.
        rules: what training alone is told of labels.
        where: task -> class; photos of other classes are validated, not trained on.
        also: further tasks whose classes are wanted, where they are known.
        known_folds: (keys, persons) -> the folds that they must be in, None for new people.

    Raises:
        TrainError: an unknown task, one class only, nothing to train on, too few persons.
        LabelError: a fact that fits no class.
    """
    where = dict(where or {})
    others = tuple(dict.fromkeys(task for task in also if task not in tasks))
    for task in (*tasks, *others):
        _check_task(task, schema, photos)
    for task, name in where.items():
        _check_task(task, schema, photos)
        if schema.is_combined(task):
            raise TrainError(f"where: name a task of the code {task}, not the code itself")
        class_number(schema.task(task), name)
    found, excluded = _collect(photos, schema, crops, tasks=(*tasks, *where))
    if not found:
        why = "; ".join(f"{count} {reason}" for reason, count in excluded.items())
        raise TrainError(
            f"no photo of {photos.root} to train {', '.join(tasks)} on with crops {crops.name}: "
            f"{why or 'its train split is empty'}"
        )
    settings = heads or HeadConfig()
    labels = TrainingLabels(rules or LabelRules(), schema)
    learned = [labels.learned(sample.labels) for sample, _ in found]
    facts = [(sample.key, each) for (sample, _), each in zip(found, learned, strict=True) if each]
    facts += [(sample.key, sample.labels) for sample, _ in found]
    spaces = {
        task: build_space(task, schema, settings.tasks.get(task), facts=facts) for task in tasks
    }
    table = _fold(_make_table(found, schema, tasks), n_folds=n_folds, seed=seed, known=known_folds)
    extra = _extra_columns(found, learned, schema, spaces, where)
    table = table.with_columns(extra) if extra else table
    names = {task: schema.class_names(task) for task in tasks}
    codes = {task: _codes(task, schema, zip(found, learned, strict=True)) for task in others}
    training = TrainingSet(tasks, names, table, dict(excluded), spaces, codes, dict(labels.counts))
    _check_parts(training, n_folds=n_folds)
    return training


KnownFolds = Callable[[Sequence[str], Sequence[str | None]], Sequence[int | None]]
Found = tuple[Sample, str]
"""A photo to train on or validate, and the status of its crop."""


def _collect(
    photos: PhotoSet, schema: LabelSchema, crops: CropSet, *, tasks: tuple[str, ...]
) -> tuple[list[Found], Counter[str]]:
    """The photos that have all labels and a crop, by key, and why the others are left out."""
    status = dict(crops.manifest.read().select("key", "status").iter_rows())
    found: list[Found] = []
    excluded: Counter[str] = Counter()
    for sample in photos.by_split("train"):
        missing = [
            task for task in tasks if schema.target(task, sample.labels, where=sample.key) is None
        ]
        if missing:
            excluded[f"no label for {', '.join(missing)}"] += 1
        elif sample.key not in status:
            excluded["not in the crop set (run detect)"] += 1
        elif status[sample.key] == "unreadable":
            excluded["unreadable"] += 1
        else:
            found.append((sample, status[sample.key]))
    return sorted(found, key=lambda each: each[0].key), excluded


def _make_table(found: list[Found], schema: LabelSchema, tasks: tuple[str, ...]) -> pl.DataFrame:
    columns = {target_column(task): pl.Int32() for task in tasks}
    text = {"key": pl.String(), "group": pl.String(), "status": pl.String()}
    rows = [
        (sample.key, sample.group, status, *(schema.target(t, sample.labels) for t in tasks))
        for sample, status in found
    ]
    table = pl.DataFrame(rows, schema={**text, **columns}, orient="row")
    for task in tasks:
        codes = table[target_column(task)]
        if codes.n_unique() < 2:
            raise TrainError(
                f"task {task!r} has one class only: all {len(codes)} photos with a label have "
                f"class number {codes[0]}; check the labels, or choose another --task"
            )
    return table


def _fold(
    table: pl.DataFrame, *, n_folds: int, seed: int, known: KnownFolds | None
) -> pl.DataFrame:
    targets = [name for name in table.columns if name.endswith(target_column(""))]
    keys, groups = table["key"].to_list(), table["group"].to_list()
    folds = make_folds(
        keys,
        groups=groups,
        targets=table.select(targets).to_numpy(),
        n_folds=n_folds,
        seed=seed,
        known=None if known is None else known(keys, groups),
    )
    return table.select("key", "group", pl.Series("fold", folds), "status", *targets)


def _extra_columns(
    found: list[Found],
    learned: list[Mapping[str, Fact] | None],
    schema: LabelSchema,
    spaces: Mapping[str, TargetSpace],
    where: Mapping[str, str],
) -> list[pl.Series]:
    """What the table does not say yet: training targets, and who is trained on."""
    columns = []
    samples = [sample for sample, _ in found]
    for task, space in spaces.items():
        true = [space.encode(schema, each.labels, where=each.key) for each in samples]
        told = [
            space.encode(schema, facts or each.labels, where=each.key)
            for each, facts in zip(samples, learned, strict=True)
        ]
        if space.values or space.bins:
            columns.append(pl.Series(f"{task}_true", true, dtype=pl.Int32))
        if columns or told != true:
            columns.append(pl.Series(f"{task}_learned", told, dtype=pl.Int32))
    applies = [holds(schema, where, sample.labels, key=sample.key) for sample in samples]
    trains = [yes and facts is not None for yes, facts in zip(applies, learned, strict=True)]
    if where:
        columns.append(pl.Series("applies", applies, dtype=pl.Boolean))
    if not all(trains):
        columns.append(pl.Series("trains", trains, dtype=pl.Boolean))
    return columns


def _codes(
    task: str, schema: LabelSchema, photos: Iterable[tuple[Found, Mapping[str, Fact] | None]]
) -> NDArray[np.int64]:
    """(N,) classes of a task that need not be known, as training is told; -1 where it is not."""
    codes = [
        schema.target(task, learned or sample.labels, where=sample.key)
        for (sample, _), learned in photos
    ]
    return np.array([-1 if code is None else code for code in codes], np.int64)


def _check_parts(training: TrainingSet, *, n_folds: int) -> None:
    """Refuse label rules and conditions that leave too little."""
    for fold in range(n_folds):
        counts = training.class_counts(training.rows(fold, held_out=False))
        for task, by_class in counts.items():
            names = training.class_names[task]
            left = [name for name, count in zip(names, by_class, strict=True) if count]
            if len(left) < 2:
                raise TrainError(
                    f"fold {fold} of {task} would be trained on {left[0] if left else 'nothing'} "
                    "alone: the label rules (labels.*) or the condition (where) leave no other "
                    "class; change them"
                )
        part = training.table[training.rows(fold, held_out=True)]
        if "applies" in part.columns and not part["applies"].any():
            raise TrainError(
                f"fold {fold} has no photo of the part that is trained (where): nothing could "
                "tell how good it is; lower --folds, or add people"
            )


def absent_classes(training: TrainingSet, fold: int) -> dict[str, list[str]]:
    """Task -> classes that validation asks for and training of this fold never sees."""
    counts = training.class_counts(training.rows(fold, held_out=False))
    held_out = training.targets[training.rows(fold, held_out=True)]
    absent = {}
    for column, task in enumerate(training.tasks):
        asked = set(held_out[:, column].tolist())
        names = [
            name
            for code, name in enumerate(training.class_names[task])
            if code in asked and not counts[task][code]
        ]
        if names:
            absent[task] = names
    return absent


def _check_task(task: str, schema: LabelSchema, photos: PhotoSet) -> None:
    known = schema.names
    if task in known:
        return
    if schema.combined is None and load_schema().is_combined(task):
        combined = load_schema().combined
        wanted = combined.tasks if combined else ()
        missing = [part for part in wanted if part not in known]
        raise TrainError(
            f"the code {task} combines {', '.join(wanted)}, and {photos.root} has no label for "
            f"{', '.join(missing) or 'all of them together'}: train {','.join(known)}, or label "
            "the photos"
        )
    near = difflib.get_close_matches(task, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise TrainError(
        f"no task {task!r} in the label schema {schema.name!r}: {hint}it has {', '.join(known)}"
    )

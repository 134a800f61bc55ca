"""Builds the training set: which photos a run uses, their targets and folds.

Knows samples, label schemas and crop rows; opens no crop and no photo.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cropfirst.cache import CropSet
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import HeadConfig, LabelRules
from cropfirst.stage2_classify.data.folds import make_folds
from cropfirst.stage2_classify.data.training_set import TrainingSet, target_column
from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Sample
from cropfirst.stage2_classify.labels.rules import TrainingLabels, class_number, meets_condition
from cropfirst.stage2_classify.labels.schema import LabelSchema, load_schema
from cropfirst.stage2_classify.model.targets import TargetSpace, build_target_space

KnownFolds = Callable[[Sequence[str], Sequence[str | None]], Sequence[int | None]]
Found = tuple[Sample, str]
"""A photo and the status of its crop."""


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
    extra_tasks: Sequence[str] = (),
) -> TrainingSet:
    """Collect the photos of the train split that have a crop and all labels, and divide them.

    Args:
        heads: how tasks are learned; None = by their classes.
        rules: changes of labels for training only.
        where: task -> class; photos of other classes are predicted, but not trained on or scored.
        known_folds: (keys, persons) -> the folds that they must be in, None for new people.
        extra_tasks: more tasks whose classes are needed, where they are known.

    Raises:
        TrainError: an unknown task, one class only, nothing to train on, too few persons.
        LabelError: a fact that fits no class.
    """
    where = dict(where or {})
    extra_tasks = tuple(dict.fromkeys(task for task in extra_tasks if task not in tasks))
    for task in (*tasks, *extra_tasks, *where):
        _check_task(task, schema, photos)
    for task, name in where.items():
        if schema.is_combined(task):
            raise TrainError(f"where: name a task of the code {task}, not the code itself")
        class_number(schema.task(task), name)
    found, excluded = _collect(photos, schema, crops, tasks=(*tasks, *where))
    settings = heads or HeadConfig()
    labels = TrainingLabels(rules or LabelRules(), schema)
    learned = [labels.apply(sample.labels) for sample, _ in found]
    facts = [(sample.key, each) for (sample, _), each in zip(found, learned, strict=True) if each]
    facts += [(sample.key, sample.labels) for sample, _ in found]
    spaces = {
        task: build_target_space(task, schema, settings.tasks.get(task), facts=facts)
        for task in tasks
    }
    table = _add_folds(
        _make_table(found, schema, tasks), n_folds=n_folds, seed=seed, known=known_folds
    )
    extra = _extra_columns(found, learned, schema, spaces, where)
    table = table.with_columns(extra) if extra else table
    names = {task: schema.class_names(task) for task in tasks}
    codes = {
        task: _known_codes(task, schema, zip(found, learned, strict=True)) for task in extra_tasks
    }
    training = TrainingSet(tasks, names, table, dict(excluded), spaces, codes, dict(labels.counts))
    _check_parts(training, n_folds=n_folds)
    return training


def _collect(
    photos: PhotoSet, schema: LabelSchema, crops: CropSet, *, tasks: tuple[str, ...]
) -> tuple[list[Found], Counter[str]]:
    """Return the photos that have all labels and a crop, by key, and why others are left out."""
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
    if not found:
        why = "; ".join(f"{count} {reason}" for reason, count in excluded.items())
        raise TrainError(
            f"no photo of {photos.root} to train {', '.join(tasks)} on with crops {crops.name}: "
            f"{why or 'its train split is empty'}"
        )
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


def _add_folds(
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
    """Return the columns of training targets and conditions that differ from the default."""
    columns = []
    samples = [sample for sample, _ in found]
    for task, space in spaces.items():
        true = [space.encode(schema, each.labels, where=each.key) for each in samples]
        taught = [
            space.encode(schema, facts or each.labels, where=each.key)
            for each, facts in zip(samples, learned, strict=True)
        ]
        if space.values or space.bins:
            columns.append(pl.Series(f"{task}_true", true, dtype=pl.Int32))
        if columns or taught != true:
            columns.append(pl.Series(f"{task}_learned", taught, dtype=pl.Int32))
    applies = [meets_condition(schema, where, sample.labels, key=sample.key) for sample in samples]
    trains = [yes and facts is not None for yes, facts in zip(applies, learned, strict=True)]
    if where:
        columns.append(pl.Series("applies", applies, dtype=pl.Boolean))
    if not all(trains):
        columns.append(pl.Series("trains", trains, dtype=pl.Boolean))
    return columns


def _known_codes(
    task: str, schema: LabelSchema, photos: Iterable[tuple[Found, Mapping[str, Fact] | None]]
) -> NDArray[np.int64]:
    """Return the (N,) classes of a task after the label rules; -1 where they are unknown."""
    codes = [
        schema.target(task, learned or sample.labels, where=sample.key)
        for (sample, _), learned in photos
    ]
    return np.array([-1 if code is None else code for code in codes], np.int64)


def _check_parts(training: TrainingSet, *, n_folds: int) -> None:
    """Check that label rules and conditions leave something to train on and to score."""
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

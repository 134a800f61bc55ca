"""Inferring a label schema from the facts of a data set, if the user gave none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import yaml

from cropfirst.stage2_classify.labels.schema import LabelSchema, load_schema
from cropfirst.stage2_classify.labels.task import LabelError, Task, normalize

if TYPE_CHECKING:
    from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet

MAX_INFERRED_CLASSES = 50
"""Largest number of different words that become the classes of a task without being asked for, and
of different numbers that do when asked for."""
_VALUES_SHOWN = 4
_COLUMNS_SHOWN = 8
_BINARY = ({"0", "1"}, {"-1", "1"})

Columns = Mapping[str, Counter["Fact"]]
"""Name of a label column -> value -> number of photos."""


def infer_schema(
    photos: PhotoSet, asked: Sequence[str] = (), *, required: bool = True
) -> LabelSchema:
    """Infer a schema from a data set's facts.

    It has the contest's tasks that have facts. If the user named the labels, each other column with
    2 to 50 different words becomes a task with its classes in alphabetical order; so does a column
    whose values do not fit the contest's task of that name. Columns of numbers, and of more words,
    become tasks only where they are asked for. If one of 0/1 or -1/1 is, all of these do, so that
    the runs of a data set with many such columns share one schema.

    Args:
        asked: names of tasks that the schema should have.
        required: whether a task that is asked for and cannot be made is an error.

    Raises:
        LabelError: no task can be made of the data set's facts, or not one that is asked for.
    """
    contest = load_schema("contest")
    columns = _count_facts(photos)
    tasks = [task for task in contest.tasks if _any_fits(task, columns)]
    rest = _unused(columns, tasks)
    wanted = {name for name in rest if _task_name(name) in asked}
    if any(_is_binary(rest[name]) for name in wanted):
        wanted |= {name for name, counts in rest.items() if _is_binary(counts)}
    if photos.own_columns:
        wanted |= {name for name, counts in rest.items() if _is_words(counts)}
    tasks += _tasks_of({name: rest[name] for name in wanted})
    if not tasks:
        raise LabelError(_explain_no_tasks(photos, columns))
    whole = tuple(task.name for task in tasks[: len(contest.tasks)]) == contest.task_names
    name = contest.name if tuple(tasks) == contest.tasks else f"inferred-{photos.layout}"
    schema = LabelSchema(name, tuple(tasks), contest.combined if whole else None)
    if required:
        _check_asked(schema, asked, _unused(columns, tasks))
    return schema


def schema_of_all_columns(photos: PhotoSet) -> LabelSchema:
    """Infer a schema that has every column that can be a task, for the user to edit.

    Raises:
        LabelError: no task can be made of the data set's facts.
    """
    columns = _count_facts(photos)
    tasks = [task for task in load_schema("contest").tasks if _any_fits(task, columns)]
    return infer_schema(photos, [task.name for task in _tasks_of(_unused(columns, tasks))])


def schema_text(schema: LabelSchema) -> str:
    """Return the YAML of a schema, as `load_schema` reads it."""
    return yaml.safe_dump(
        schema.to_dict(), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
    )


def _count_facts(photos: PhotoSet) -> dict[str, Counter[Fact]]:
    columns: dict[str, Counter[Fact]] = {}
    for sample in photos.samples:
        for name, value in sample.labels.items():
            columns.setdefault(name, Counter())[value] += 1
    return columns


def _unused(columns: Columns, tasks: Sequence[Task]) -> dict[str, Counter[Fact]]:
    taken = {fact for task in tasks for fact in task.facts}
    return {name: columns[name] for name in sorted(columns) if name not in taken}


def _tasks_of(columns: Columns) -> list[Task]:
    """Return the tasks that can be made of columns, one for each name."""
    tasks: dict[str, Task] = {}
    for column in sorted(columns):
        classes = _classes(columns[column])
        name = _task_name(column)
        if classes and name not in tasks:
            tasks[name] = Task(name, classes, (column,))
    return list(tasks.values())


def _classes(counts: Counter[Fact]) -> tuple[str, ...] | None:
    """Return the classes of a column's values, numbers before words; None where it can have none.

    It can have none if it has a single value, more than 50 different numbers, or a value of its own
    for each photo.
    """
    values: dict[str, Fact] = {}
    for value in sorted(counts, key=str):
        values.setdefault(normalize(value), value)
    numbers = sorted((v for v in values.values() if not isinstance(v, str)), key=float)
    words = sorted(value for value in values.values() if isinstance(value, str))
    many = len(numbers) > MAX_INFERRED_CLASSES or (
        len(values) > MAX_INFERRED_CLASSES and len(values) == counts.total()
    )
    if len(values) < 2 or many:
        return None
    return (*map(normalize, numbers), *words)


def _task_name(column: str) -> str:
    return re.sub(r"[,\s/]+", "_", column)


def _is_words(counts: Counter[Fact]) -> bool:
    """Return whether a column becomes a task without being asked for."""
    words = {normalize(value) for value in counts}
    return all(isinstance(value, str) for value in counts) and len(words) <= MAX_INFERRED_CLASSES


def _is_binary(counts: Counter[Fact]) -> bool:
    return {normalize(value) for value in counts} in _BINARY


def _check_asked(schema: LabelSchema, asked: Sequence[str], unused: Columns) -> None:
    """Name the columns that are no tasks where a task that is asked for is missing."""
    for name in asked if unused else ():
        # Training explains which parts of a combined code are missing.
        if name in schema.names or load_schema("contest").is_combined(name):
            continue
        try:
            schema.task(name)
        except LabelError as error:
            asked_first = sorted(unused, key=lambda column: _task_name(column) != name)
            lines = _describe_columns({column: unused[column] for column in asked_first})
            raise LabelError("\n".join([str(error), *lines])) from None


def _explain_no_tasks(photos: PhotoSet, columns: Columns) -> str:
    names = ", ".join(list(columns)[:_COLUMNS_SHOWN]) or "none"
    lines = [
        f"{photos.root} has no labels that make a task (label columns: {names}): wanted facts such "
        f"as mask, gender or age, a column of words, or a schema that names yours (--schema FILE)",
        *_describe_columns(columns),
    ]
    example = _tasks_of(columns)[:1]
    if example:
        text = schema_text(LabelSchema("my-labels", tuple(example)))
        lines += ["", "A schema to start from (eda DATA --write-schema FILE writes one):", text]
    return "\n".join(lines)


def _describe_columns(columns: Columns) -> list[str]:
    """Return a line for each column that is no task: its values, and how it can become one."""
    lines = [_describe_column(name, counts) for name, counts in list(columns.items())]
    more = len(lines) - _COLUMNS_SHOWN
    return lines[:_COLUMNS_SHOWN] + ([f"  and {more} more columns"] if more > 0 else [])


def _describe_column(name: str, counts: Counter[Fact]) -> str:
    ordered = sorted(
        counts.items(),
        key=lambda item: (-item[1], isinstance(item[0], str) or float(item[0]), str(item[0])),
    )
    values = ", ".join(f"{value} ({count})" for value, count in ordered[:_VALUES_SHOWN])
    kind = "words" if all(isinstance(value, str) for value in counts) else "numbers"
    more = ", ..." if len(ordered) > _VALUES_SHOWN else ""
    head = f"  column {name} has {len(ordered)} different {kind}: {values}{more}"
    if len(ordered) == 1:
        return f"  column {name} has one value only: {values}"
    if _classes(counts) is not None:
        return f"{head}; they are classes only where asked for: --task {_task_name(name)}"
    if kind == "numbers":
        return f"{head}; they become classes by a schema with bins (--schema FILE)"
    return f"{head}; each photo has its own, so they are no classes"


def _any_fits(task: Task, columns: Columns) -> bool:
    for fact in task.facts:
        for value in columns.get(fact, ()):
            try:
                task.encode({fact: value})
            except LabelError:
                continue
            return True
    return False

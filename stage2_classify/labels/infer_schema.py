"""Inferring a label schema from the facts of a data set, if the user gave none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cropfirst.stage2_classify.labels.schema import LabelSchema, load_schema
from cropfirst.stage2_classify.labels.task import LabelError, Task, normalize

if TYPE_CHECKING:
    from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet

MAX_INFERRED_CLASSES = 50
"""Largest number of different words that become the classes of a task."""


def infer_schema(photos: PhotoSet) -> LabelSchema:
    """Infer a schema from a data set's facts.

    It has the contest's tasks that have facts. If the user named the labels, each other column with
    2 to 50 different words becomes a task with its classes in alphabetical order; so does a column
    whose values do not fit the contest's task of that name.

    Raises:
        LabelError: no task can be made of the data set's facts.
    """
    contest = load_schema("contest")
    values = _distinct_facts(photos)
    tasks = [task for task in contest.tasks if _any_fits(task, values)]
    taken = {fact for task in tasks for fact in task.facts}
    if photos.own_columns:
        tasks += _tasks_of_words({name: values[name] for name in values.keys() - taken})
    if not tasks:
        columns = ", ".join(sorted(values)) or "none"
        raise LabelError(
            f"{photos.root} has no labels that make a task (label columns: {columns}): wanted "
            f"facts such as mask, gender or age, or a schema that names yours (--schema FILE.yaml)"
        )
    whole = tuple(task.name for task in tasks[: len(contest.tasks)]) == contest.task_names
    name = contest.name if tuple(tasks) == contest.tasks else f"inferred-{photos.layout}"
    return LabelSchema(name, tuple(tasks), contest.combined if whole else None)


def _distinct_facts(photos: PhotoSet) -> dict[str, set[Fact]]:
    values: dict[str, set[Fact]] = {}
    for sample in photos.samples:
        for name, value in sample.labels.items():
            values.setdefault(name, set()).add(value)
    return values


def _tasks_of_words(values: Mapping[str, set[Fact]]) -> list[Task]:
    tasks: dict[str, Task] = {}
    for column in sorted(values):
        words = {normalize(word): word for word in values[column] if isinstance(word, str)}
        if len(words) < len({normalize(word) for word in values[column]}):
            continue  # numbers are no classes
        name = re.sub(r"[,\s/]+", "_", column)
        if 2 <= len(words) <= MAX_INFERRED_CLASSES and name not in tasks:
            tasks[name] = Task(name, tuple(sorted(words.values())), (column,))
    return list(tasks.values())


def _any_fits(task: Task, values: Mapping[str, set[Fact]]) -> bool:
    for fact in task.facts:
        for value in values.get(fact, ()):
            try:
                task.encode({fact: value})
            except LabelError:
                continue
            return True
    return False

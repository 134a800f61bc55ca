"""Changes of labels for training only: moved boundaries, and labels too doubtful to learn from.

Knows facts and the label schema. Validation and evaluation always use the true labels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.labels.task import LabelError, Task, interval_of, normalize

if TYPE_CHECKING:
    from cropfirst.stage2_classify.config import LabelRules
    from cropfirst.stage2_classify.datasets.sample import Fact

    Labels = Mapping[str, Fact]


class TrainingLabels:
    """The label rules of one run, and how many photos each rule has changed.

    Attributes:
        counts: rule in words -> number of photos.
    """

    def __init__(self, rules: LabelRules, schema: LabelSchema) -> None:
        """Check the rules against the schema.

        Raises:
            TrainError: an edge, class, number or range that the schema does not have.
        """
        self.counts: Counter[str] = Counter()
        self._moves: list[tuple[Task, float, float, str]] = []
        for name, moves in rules.shift.items():
            task = _task(name, schema, "shift")
            for edge, to in moves.items():
                _check_edge(task, edge, to)
                words = f"labels.shift.{name}: boundary {edge:g} moved to {to:g}"
                self._moves.append((task, edge, to, words))
                self.counts[words] = 0
        self._drops: list[tuple[Task, str | float, str]] = []
        for name, entries in rules.drop.items():
            task = _task(name, schema, "drop")
            for entry in entries:
                _check_entry(task, entry)
                words = f"labels.drop.{name}: {entry} left out of training"
                self._drops.append((task, entry, words))
                self.counts[words] = 0

    def apply(self, labels: Labels) -> Labels | None:
        """Return the labels of a photo for training; None if it is not to be trained on."""
        for task, entry, words in self._drops:
            if _meets(task, entry, labels):
                self.counts[words] += 1
                return None
        changed = dict(labels)
        for task, edge, to, words in self._moves:
            name, interval = task.fact(labels), task.interval(labels)
            if name is None or interval is None:
                continue
            low, high = min(edge, to), max(edge, to)
            if low <= interval[0] <= interval[1] < high:
                # Moved down: what is above the new boundary counts as above the old one.
                changed[name] = edge if to < edge else math.nextafter(edge, 0.0)
                self.counts[words] += 1
        return changed


def meets_condition(
    schema: LabelSchema, where: Mapping[str, str], labels: Labels, *, key: str
) -> bool:
    """Tell whether a photo meets a run's condition (`where`); not if a fact is missing."""
    return all(
        schema.task(task).encode(labels, where=key) == class_number(schema.task(task), name)
        for task, name in where.items()
    )


def class_number(task: Task, name: str) -> int:
    """Return the number of a class by its name or an alias.

    Raises:
        TrainError: no such class.
    """
    names = {normalize(alias): to for alias, to in task.aliases.items()} | {
        normalize(each): each for each in task.classes
    }
    if normalize(name) not in names:
        have = ", ".join(task.classes)
        raise TrainError(f"task {task.name} has no class {name!r}: it has {have}")
    return task.classes.index(names[normalize(name)])


def _task(name: str, schema: LabelSchema, rule: str) -> Task:
    try:
        return schema.task(name)
    except LabelError as error:
        raise TrainError(f"labels.{rule}.{name}: {error}") from error


def _check_edge(task: Task, edge: float, to: float) -> None:
    where = f"labels.shift.{task.name}: {{{edge:g}: {to:g}}}"
    bins = task.bins or ()
    if edge not in bins:
        have = ", ".join(f"{each:g}" for each in bins) or "none: its classes are words"
        raise TrainError(f"{where} expects a boundary of the schema, it has {have}")
    others = [0.0, *(each for each in bins if each != edge), math.inf]
    below, above = max(x for x in others if x < edge), min(x for x in others if x > edge)
    if not below < to < above or to == edge:
        raise TrainError(
            f"{where} expects a number between the neighbouring boundaries {below:g} and {above:g}"
        )


def _check_entry(task: Task, entry: str | float) -> None:
    known = {normalize(name) for name in (*task.classes, *task.aliases)}
    number = interval_of(entry) if task.bins is not None else None
    if normalize(entry) not in known and number is None:
        kinds = "a class, a number or a range" if task.bins else "a class"
        raise TrainError(
            f"labels.drop.{task.name}: {entry!r} is not {kinds} of it: {', '.join(task.classes)}"
        )


def _meets(task: Task, entry: str | float, labels: Labels) -> bool:
    known = {normalize(name) for name in (*task.classes, *task.aliases)}
    if normalize(entry) in known:
        return task.encode(labels) == class_number(task, str(entry))
    wanted, interval = interval_of(entry), task.interval(labels)
    if wanted is None or interval is None:
        return False
    return wanted[0] <= interval[0] and interval[1] <= wanted[1]

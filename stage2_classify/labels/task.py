"""One task of a label schema: how a raw fact becomes a class number.

Facts are words ("female"), numbers (24) or ranges ("50-59", "more than 70"), the last two for tasks
with bins. Knows nothing of other tasks, files or models.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from cropfirst.core.errors import DataError
from cropfirst.core.text import normal_form

if TYPE_CHECKING:
    from cropfirst.stage2_classify.datasets.sample import Fact

_NUMBER = r"(\d+(?:\.\d+)?)"
_RANGE = re.compile(rf"[(\[]?\s*{_NUMBER}\s*(?:-|\u2013|\u2014|,|\bto\b)\s*{_NUMBER}\s*[)\]]?")
_AT_LEAST = re.compile(rf"(?:>=|≥|at least)\s*{_NUMBER}|{_NUMBER}\s*(?:\+|and over|or more)")
_ABOVE = re.compile(rf"(?:>|more than|over|above|older than)\s*{_NUMBER}")
_BELOW = re.compile(rf"(?:<|less than|under|below|younger than)\s*{_NUMBER}")
_AT_MOST = re.compile(rf"(?:<=|≤|at most|up to)\s*{_NUMBER}")


class LabelError(DataError):
    """A label schema is malformed, or a photo's fact fits none of a task's classes."""


@dataclass(frozen=True)
class Task:
    """One attribute of a photo to predict, with its classes in the order of their numbers."""

    name: str
    classes: tuple[str, ...]
    facts: tuple[str, ...]
    """Names of the facts that give the class; the first that a photo has is used."""
    bins: tuple[float, ...] | None = None
    """Inner edges: class i is [bins[i - 1], bins[i]), the first from 0, the last without limit."""
    aliases: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Other spelling -> class."""
    ordered: bool = False
    """Whether classes without bins are in ascending order, such as small, medium, large."""

    def __post_init__(self) -> None:
        _check_task(self)

    @cached_property
    def _codes(self) -> dict[str, int]:
        codes = {normalize(alias): self.classes.index(to) for alias, to in self.aliases.items()}
        return codes | {normalize(name): code for code, name in enumerate(self.classes)}

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def is_ordered(self) -> bool:
        """Whether the classes have an order that ordinal heads can learn."""
        return self.ordered or self.bins is not None

    def fact(self, labels: Mapping[str, Fact]) -> str | None:
        """Return the name of the fact that is used of a photo; None if it has none."""
        return next((fact for fact in self.facts if labels.get(fact) is not None), None)

    def interval(self, labels: Mapping[str, Fact]) -> tuple[float, float] | None:
        """Return the lowest and highest number that a photo's fact means; None for a word."""
        name = self.fact(labels)
        return None if name is None else interval_of(labels[name])

    def encode(self, labels: Mapping[str, Fact], *, where: str | None = None) -> int | None:
        """Return the class number of a photo; None if it has none of the task's facts.

        Args:
            where: the photo's key, for the message.

        Raises:
            LabelError: the fact fits no class.
        """
        name = self.fact(labels)
        if name is None:
            return None
        value = labels[name]
        code = self._codes.get(normalize(value))
        if code is None and self.bins is not None:
            code = self._bin(value)
        if code is None:
            place = f"{where}: " if where else ""
            raise LabelError(f"{place}{name}={value!r} {self._explain(value)}")
        return code

    def _bin(self, value: Fact) -> int | None:
        interval = interval_of(value)
        if interval is None or self.bins is None:
            return None
        low, high = interval
        edges = (0.0, *self.bins, math.inf)
        for code in range(len(self.classes)):
            top = edges[code + 1]
            if edges[code] <= low and (high < top or high == top == math.inf):
                return code
        return None

    def _explain(self, value: Fact) -> str:
        classes = ", ".join(self.classes)
        if self.bins is None:
            near = difflib.get_close_matches(
                normalize(value), [normalize(c) for c in self.classes], n=1
            )
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            text = f"is none of the classes of task {self.name}: {classes}{hint}"
        elif interval_of(value) is not None:
            text = f"spans more than one class of task {self.name}: {classes}"
        else:
            text = f"is neither a number from 0 up nor a range of task {self.name}: {classes}"
        return (
            f"{text}. Correct it (--corrections), clear it to leave the photo out of this task, "
            f"or give the schema an alias for it or other bins (--schema). eda lists all "
            f"labels that fit no class"
        )


def normalize(value: object) -> str:
    """Return the form in which spellings are compared: 1.0 as "1", no case, no outer blanks."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return normal_form(str(value)).casefold()


def interval_of(value: Fact) -> tuple[float, float] | None:
    """Return the lowest and highest value that a fact means; None for anything but numbers >= 0."""
    if isinstance(value, str):
        text = normalize(value)
        if re.fullmatch(_NUMBER, text):
            return float(text), float(text)
        if found := _RANGE.fullmatch(text):
            low, high = float(found[1]), float(found[2])
            return (low, high) if low <= high else None
        if found := _AT_LEAST.fullmatch(text):
            return float(found[1] or found[2]), math.inf
        if found := _ABOVE.fullmatch(text):  # "more than 59" is 60 and up: whole years
            return math.floor(float(found[1])) + 1.0, math.inf
        if found := _BELOW.fullmatch(text):
            return 0.0, math.nextafter(float(found[1]), 0.0)
        if found := _AT_MOST.fullmatch(text):
            return 0.0, float(found[1])
        return None
    number = float(value)
    return (number, number) if math.isfinite(number) and number >= 0 else None


def _check_task(task: Task) -> None:
    where = f"task {task.name!r}"
    if not task.name or re.search(r"[,\s/]", task.name):
        raise LabelError(f"{where}: a task's name may hold no comma, slash or blank")
    if len(task.classes) < 2:
        raise LabelError(f"{where} needs at least two classes, it has {list(task.classes)}")
    if len({normalize(name) for name in task.classes}) != len(task.classes):
        raise LabelError(f"{where}: two of its classes have one name: {list(task.classes)}")
    if not task.facts:
        raise LabelError(f"{where} needs the name of at least one fact")
    for alias, to in task.aliases.items():
        if to not in task.classes:
            raise LabelError(f"{where}: alias {alias!r} names {to!r}, which is not a class of it")
    if task.bins is not None:
        edges = [0.0, *task.bins]
        if any(low >= high for low, high in itertools.pairwise(edges)):
            raise LabelError(f"{where}: bins must be above 0 and rise, got {list(task.bins)}")
        if len(task.bins) != len(task.classes) - 1:
            raise LabelError(
                f"{where}: {len(task.classes)} classes need {len(task.classes) - 1} bin edges, "
                f"got {list(task.bins)}"
            )

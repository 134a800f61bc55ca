"""Label schemas: from raw facts of a photo to class numbers, and back.

A schema has tasks (mask, gender, age) and may combine some of them into one code. It knows nothing
of files, crops or models; a checkpoint carries its schema as the JSON of `to_dict`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropfirst import configs
from cropfirst.stage2_classify.labels.task import LabelError, Task

if TYPE_CHECKING:
    from cropfirst.stage2_classify.datasets.sample import Fact

__all__ = [
    "Combined",
    "LabelError",
    "LabelSchema",
    "Task",
    "load_schema",
]

_LABELS = Path(configs.__file__).parent / "labels"


@dataclass(frozen=True)
class Combined:
    """A code that combines several tasks in mixed radix; the first task is the most significant."""

    name: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class LabelSchema:
    """The tasks of a data set and, if it has one, their combined code."""

    name: str
    tasks: tuple[Task, ...]
    combined: Combined | None = None

    def __post_init__(self) -> None:
        _check_schema(self)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of everything that can be trained: the tasks, then the combined code."""
        return (*self.task_names, *([self.combined.name] if self.combined else []))

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks, without the combined code."""
        return tuple(task.name for task in self.tasks)

    def task(self, name: str) -> Task:
        """Return a task by its name.

        Raises:
            LabelError: there is no such task; the message lists all.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        near = difflib.get_close_matches(name, self.names, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise LabelError(
            f"no task {name!r} in the label schema {self.name!r}{hint}: "
            f"it has {', '.join(self.names)}"
        )

    def is_combined(self, name: str) -> bool:
        """Tell whether a name is that of the combined code."""
        return self.combined is not None and self.combined.name == name

    def tasks_of(self, names: Iterable[str]) -> frozenset[str]:
        """Return the tasks that heads of some names predict; the code predicts all of its parts."""
        parts = {self.combined.name: self.combined.tasks} if self.combined else {}
        return frozenset(task for name in names for task in parts.get(name, (name,)))

    def encode(
        self, labels: Mapping[str, Fact], *, where: str | None = None
    ) -> dict[str, int | None]:
        """Return task -> class number, None if the photo has no fact for it, without the code."""
        return {task.name: task.encode(labels, where=where) for task in self.tasks}

    def target(
        self, name: str, labels: Mapping[str, Fact], *, where: str | None = None
    ) -> int | None:
        """Return the class number of a task or of the code; None if a fact is missing."""
        if not self.is_combined(name):
            return self.task(name).encode(labels, where=where)
        codes = {part.name: part.encode(labels, where=where) for part in self._parts()}
        known = {part: code for part, code in codes.items() if code is not None}
        return self.combine(known) if len(known) == len(codes) else None

    def combine(self, codes: Mapping[str, int]) -> int:
        """Return the combined code, e.g. mask*6 + gender*3 + age, ignoring other tasks.

        Raises:
            LabelError: there is no combined code, a part is missing, or a number is out of range.
        """
        total = 0
        for task in self._parts():
            if task.name not in codes:
                raise LabelError(
                    f"the combined code expects task {task.name!r}, got {sorted(codes)}"
                )
            code = codes[task.name]
            if not 0 <= code < task.num_classes:
                raise LabelError(f"{task.name}={code} is not within 0..{task.num_classes - 1}")
            total = total * task.num_classes + int(code)
        return total

    def split_code(self, code: int) -> dict[str, int]:
        """Return the class numbers of a combined code: the inverse of `combine`."""
        parts = self._parts()
        size = math.prod(task.num_classes for task in parts)
        if not 0 <= code < size:
            raise LabelError(f"the code {code} is not within 0..{size - 1}")
        rest, codes = int(code), {}
        for task in reversed(parts):
            rest, codes[task.name] = divmod(rest, task.num_classes)
        return {task.name: codes[task.name] for task in parts}

    def num_classes(self, name: str) -> int:
        """Return the number of classes of a task or of the combined code."""
        return len(self.class_names(name))

    def class_names(self, name: str) -> tuple[str, ...]:
        """Return the class names by number; those of the code are like "wear male <30"."""
        if not self.is_combined(name):
            return self.task(name).classes
        names: tuple[str, ...] = ("",)
        for task in self._parts():
            names = tuple(f"{head} {tail}".strip() for head in names for tail in task.classes)
        return names

    def to_dict(self) -> dict[str, Any]:
        """Return the schema JSON-able, in the form of the YAML files."""
        tasks: dict[str, Any] = {}
        for task in self.tasks:
            tasks[task.name] = {"classes": list(task.classes), "facts": list(task.facts)}
            if task.bins is not None:
                tasks[task.name]["bins"] = list(task.bins)
            if task.aliases:
                tasks[task.name]["aliases"] = dict(task.aliases)
            if task.ordered:
                tasks[task.name]["ordered"] = True
        data: dict[str, Any] = {"name": self.name, "tasks": tasks}
        if self.combined is not None:
            data["combined"] = {"name": self.combined.name, "tasks": list(self.combined.tasks)}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str = "label schema") -> LabelSchema:
        """Build a schema from what `to_dict` returned.

        Raises:
            LabelError: an unknown key, a value of the wrong kind, or an impossible schema.
        """
        fields = _fields(data, where, required=("tasks",), optional=("name", "combined"))
        raw_tasks = fields["tasks"]
        if not isinstance(raw_tasks, Mapping) or not raw_tasks:
            raise LabelError(f"{where}: tasks must map task names to classes, got {raw_tasks!r}")
        tasks = tuple(_task_from(str(name), raw, where) for name, raw in raw_tasks.items())
        combined = None
        if fields.get("combined") is not None:
            raw = _fields(fields["combined"], f"{where}: combined", required=("name", "tasks"))
            names = _strings(raw["tasks"], f"{where}: combined.tasks")
            combined = Combined(str(raw["name"]), names)
        return cls(str(fields.get("name") or "labels"), tasks, combined)

    def _parts(self) -> tuple[Task, ...]:
        if self.combined is None:
            raise LabelError(f"the label schema {self.name!r} has no combined code")
        return tuple(self.task(name) for name in self.combined.tasks)


def load_schema(source: str | Path = "contest") -> LabelSchema:
    """Read a schema from a YAML file, or one that ships with cropfirst by its name.

    Raises:
        LabelError: no such file or name, not YAML, or not a valid schema.
    """
    path = Path(source)
    if not path.is_file():
        path = _LABELS / f"{source}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in _LABELS.glob("*.yaml")))
        raise LabelError(f"no label schema {str(source)!r}: wanted a YAML file or one of {shipped}")
    try:
        data = configs.load_yaml(path)
    except configs.ConfigError as error:
        raise LabelError(str(error)) from error
    return LabelSchema.from_dict(data, where=str(path))


def _check_schema(schema: LabelSchema) -> None:
    names = schema.names
    if len(set(names)) != len(names):
        raise LabelError(f"label schema {schema.name!r}: a name is used twice: {list(names)}")
    if schema.combined is not None:
        parts = schema.combined.tasks
        for name in parts:
            if name not in schema.task_names:
                raise LabelError(f"{schema.combined.name!r} combines {name!r}, which is not a task")
        if len(parts) < 2 or len(set(parts)) != len(parts):
            raise LabelError(f"{schema.combined.name!r} must combine two or more different tasks")


def _task_from(name: str, raw: object, where: str) -> Task:
    place = f"{where}: task {name!r}"
    optional = ("facts", "bins", "aliases", "ordered")
    fields = _fields(raw, place, required=("classes",), optional=optional)
    bins = fields.get("bins")
    if bins is not None:
        numbers = isinstance(bins, list) and all(type(edge) in (int, float) for edge in bins)
        if not numbers:
            raise LabelError(f"{place}: bins must be a list of numbers, got {bins!r}")
        bins = tuple(bins)
    aliases = fields.get("aliases") or {}
    if not isinstance(aliases, Mapping):
        raise LabelError(f"{place}: aliases must map spellings to classes, got {aliases!r}")
    if not isinstance(fields.get("ordered", False), bool):
        raise LabelError(f"{place}: ordered must be true or false, got {fields['ordered']!r}")
    return Task(
        name,
        _strings(fields["classes"], f"{place}: classes"),
        _strings(fields.get("facts") or [name], f"{place}: facts"),
        bins,
        {str(alias): str(to) for alias, to in aliases.items()},
        fields.get("ordered", False),
    )


def _fields(
    raw: object, where: str, *, required: Iterable[str], optional: Iterable[str] = ()
) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise LabelError(f"{where} must be a mapping, got {raw!r}")
    valid = [*required, *optional]
    for key in raw:
        if key not in valid:
            near = difflib.get_close_matches(str(key), valid, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(valid)})"
            raise LabelError(f"{where}: unknown setting {key!r}{hint}")
    for key in required:
        if key not in raw:
            raise LabelError(f"{where}: {key!r} is missing")
    return dict(raw)


def _strings(raw: object, where: str) -> tuple[str, ...]:
    if not isinstance(raw, (list, tuple)) or not raw:
        raise LabelError(f"{where} must be a list of names, got {raw!r}")
    for item in raw:
        if isinstance(item, bool) or not isinstance(item, (str, int)):
            raise LabelError(f"{where}: {item!r} is not a name; write it in quotes")
    return tuple(str(item) for item in raw)

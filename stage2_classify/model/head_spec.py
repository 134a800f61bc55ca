"""How a task is learned: what its head puts out, and which training target each fact becomes.

Between the schema's classes and the network stand finer bins, ranks or numbers, where those were
asked for. Knows facts and numbers; knows nothing of networks. No torch.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.labels.task import LabelError, Task

if TYPE_CHECKING:
    from cropfirst.stage2_classify.config import TaskHead
    from cropfirst.stage2_classify.datasets.sample import Fact

    Labels = Mapping[str, Fact]


@dataclass(frozen=True)
class HeadSpec:
    """What a head puts out; enough to build it, and to turn its outputs into probabilities."""

    class_of: tuple[int, ...]
    """Output class (bin, rank) -> class of the schema, rising. Of regression: one a class."""
    kind: str = "classes"
    """classes, coral, corn or regression."""
    edges: tuple[float, ...] = ()
    """Of regression: the schema's inner edges."""
    centre: float = 0.0
    """Mean of the numbers learned; outputs count from here."""
    scale: float = 1.0
    """Their standard deviation, the unit of outputs."""
    spread: float = 1.0
    """Of regression: standard deviation around a prediction, in the numbers' unit."""
    mse: float = 0.0
    """Weight of the squared error on one more output, the last; 0 = there is none."""

    @classmethod
    def plain(cls, n_classes: int) -> HeadSpec:
        """One logit a class."""
        return cls(tuple(range(n_classes)))

    @property
    def n_classes(self) -> int:
        """Classes of the schema."""
        return max(self.class_of) + 1

    @property
    def width(self) -> int:
        """Numbers that the head puts out for one crop."""
        if self.kind == "regression":
            return 1
        return len(self.class_of) - (self.kind != "classes") + (self.mse > 0)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HeadSpec:
        """The inverse of `to_dict`."""
        tuples = {key: tuple(data[key]) for key in ("class_of", "edges")}
        return cls(**{**data, **tuples})


@dataclass(frozen=True)
class TargetSpace:
    """The training targets of one task: numbers from 0, each an output class or a number."""

    task: str
    head: HeadSpec
    output_of: tuple[int, ...]
    """Target -> output class."""
    values: tuple[float, ...] = ()
    """Target -> number, rising, where numbers are learned."""
    bins: tuple[float, ...] = ()
    """Inner edges of finer bins, where those are learned."""

    @property
    def n_targets(self) -> int:
        """How many different targets there are."""
        return len(self.output_of)

    @property
    def class_of(self) -> tuple[int, ...]:
        """Target -> class of the schema."""
        return tuple(self.head.class_of[output] for output in self.output_of)

    def encode(self, schema: LabelSchema, labels: Labels, *, where: str) -> int:
        """The target of a photo that has the label.

        Raises:
            LabelError: its fact is too vague for the bins or numbers that are learned.
        """
        if self.values:
            return self.values.index(number_of(schema.task(self.task), labels, where=where))
        if self.bins:
            return _bin_of(schema.task(self.task), labels, self.bins, where=where)
        code = schema.target(self.task, labels, where=where)
        assert code is not None, "only photos with the label get here"
        return code


def build_space(
    task: str, schema: LabelSchema, head: TaskHead | None, *, facts: Iterable[tuple[str, Labels]]
) -> TargetSpace:
    """How a task is learned, as its head's settings say.

    Args:
        head: None is one logit a class.
        facts: key and labels of all photos that are trained on or validated.

    Raises:
        TrainError: a kind that the task does not allow.
        LabelError: a fact that is too vague for the bins or numbers to be learned.
    """
    if head is None:
        spec = HeadSpec.plain(schema.num_classes(task))
        return TargetSpace(task, spec, spec.class_of)
    classes = _ordered_task(task, schema, head) if _needs_order(head) else None
    if classes is None:
        spec = HeadSpec.plain(schema.num_classes(task))
        return TargetSpace(task, spec, spec.class_of)
    class_of = tuple(range(classes.num_classes))
    bins = _check_bins(classes, head.bins) if head.bins is not None else ()
    if bins:
        inner = classes.bins or ()
        class_of = tuple(bisect.bisect_right(inner, low) for low in (0.0, *bins))
    if head.kind != "regression" and not head.mse:
        return TargetSpace(
            task, HeadSpec(class_of, head.kind), tuple(range(len(class_of))), (), bins
        )
    known = list(facts)
    for key, labels in known if bins else ():
        _bin_of(classes, labels, bins, where=key)
    values = tuple(sorted({number_of(classes, labels, where=key) for key, labels in known}))
    inner = bins or classes.bins or ()
    spec = HeadSpec(
        class_of,
        head.kind,
        edges=tuple(classes.bins or ()),
        centre=float(np.mean(values)) if values else 0.0,
        scale=float(np.std(values)) or 1.0 if values else 1.0,
        spread=head.spread,
        mse=head.mse,
    )
    return TargetSpace(
        task, spec, tuple(bisect.bisect_right(inner, value) for value in values), values, bins
    )


def number_of(task: Task, labels: Labels, *, where: str) -> float:
    """The number that a fact says; the middle of a range, the lower end of an open one.

    Raises:
        LabelError: it is a word.
    """
    interval = task.interval(labels)
    if interval is None:
        raise LabelError(
            f"{where}: task {task.name} is learned as a number, and its label is a word: use "
            f"kind classes, coral or corn (head.tasks.{task.name}), or label it with numbers"
        )
    low, high = interval
    return low if high == float("inf") else (low + high) / 2


def _needs_order(head: TaskHead) -> bool:
    return head.kind != "classes" or head.bins is not None or head.mse > 0


def _ordered_task(task: str, schema: LabelSchema, head: TaskHead) -> Task:
    """The task, if it has the order or the numbers that its head wants."""
    numbers = head.kind == "regression" or head.bins is not None or head.mse > 0
    what = f"head.tasks.{task} (kind {head.kind}{', bins' if head.bins else ''})"
    if schema.is_combined(task):
        raise TrainError(
            f"{what}: the code {task} has no order of its own; train its tasks instead, e.g. "
            f"--task {','.join(schema.combined.tasks) if schema.combined else ''}"
        )
    found = schema.task(task)
    if numbers and found.bins is None:
        raise TrainError(
            f"{what} wants a task of numbers, and the classes of {task} "
            f"({', '.join(found.classes)}) have no bins in the schema: use kind classes"
        )
    if not found.is_ordered:
        raise TrainError(
            f"{what} wants classes in an order, and {task} has none "
            f"({', '.join(found.classes)}): use kind classes, or, if they do rise, say so in the "
            "schema with `ordered: true` (--schema FILE)"
        )
    return found


def _check_bins(task: Task, bins: list[float]) -> tuple[float, ...]:
    edges, inner = tuple(map(float, bins)), task.bins or ()
    rising = all(low < high for low, high in zip((0.0, *edges), edges, strict=False))
    missing = [f"{edge:g}" for edge in inner if edge not in edges]
    if not rising or missing:
        why = f"lacks {', '.join(missing)}" if missing else "does not rise from above 0"
        raise TrainError(
            f"head.tasks.{task.name}.bins {[f'{edge:g}' for edge in edges]} {why}: wanted rising "
            f"edges with those of the schema, {', '.join(f'{edge:g}' for edge in inner)}, among "
            "them, so that every bin lies in one class"
        )
    return edges


def _bin_of(task: Task, labels: Labels, bins: tuple[float, ...], *, where: str) -> int:
    interval = task.interval(labels)
    if interval is not None:
        low, high = interval
        first = bisect.bisect_right(bins, low)
        if first == bisect.bisect_right(bins, high):
            return first
    name = next(fact for fact in task.facts if labels.get(fact) is not None)
    raise LabelError(
        f"{where}: {name}={labels[name]!r} lies in more than one of the bins of "
        f"head.tasks.{task.name}: leave the bins out, or use coarser ones"
    )

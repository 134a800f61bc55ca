"""Training targets of a task: which target each fact becomes, and what each target means.

A target is a class of the schema, a finer bin, a rank or a number, as the head's settings say.
Knows facts and numbers; knows nothing of networks. No torch.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.labels.task import LabelError, Task
from cropfirst.stage2_classify.model.head_spec import HeadSpec

if TYPE_CHECKING:
    from cropfirst.stage2_classify.config import TaskHead
    from cropfirst.stage2_classify.datasets.sample import Fact

    Labels = Mapping[str, Fact]


@dataclass(frozen=True)
class TargetSpace:
    """The training targets of one task, numbered from 0; each is an output class or a number."""

    task: str
    head: HeadSpec
    output_of: tuple[int, ...]
    """Target -> output class."""
    values: tuple[float, ...] = ()
    """Target -> number, ascending, if numbers are learned; else empty."""
    bins: tuple[float, ...] = ()
    """Inner edges of finer bins, if those are learned; else empty."""

    @property
    def n_targets(self) -> int:
        """Number of different targets."""
        return len(self.output_of)

    @property
    def class_of(self) -> tuple[int, ...]:
        """Target -> class of the schema."""
        return tuple(self.head.class_of[output] for output in self.output_of)

    def encode(self, schema: LabelSchema, labels: Labels, *, where: str) -> int:
        """Return the target of a photo that has the label.

        Raises:
            LabelError: the fact is too vague for the learned bins or numbers.
        """
        if self.values:
            return self.values.index(number_of(schema.task(self.task), labels, where=where))
        if self.bins:
            return _bin_of(schema.task(self.task), labels, self.bins, where=where)
        code = schema.target(self.task, labels, where=where)
        assert code is not None, "photos without the label are left out before"
        return code


def build_target_space(
    task: str, schema: LabelSchema, head: TaskHead | None, *, facts: Iterable[tuple[str, Labels]]
) -> TargetSpace:
    """Build the targets of a task from its head's settings.

    Args:
        head: None is one logit per class.
        facts: key and labels of all photos that are trained on or validated.

    Raises:
        TrainError: the task does not allow this kind of head.
        LabelError: a fact is too vague for the learned bins or numbers.
    """
    if head is None or not _needs_order(head):
        spec = HeadSpec.plain(schema.num_classes(task))
        return TargetSpace(task, spec, spec.class_of)
    classes = _ordered_task(task, schema, head)
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
    """Return the number of a fact; the middle of a range, the lower end of an open range.

    Raises:
        LabelError: the fact is a word.
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
    """Return the task after checking that it has the order or numbers that its head needs."""
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
            f"{what} expects a task of numbers, and the classes of {task} "
            f"({', '.join(found.classes)}) have no bins in the schema: use kind classes"
        )
    if not found.is_ordered:
        raise TrainError(
            f"{what} expects classes in an order, and {task} has none "
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

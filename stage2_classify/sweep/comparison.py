"""Compares the lines of a sweep with one of them, and makes the table of the comparison.

Knows scores; writes and prints nothing. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from cropfirst.core.bootstrap import Interval
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.metrics.intervals import Paired, paired_difference
from cropfirst.stage2_classify.runs.choice import SCORE_NAMES, Kind
from cropfirst.stage2_classify.sweep.scores import LineScores

SORTS = {"score": "macro_f1", "seconds": "seconds", "params": "n_params", "name": "line"}
"""Value of --sort -> column of the table."""


@dataclass(frozen=True)
class Comparison:
    """The scores of all lines, and their differences from the baseline."""

    lines: tuple[LineScores, ...]
    tasks: tuple[str, ...]
    """Tasks that macro F1 is the mean over."""
    baseline: str
    differences: Mapping[str, Interval]
    """Line -> difference of macro F1 from the baseline, which has none itself."""
    notes: tuple[str, ...] = ()
    kind: Kind = "oof"
    """Predictions that the lines are compared by."""

    @property
    def score_name(self) -> str:
        """Name of macro F1 on these predictions."""
        return SCORE_NAMES[self.kind]

    @property
    def all_tasks(self) -> list[str]:
        """Tasks that any line predicts."""
        return list(dict.fromkeys(task for line in self.lines for task in line.tasks))

    @property
    def extra_tasks(self) -> list[str]:
        """Tasks with columns of their own, since macro F1 is not theirs alone."""
        tasks = self.all_tasks
        return tasks if tasks != list(self.tasks) or len(tasks) > 1 else []

    @property
    def failures(self) -> list[str]:
        """One line per job that failed."""
        return [f"{line.name}, {reason}" for line in self.lines for reason in line.failures]


def compare(
    lines: Sequence[LineScores],
    tasks: Sequence[str],
    *,
    baseline: str = "first",
    notes: Sequence[str] = (),
    kind: Kind = "oof",
) -> Comparison:
    """Compare every line that has scores with the baseline.

    Args:
        baseline: "first" or "best" of the lines with scores, or the name of a line.
        kind: predictions that the lines were read with.

    Raises:
        TrainError: no such line, or it has no scores.
    """
    scored = [line for line in lines if all(task in line.tasks for task in tasks) and line.tasks]
    if not scored:
        return Comparison(tuple(lines), tuple(tasks), "", {}, tuple(notes), kind)
    base = _select_baseline(scored, tasks, baseline)
    found = {}
    for line in scored:
        if line is not base and (pairs := _pair(base, line, tasks)):
            found[line.name] = paired_difference(pairs)
    return Comparison(tuple(lines), tuple(tasks), base.name, found, tuple(notes), kind)


def comparison_table(comparison: Comparison, *, sort: str = "score") -> pl.DataFrame:
    """Return one row per line, sorted; values that a line does not have are null."""
    rows = [_row(comparison, line) for line in comparison.lines]
    # A line without scores lacks columns that others have.
    table = pl.DataFrame(rows, infer_schema_length=None)
    column = SORTS[sort]
    return table.sort(column, descending=sort == "score", nulls_last=True, maintain_order=True)


def _select_baseline(
    scored: Sequence[LineScores], tasks: Sequence[str], baseline: str
) -> LineScores:
    if baseline == "first":
        return scored[0]
    if baseline == "best":
        return max(scored, key=lambda line: line.pooled(tasks))
    for line in scored:
        if line.name == baseline:
            return line
    names = ", ".join(repr(line.name) for line in scored)
    raise TrainError(
        f"--baseline takes first, best or a line with scores ({names}), got {baseline!r}"
    )


def _pair(base: LineScores, line: LineScores, tasks: Sequence[str]) -> list[Paired]:
    """Return the photos that both lines have, with the same numbers of persons in all tasks."""
    people = {name: n for n, name in enumerate(sorted(set(base.people.values())))}
    pairs = []
    for task in tasks:
        one, two = base.tasks[task], line.tasks[task]
        place = {key: row for row, key in enumerate(two.keys)}
        rows = [(row, place[key]) for row, key in enumerate(one.keys) if key in place]
        if not rows:
            return []
        first, second = np.array(rows).T
        who = np.array([people[base.people[one.keys[row]]] for row in first])
        preds = (one.preds[first], two.preds[second])
        pairs.append(Paired(who, one.targets[first], preds, one.n_classes))
    return pairs


def _row(comparison: Comparison, line: LineScores) -> dict[str, Any]:
    tasks = comparison.tasks
    has = bool(line.tasks) and all(task in line.tasks for task in tasks)
    mean, sd = line.over_folds(tasks) if has else (None, None)
    diff = comparison.differences.get(line.name)
    row: dict[str, Any] = {
        "line": line.name,
        "is_baseline": line.name == comparison.baseline,
        "macro_f1": line.pooled(tasks) if has else None,
        "oof_macro_f1": line.pooled_oof(tasks) if has else None,
        "majority_f1": line.majority_f1(tasks) if has else None,
        "macro_f1_mean": mean,
        "macro_f1_sd": sd,
        "diff": None if diff is None else diff.value,
        "diff_low": None if diff is None else diff.low,
        "diff_high": None if diff is None else diff.high,
    }
    for task in comparison.all_tasks:
        rows = line.tasks.get(task)
        row[f"{task}_mean"], row[f"{task}_sd"] = (
            (None, None) if rows is None else line.over_folds([task])
        )
        row[f"{task}_f1"] = None if rows is None else rows.macro_f1
        row[f"{task}_majority_f1"] = None if rows is None else rows.majority_f1
    return row | {
        "folds_finished": line.n_finished,
        "folds": line.n_jobs,
        "epochs": line.cost.epochs or None,
        "image_size": line.cost.image_size,
        "n_params": line.cost.n_params or None,
        "seconds": line.cost.seconds or None,
    }

"""The comparison of a sweep's lines: as a table, on the console, as Parquet and as one HTML page.

Knows scores; knows nothing of how they came about. No torch.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from cropfirst.core.bootstrap import Interval
from cropfirst.core.errors import TrainError
from cropfirst.core.files import write_atomic
from cropfirst.stage2_classify.metrics.intervals import Paired, paired_difference
from cropfirst.stage2_classify.sweep.page import (
    gap,
    is_better,
    is_worse,
    number,
    plus_minus,
    sweep_page,
)
from cropfirst.stage2_classify.sweep.scores import LineScores

SORTS = {"score": "macro_f1", "seconds": "seconds", "params": "n_params", "name": "line"}
"""--sort -> column."""


@dataclass(frozen=True)
class Comparison:
    """All lines against one of them."""

    lines: tuple[LineScores, ...]
    tasks: tuple[str, ...]
    """What macro F1 is the mean over."""
    baseline: str
    differences: Mapping[str, Interval]
    """Line -> its difference from the baseline; the baseline has none."""
    notes: tuple[str, ...] = ()


def compare(
    lines: Sequence[LineScores],
    tasks: Sequence[str],
    *,
    baseline: str = "first",
    notes: Sequence[str] = (),
) -> Comparison:
    """Set every line that has scores against the baseline.

    Args:
        baseline: "first" or "best" (of those with scores), or a line's name.

    Raises:
        TrainError: no such line, or it has no scores.
    """
    scored = [line for line in lines if all(task in line.tasks for task in tasks) and line.tasks]
    if not scored:
        return Comparison(tuple(lines), tuple(tasks), "", {}, tuple(notes))
    base = _pick(scored, tasks, baseline)
    found = {}
    for line in scored:
        if line is not base and (pairs := _pair(base, line, tasks)):
            found[line.name] = paired_difference(pairs)
    return Comparison(tuple(lines), tuple(tasks), base.name, found, tuple(notes))


def comparison_table(comparison: Comparison, *, sort: str = "score") -> pl.DataFrame:
    """One row a line; what is not there is null. Best (or least, for costs and names) first."""
    rows = [_row(comparison, line) for line in comparison.lines]
    # Of all rows, since a line without scores lacks columns that others have.
    table = pl.DataFrame(rows, infer_schema_length=None)
    column = SORTS[sort]
    return table.sort(column, descending=sort == "score", nulls_last=True, maintain_order=True)


def console_tables(comparison: Comparison, table: pl.DataFrame) -> tuple[Table, Table]:
    """The scores and the costs, each within 80 columns."""
    extra = _extra(comparison)
    scores = Table(
        title=Text(f"macro F1, mean of {', '.join(comparison.tasks) or 'no task'}"),
        caption=Text(
            f"compared with {comparison.baseline}" if comparison.baseline else "no scores"
        ),
        box=SIMPLE_HEAD,
    )
    costs = Table(title=Text("by task (mean over folds), and what they take"), box=SIMPLE_HEAD)
    for shown in (scores, costs):
        shown.add_column("line", overflow="fold", min_width=16)
    for name in ("all", "folds: mean ± sd", "difference in all [95 %]"):
        scores.add_column(name, justify="right")
    for name in (*extra, "folds", "epochs", "px", "parameters", "seconds"):
        costs.add_column(name, justify="right")
    for row in table.iter_rows(named=True):
        style = "green" if is_better(row) else "red" if is_worse(row) else ""
        scores.add_row(
            Text(row["line"]),
            number(row["macro_f1"], ".3f"),
            plus_minus(row["macro_f1_mean"], row["macro_f1_sd"], digits=3),
            Text(gap(row), style=style),
        )
        costs.add_row(
            Text(row["line"]),
            *(number(row[f"{task}_mean"], ".3f") for task in extra),
            f"{row['folds_finished']}/{row['folds']}",
            number(row["epochs"]),
            number(row["image_size"]),
            number(row["n_params"], ","),
            number(row["seconds"], ".0f"),
        )
    return scores, costs


def write_report(
    comparison: Comparison,
    table: pl.DataFrame,
    folder: Path,
    *,
    title: str,
    settings: Mapping[str, Mapping[str, Any]],
) -> tuple[Path, Path]:
    """Write sweep.parquet and sweep.html, which needs no other file.

    Args:
        settings: line -> dotted setting -> value, of which those that differ are shown.
    """
    raw = io.BytesIO()
    table.write_parquet(raw)
    write_atomic(folder / "sweep.parquet", raw.getvalue())
    page = sweep_page(
        table.to_dicts(),
        title=title,
        tasks=comparison.tasks,
        extra=_extra(comparison),
        baseline=comparison.baseline,
        failures=[f"{line.name}: {why}" for line in comparison.lines for why in line.failures],
        notes=comparison.notes,
        settings=settings,
    )
    write_atomic(folder / "sweep.html", page.encode())
    return folder / "sweep.parquet", folder / "sweep.html"


def _pick(scored: Sequence[LineScores], tasks: Sequence[str], baseline: str) -> LineScores:
    if baseline == "first":
        return scored[0]
    if baseline == "best":
        return max(scored, key=lambda line: line.pooled(tasks))
    for line in scored:
        if line.name == baseline:
            return line
    names = ", ".join(repr(line.name) for line in scored)
    raise TrainError(f"--baseline wants first, best or a line with scores ({names})")


def _pair(base: LineScores, line: LineScores, tasks: Sequence[str]) -> list[Paired]:
    """The photos that both lines have; persons numbered alike in all tasks."""
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
    gap = comparison.differences.get(line.name)
    row: dict[str, Any] = {
        "line": line.name,
        "is_baseline": line.name == comparison.baseline,
        "macro_f1": line.pooled(tasks) if has else None,
        "macro_f1_mean": mean,
        "macro_f1_sd": sd,
        "diff": None if gap is None else gap.value,
        "diff_low": None if gap is None else gap.low,
        "diff_high": None if gap is None else gap.high,
    }
    for task in _all_tasks(comparison):
        rows = line.tasks.get(task)
        row[f"{task}_mean"], row[f"{task}_sd"] = (
            (None, None) if rows is None else line.over_folds([task])
        )
        row[f"{task}_f1"] = None if rows is None else rows.macro_f1
    return row | {
        "folds_finished": line.n_finished,
        "folds": line.n_jobs,
        "epochs": line.cost.epochs or None,
        "image_size": line.cost.image_size,
        "n_params": line.cost.n_params or None,
        "seconds": line.cost.seconds or None,
    }


def _all_tasks(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(task for line in comparison.lines for task in line.tasks))


def _extra(comparison: Comparison) -> list[str]:
    """Columns a task; the only task has its column already."""
    tasks = _all_tasks(comparison)
    return tasks if tasks != list(comparison.tasks) or len(tasks) > 1 else []

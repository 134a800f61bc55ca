"""Writes the table of a sweep as one HTML page, and formats its numbers.

Knows rows of the table; computes no score. No torch.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from cropfirst.core.files import write_atomic
from cropfirst.core.html import render_page
from cropfirst.stage2_classify.runs.choice import SCORE_NAMES, Kind
from cropfirst.stage2_classify.sweep.comparison import Comparison

TEMPLATE = Path(__file__).with_name("page.html")
METHOD = (
    "Swapped-rooms F1 is macro F1 of the held-out photos with their heads in the rooms of other "
    "people; out-of-fold F1 that of the photos as they are; majority that of always predicting the "
    "most frequent class. Mean and standard deviation are over "
    "the folds. The difference is "
    "that of macro F1 over all photos that both lines have, paired by photo, with a 95 % "
    "percentile interval over people (2,000 resamples). The interval leaves out the variation "
    "between trainings, such as with another seed. Of twenty lines that do not differ from the "
    "baseline, one is expected to have an interval without 0."
)
Row = Mapping[str, Any]


def write_report(
    comparison: Comparison,
    table: pl.DataFrame,
    folder: Path,
    *,
    title: str,
    settings: Mapping[str, Row],
) -> tuple[Path, Path]:
    """Write sweep.parquet and sweep.html, which needs no other file.

    Args:
        table: the comparison's table, in its first order.
        settings: line -> dotted setting -> value; the page shows those that differ.
    """
    raw = io.BytesIO()
    table.write_parquet(raw)
    write_atomic(folder / "sweep.parquet", raw.getvalue())
    page = sweep_page(
        table.to_dicts(),
        title=title,
        tasks=comparison.tasks,
        extra=comparison.extra_tasks,
        baseline=comparison.baseline,
        kind=comparison.kind,
        failures=comparison.failures,
        notes=comparison.notes,
        settings=settings,
    )
    write_atomic(folder / "sweep.html", page.encode())
    return folder / "sweep.parquet", folder / "sweep.html"


def sweep_page(
    rows: Sequence[Row],
    *,
    title: str,
    tasks: Sequence[str],
    extra: Sequence[str],
    baseline: str,
    kind: Kind = "oof",
    failures: Sequence[str],
    notes: Sequence[str],
    settings: Mapping[str, Row],
) -> str:
    """Return the HTML page of a comparison's table.

    Args:
        rows: rows of the table, in their first order.
        tasks: tasks that macro F1 is the mean over.
        extra: tasks with a column of their own.
        kind: predictions that the lines are compared by.
        settings: line -> dotted setting -> value; the page shows those that differ.
    """
    score = SCORE_NAMES[kind]
    beside = ["out-of-fold F1 (all)"] if kind == "swapped" else []
    names = [f"{score} (folds)", f"{score} (all)", *beside, "majority", "difference"]
    names += [name for task in extra for name in (task, f"{task} majority")]
    names += ["folds", "epochs", "px", "parameters", "seconds"]
    span = _span(rows)
    differing = _differing(settings)
    return render_page(
        TEMPLATE,
        title=title,
        tasks=", ".join(tasks),
        baseline=baseline,
        columns=["line", *names],
        lines=[_line(row, extra, span, kind) for row in rows],
        failures=failures,
        notes=notes,
        differing=differing,
        settings=settings if differing else {},
        method=METHOD,
    )


def is_better(row: Row) -> bool:
    """Return whether the interval is above 0."""
    return row["diff_low"] is not None and row["diff_low"] > 0


def is_worse(row: Row) -> bool:
    """Return whether the interval is below 0."""
    return row["diff_high"] is not None and row["diff_high"] < 0


def format_number(value: float | None, form: str = "") -> str:
    """Return a number as text; "" for None and NaN."""
    return "" if value is None or math.isnan(value) else format(value, form)


def format_mean_sd(mean: float | None, sd: float | None, *, digits: int = 4) -> str:
    """Return mean and standard deviation as text; "" without a mean."""
    form = f".{digits}f"
    return f"{format_number(mean, form)} ± {format_number(sd, form)}" if format_number(mean) else ""


def format_difference(row: Row) -> str:
    """Return the difference from the baseline and its interval as text."""
    if row["is_baseline"]:
        return "baseline"
    if row["diff"] is None:
        return ""
    return f"{row['diff']:+.3f} [{row['diff_low']:+.3f}, {row['diff_high']:+.3f}]"


def _span(rows: Sequence[Row]) -> float:
    """Return the largest bound of all intervals, which is half the width of each drawing."""
    found = [row[name] for row in rows for name in ("diff_low", "diff_high")]
    return max((abs(value) for value in found if value is not None), default=0.0) or 1.0


def _line(row: Row, extra: Sequence[str], span: float, kind: Kind) -> dict[str, Any]:
    cells = [
        _cell(row["macro_f1_mean"], format_mean_sd(row["macro_f1_mean"], row["macro_f1_sd"])),
        _cell(row["macro_f1"], format_number(row["macro_f1"], ".4f")),
        *(
            [_cell(row["oof_macro_f1"], format_number(row["oof_macro_f1"], ".4f"))]
            if kind == "swapped"
            else []
        ),
        _cell(row["majority_f1"], format_number(row["majority_f1"], ".4f")),
        _difference(row, span),
        *(cell for task in extra for cell in _task_cells(row, task)),
        _cell(row["folds_finished"], f"{row['folds_finished']}/{row['folds']}"),
        _cell(row["epochs"], format_number(row["epochs"])),
        _cell(row["image_size"], format_number(row["image_size"])),
        _cell(row["n_params"], format_number(row["n_params"], ",")),
        _cell(row["seconds"], format_number(row["seconds"], ".1f")),
    ]
    return {"name": row["line"], "is_baseline": row["is_baseline"], "cells": cells}


def _task_cells(row: Row, task: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the cells of one task: its score over the folds, and that of the majority."""
    mean, sd, majority = (row[f"{task}_{name}"] for name in ("mean", "sd", "majority_f1"))
    return _cell(mean, format_mean_sd(mean, sd)), _cell(majority, format_number(majority, ".4f"))


def _cell(value: float | None, text: str, **more: str) -> dict[str, Any]:
    """Return a cell: the value that it is sorted by, and its text."""
    known = value is not None and not math.isnan(value)
    return {"value": value if known else "", "text": text, "kind": "", "bounds": "", **more}


def _difference(row: Row, span: float) -> dict[str, Any]:
    """Return the cell of the difference, with its interval drawn on one scale for all lines."""
    if row["is_baseline"] or row["diff"] is None:
        return _cell(0.0 if row["is_baseline"] else None, format_difference(row))
    low, middle, high = (
        f"{60 + 56 * row[key] / span:.1f}" for key in ("diff_low", "diff", "diff_high")
    )
    return _cell(
        row["diff"],
        f"{row['diff']:+.4f}",
        kind="good" if is_better(row) else "bad" if is_worse(row) else "",
        bounds=f"{row['diff_low']:+.4f} to {row['diff_high']:+.4f}",
        low=low,
        middle=middle,
        high=high,
    )


def _differing(settings: Mapping[str, Row]) -> list[str]:
    """Return the settings that are not the same in all lines."""
    keys = dict.fromkeys(key for found in settings.values() for key in found)
    return [key for key in keys if len({repr(each.get(key, "")) for each in settings.values()}) > 1]

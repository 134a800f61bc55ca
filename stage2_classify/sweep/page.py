"""The table of a sweep as one HTML page that needs no other file; and how its numbers are written.

Knows rows of the table; knows nothing of how they came about. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cropfirst.core.html import render_page

TEMPLATE = Path(__file__).with_name("page.html")
METHOD = (
    "Macro F1 is out of fold: its mean and standard deviation over the folds. The difference is "
    "that of macro F1 over all photos that both lines have, paired by photo, with a 95 % "
    "percentile interval over people (2,000 resamples). It holds the trained models fixed, so it "
    "says nothing of another seed; and of twenty lines that change nothing, one is expected to "
    "look clear."
)
Row = Mapping[str, Any]


def sweep_page(
    rows: Sequence[Row],
    *,
    title: str,
    tasks: Sequence[str],
    extra: Sequence[str],
    baseline: str,
    failures: Sequence[str],
    notes: Sequence[str],
    settings: Mapping[str, Row],
) -> str:
    """The whole page.

    Args:
        rows: of the comparison's table, in the order to show at first.
        tasks: what macro F1 is the mean over.
        extra: tasks with a column of their own.
        settings: line -> dotted setting -> value, of which those that differ are shown.
    """
    names = ["macro F1 (folds)", "macro F1 (all)", "difference", *extra]
    names += ["folds", "epochs", "px", "parameters", "seconds"]
    span = _span(rows)
    differing = _differing(settings)
    return render_page(
        TEMPLATE,
        title=title,
        tasks=", ".join(tasks),
        baseline=baseline,
        columns=["line", *names],
        lines=[_line(row, extra, span) for row in rows],
        failures=failures,
        notes=notes,
        differing=differing,
        settings=settings if differing else {},
        method=METHOD,
    )


def is_better(row: Row) -> bool:
    """Whether the interval lies above 0."""
    return row["diff_low"] is not None and row["diff_low"] > 0


def is_worse(row: Row) -> bool:
    """Whether the interval lies below 0."""
    return row["diff_high"] is not None and row["diff_high"] < 0


def number(value: float | None, form: str = "") -> str:
    """As `format` writes it; empty where there is none."""
    return "" if value is None or math.isnan(value) else format(value, form)


def plus_minus(mean: float | None, sd: float | None, *, digits: int = 4) -> str:
    """Mean and standard deviation; empty where there is none."""
    form = f".{digits}f"
    return f"{number(mean, form)} ± {number(sd, form)}" if number(mean) else ""


def gap(row: Row) -> str:
    """The difference from the baseline, with its bounds."""
    if row["is_baseline"]:
        return "baseline"
    if row["diff"] is None:
        return ""
    return f"{row['diff']:+.3f} [{row['diff_low']:+.3f}, {row['diff_high']:+.3f}]"


def _span(rows: Sequence[Row]) -> float:
    """The largest bound of all intervals: half the width of the picture of each."""
    found = [row[name] for row in rows for name in ("diff_low", "diff_high")]
    return max((abs(value) for value in found if value is not None), default=0.0) or 1.0


def _line(row: Row, extra: Sequence[str], span: float) -> dict[str, Any]:
    cells = [
        _cell(row["macro_f1_mean"], plus_minus(row["macro_f1_mean"], row["macro_f1_sd"])),
        _cell(row["macro_f1"], number(row["macro_f1"], ".4f")),
        _difference(row, span),
        *(
            _cell(row[f"{task}_mean"], plus_minus(row[f"{task}_mean"], row[f"{task}_sd"]))
            for task in extra
        ),
        _cell(row["folds_finished"], f"{row['folds_finished']}/{row['folds']}"),
        _cell(row["epochs"], number(row["epochs"])),
        _cell(row["image_size"], number(row["image_size"])),
        _cell(row["n_params"], number(row["n_params"], ",")),
        _cell(row["seconds"], number(row["seconds"], ".1f")),
    ]
    return {"name": row["line"], "is_baseline": row["is_baseline"], "cells": cells}


def _cell(value: float | None, text: str, **more: str) -> dict[str, Any]:
    """A cell: the value that it is sorted by, and what it shows."""
    known = value is not None and not math.isnan(value)
    return {"value": value if known else "", "text": text, "kind": "", "bounds": "", **more}


def _difference(row: Row, span: float) -> dict[str, Any]:
    """The difference in figures, and where its interval is drawn on one scale for all lines."""
    if row["is_baseline"] or row["diff"] is None:
        return _cell(0.0 if row["is_baseline"] else None, gap(row))
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
    """The settings that are not the same in all lines."""
    keys = dict.fromkeys(key for found in settings.values() for key in found)
    return [key for key in keys if len({repr(each.get(key, "")) for each in settings.values()}) > 1]

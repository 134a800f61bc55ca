"""Prints an evaluation: a few lines, or all sources, classes and slices as tables.

Knows reports; computes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cropfirst.core.console import say
from cropfirst.stage2_classify.evaluate.error_analysis import ErrorAnalysis
from cropfirst.stage2_classify.evaluate.task_report import TaskReport, headlines
from cropfirst.stage2_classify.metrics.scores import MAJORITY_NOTE
from cropfirst.stage2_classify.metrics.slices import MIN_PHOTOS, Slice

FEW = 8
"""Number of classes up to which scores and confusions fit into one table."""
MAX_SLICES = 8
"""Number of slices per task that are printed."""


def print_scores(
    console: Console,
    reports: Sequence[TaskReport],
    analyses: Sequence[ErrorAnalysis],
    *,
    title: str,
) -> None:
    """Print one line per task, the worst part of the photos, and what limits the scores."""
    found = {each.task: each for each in analyses}
    people = max((each.n_people for each in analyses), default=0)
    intervals = f", with 95 % intervals over {people} people" if people else ""
    say(console, f"{title}{intervals}:")
    best = headlines(reports)
    width = max(len(report.task) for report in best)
    for report in best:
        about = found.get(report.task)
        f1 = str(about.macro_f1) if about else f"{report.macro_f1:.3f}"
        accuracy = str(about.accuracy) if about else f"{report.accuracy:.3f}"
        scores = (
            f"macro F1 {f1}, majority {report.majority.macro_f1:.3f}  "
            f"accuracy {accuracy}, majority {report.majority.accuracy:.3f}"
        )
        say(console, f"  {report.task:<{width}}  {scores}  {report.n_photos} photos")
        if report.swapped is not None:
            say(
                console,
                f"  {'':<{width}}  swapped-rooms F1 {report.swapped}, own rooms "
                f"{report.swapped.oof_macro_f1:.3f}",
            )
    _print_falls(console, reports)
    _print_chance(console, analyses)
    worst = _worst_slice(analyses)
    if worst is not None:
        say(
            console,
            f"  worst part: {worst.task} where {worst.by} is {worst.value}: accuracy "
            f"{worst.accuracy.value:.3f}, expected {worst.expected:.3f}, {worst.n_photos} photos",
        )
    _print_remarks(console, reports)


def _print_falls(console: Console, reports: Sequence[TaskReport]) -> None:
    """Print the sources whose score falls in swapped rooms, by more than its interval allows."""
    for report in reports:
        if report.swapped is not None and report.swapped.falls:
            say(
                console,
                f"  {report.task}: {report.source} falls by {report.swapped.gap:.3f} in swapped "
                "rooms: it reads the background",
                style="yellow",
            )


def _print_chance(console: Console, analyses: Sequence[ErrorAnalysis]) -> None:
    """Print the tasks whose predictions are no better than chance, with their figures."""
    for each in analyses:
        if not each.chance.is_better:
            say(console, f"  {each.task}: no better than chance ({each.chance})", style="yellow")


def _worst_slice(analyses: Sequence[ErrorAnalysis]) -> Slice | None:
    """Return the slice furthest below its expected accuracy; None where none is below.

    Both the slice and the other photos, which its expected accuracy follows from, must be enough.
    """
    below = [
        each
        for analysis in analyses
        for each in analysis.slices
        if each.gap < 0 and min(each.n_photos, analysis.n_photos - each.n_photos) >= MIN_PHOTOS
    ]
    return min(below, key=lambda each: each.gap, default=None)


def print_reports(console: Console, reports: Sequence[TaskReport], *, title: str) -> None:
    """Print all scores, then the classes of each task's headline, then remarks."""
    console.print(_overview(reports, title=title))
    _print_falls(console, reports)
    best = headlines(reports)
    for report in best:
        console.print(_class_table(report))
        if len(report.classes) > FEW:
            console.print(_matrix_text(report), soft_wrap=True)
    if any(len(report.statuses) > 1 for report in best):
        console.print(_status_table(best))
    _print_remarks(console, reports)


def _overview(reports: Sequence[TaskReport], *, title: str) -> Table:
    table = Table(title=Text(title), caption=MAJORITY_NOTE)
    table.add_column("task")
    table.add_column("from", overflow="fold")
    in_rooms = any(report.swapped is not None for report in reports)
    rooms = ("swapped rooms",) if in_rooms else ()
    for column in ("photos", "macro F1", *rooms, "majority", "accuracy", "majority"):
        table.add_column(column, justify="right")
    best = {id(report) for report in headlines(reports)}
    for report in reports:
        table.add_row(
            Text(report.task),
            Text(report.source if report.votes else f"{report.source} (no vote)"),
            str(report.n_photos),
            f"{report.macro_f1:.4f}",
            *([f"{report.swapped.macro_f1:.4f}" if report.swapped else "-"] if in_rooms else []),
            f"{report.majority.macro_f1:.4f}",
            f"{report.accuracy:.4f}",
            f"{report.majority.accuracy:.4f}",
            style="bold" if id(report) in best else None,
        )
    return table


def _class_table(report: TaskReport) -> Table:
    """Return the scores of each class and, for few classes, the confusion matrix."""
    few = len(report.classes) <= FEW
    table = Table(title=Text(f"{report.task} ({report.source})"))
    table.add_column("true class", no_wrap=True)
    for column in ("precision", "recall", "F1", "photos"):
        table.add_column(column, justify="right")
    if few:
        for each in report.classes:
            table.add_column(Text(f"as {each.name}"), justify="right", style="cyan")
    for number, (each, row) in enumerate(zip(report.classes, report.matrix, strict=True)):
        name = each.name if few else f"{number:2} {each.name}"
        scores = (f"{each.precision:.3f}", f"{each.recall:.3f}", f"{each.f1:.3f}")
        counts = [str(count) if count else "." for count in row] if few else []
        table.add_row(Text(name), *scores, str(each.support), *counts)
    return table


def _matrix_text(report: TaskReport) -> Text:
    """Return the confusion matrix of many classes as text, since a table would be cut."""
    numbers = range(len(report.classes))
    width = max(len(str(report.matrix.max())), 2) + 1
    lines = [f"{report.task}: rows are true, columns predicted"]
    lines.append("   " + "".join(f"{number:>{width}}" for number in numbers))
    for number, row in zip(numbers, report.matrix, strict=True):
        cells = "".join(f"{count if count else '.':>{width}}" for count in row)
        lines.append(f"{number:>2} {cells}")
    return Text("\n".join(lines), style="cyan")


def _status_table(reports: Sequence[TaskReport]) -> Table:
    """Return macro F1 and the number of photos by task and crop status."""
    table = Table(title="macro F1 (photos) by crop status")
    table.add_column("status")
    scores = []
    for report in reports:
        table.add_column(Text(report.task), justify="right")
        scores.append({each.status: each for each in report.statuses})
    for status in dict.fromkeys(name for by_status in scores for name in by_status):
        cells = [
            f"{found.macro_f1:.4f} ({found.n_photos})" if (found := by_status.get(status)) else "-"
            for by_status in scores
        ]
        table.add_row(status, *cells)
    return table


def _print_remarks(console: Console, reports: Sequence[TaskReport]) -> None:
    for line in dict.fromkeys(line for report in reports for line in _remarks(report)):
        say(console, line)


def _remarks(report: TaskReport) -> list[str]:
    remarks = [f"{report.task}, {report.source}: {report.note}"] if report.note else []
    if report.absent:
        remarks.append(
            f"{report.task}, {report.source}: no photo is, or is predicted to be, of "
            f"{', '.join(report.absent)}; the macro F1 is over the other "
            f"{len(report.classes) - len(report.absent)} classes"
        )
    return remarks


def print_analyses(console: Console, analyses: Sequence[ErrorAnalysis]) -> None:
    """Print each task's intervals and calibration, and its worst slices."""
    table = Table(title="with 95 % intervals over people", caption=MAJORITY_NOTE)
    table.add_column("task")
    for column in ("people", "macro F1", "accuracy", "calibration error", "mistakes"):
        table.add_column(column, justify="right")
    for each in analyses:
        ece = str(each.ece) if each.ece else "-"
        majority = each.majority
        scores = (
            f"{each.macro_f1}\nmajority {majority.macro_f1:.3f}",
            f"{each.accuracy}\nmajority {majority.accuracy:.3f}",
        )
        counts = str(each.n_people), *scores, ece, str(len(each.mistakes))
        table.add_row(Text(each.task), *map(Text, counts))
    console.print(table)
    _print_chance(console, analyses)
    slices = [each for analysis in analyses for each in analysis.slices[:MAX_SLICES]]
    if slices:
        console.print(_slice_table(slices))


def _slice_table(slices: Sequence[Slice]) -> Table:
    table = Table(
        title="worst slices (expected: accuracy by the recall of each class on all other photos; "
        "majority: accuracy of the most frequent class)"
    )
    for column in ("task", "slice"):
        table.add_column(column)
    for column in ("photos", "people", "accuracy", "expected", "majority"):
        table.add_column(column, justify="right")
    last = slices[0].task
    for each in slices:
        if each.task != last:
            table.add_section()
        last = each.task
        expected = "-" if np.isnan(each.expected) else f"{each.expected:.3f}"
        name = f"{each.by}: {each.value}" + (" (few)" if each.is_small else "")
        numbers = (str(each.n_photos), str(each.n_people), str(each.accuracy), expected)
        table.add_row(Text(each.task), Text(name), *numbers, f"{each.majority.accuracy:.3f}")
    return table

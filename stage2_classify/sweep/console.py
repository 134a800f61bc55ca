"""Prints the progress of a sweep's jobs, and the comparison of its lines. Computes no score."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from cropfirst.core.console import say
from cropfirst.stage2_classify.metrics.scores import MAJORITY_NOTE
from cropfirst.stage2_classify.sweep.comparison import Comparison
from cropfirst.stage2_classify.sweep.jobs import Job
from cropfirst.stage2_classify.sweep.page import (
    format_difference,
    format_mean_sd,
    format_number,
    is_better,
    is_worse,
)

POLL_SECONDS = 0.5
"""Time between two looks at the files of the jobs."""


@contextmanager
def show_progress(jobs: Sequence[Job], console: Console) -> Iterator[None]:
    """Show how far some jobs are, by the files that they write, while the block runs."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("epochs {task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        transient=True,
    ) as progress:
        total = sum(job.config.optim.epochs for job in jobs)
        bar = progress.add_task("", total=total, rate="")
        ended: set[int] = set()
        stop = threading.Event()

        def poll() -> None:
            while not stop.wait(POLL_SECONDS):
                _update(progress, bar, jobs, ended)

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            _update(progress, bar, jobs, ended)


def print_comparison(
    console: Console, comparison: Comparison, table: pl.DataFrame, html: Path
) -> None:
    """Print the tables of a comparison, its notes and failures, and where its files are."""
    console.print(_score_table(comparison, table))
    console.print(_cost_table(comparison, table))
    for note in comparison.notes:
        say(console, f"note: {note}")
    for failure in comparison.failures:
        say(console, f"failed: {failure}", style="bold red")
    say(console, MAJORITY_NOTE, style="dim")
    say(console, f"table: {html} and {html.with_suffix('.parquet')}")
    say(
        console,
        f"runs: {html.parent}/LINE/TASK; all models of a line vote with predict --runs LINE",
    )


def _update(progress: Progress, bar: TaskID, jobs: Sequence[Job], ended: set[int]) -> None:
    """Update the bar, and print a line for each job that has ended since the last call."""
    epochs = n_failed = 0
    for job in jobs:
        reason = job.reason()
        over = job.finished or reason is not None
        n_failed += reason is not None
        # A job that ended early has no more epochs to come.
        epochs += job.config.optim.epochs if over else job.epochs_done()
        if over and job.number not in ended:
            ended.add(job.number)
            result = "finished" if reason is None else "failed, the reason is at the end"
            style = "green" if reason is None else "bold red"
            name = f"{job.line}, {job.config.task}, fold {job.fold}"
            say(progress.console, f"{name}: {result}", style=style)
    text = f"jobs {len(ended)}/{len(jobs)}" + (f", {n_failed} failed" if n_failed else "")
    progress.update(bar, completed=epochs, description=text)
    speed = progress.tasks[0].speed
    progress.update(bar, rate=f"{speed * 60:.1f}/min" if speed else "")


def _score_table(comparison: Comparison, table: pl.DataFrame) -> Table:
    """Return the scores and differences, within 80 columns."""
    scores = Table(
        title=Text(f"{comparison.score_name}, mean of {', '.join(comparison.tasks) or 'no task'}"),
        caption=Text(
            f"compared with {comparison.baseline}" if comparison.baseline else "no scores"
        ),
        box=SIMPLE_HEAD,
    )
    scores.add_column("line", overflow="fold", min_width=16)
    in_rooms = comparison.kind == "swapped"
    beside = ("out of fold",) if in_rooms else ()
    for name in ("all", *beside, "folds: mean ± sd", "difference in all [95 %]"):
        scores.add_column(name, justify="right")
    for row in table.iter_rows(named=True):
        style = "green" if is_better(row) else "red" if is_worse(row) else ""
        scores.add_row(
            Text(row["line"]),
            format_number(row["macro_f1"], ".3f"),
            *([format_number(row["oof_macro_f1"], ".3f")] if in_rooms else []),
            format_mean_sd(row["macro_f1_mean"], row["macro_f1_sd"], digits=3),
            Text(format_difference(row), style=style),
        )
    if (majority := _majority(table, "majority_f1")) is not None:
        scores.add_section()
        scores.add_row("majority", majority)
    return scores


def _cost_table(comparison: Comparison, table: pl.DataFrame) -> Table:
    """Return the scores of further tasks and the costs, within 80 columns."""
    extra = comparison.extra_tasks
    costs = Table(title=Text("by task (mean over folds), and costs"), box=SIMPLE_HEAD)
    costs.add_column("line", overflow="fold", min_width=16)
    for name in (*extra, "folds", "epochs", "px", "parameters", "seconds"):
        costs.add_column(name, justify="right")
    for row in table.iter_rows(named=True):
        costs.add_row(
            Text(row["line"]),
            *(format_number(row[f"{task}_mean"], ".3f") for task in extra),
            f"{row['folds_finished']}/{row['folds']}",
            format_number(row["epochs"]),
            format_number(row["image_size"]),
            format_number(row["n_params"], ","),
            format_number(row["seconds"], ".0f"),
        )
    cells = [_majority(table, f"{task}_majority_f1") for task in extra]
    if any(cells):
        costs.add_section()
        costs.add_row("majority", *cells)
    return costs


def _majority(table: pl.DataFrame, column: str) -> str | None:
    """Return the majority's score of the first line that has one; lines have the same photos."""
    known = table[column].drop_nulls().to_list()
    return format_number(known[0], ".3f") if known else None

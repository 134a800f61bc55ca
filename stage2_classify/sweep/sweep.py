"""Compare recipes: every fold of every line as a job of its own, then one table.

All lines are trained on the same crops, persons and folds. Runs lie in OUT/LINE/TASK, where predict
does not look by itself. A sweep that was killed goes on: what is finished is not trained again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cropfirst.cache import CropSet
from cropfirst.configs import flatten
from cropfirst.core.console import say
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.json_files import write_json
from cropfirst.stage2_classify.runs.run_folder import write_lock
from cropfirst.stage2_classify.sweep.jobs import Job, Poll, Source, default_jobs, run_jobs
from cropfirst.stage2_classify.sweep.plan import Line
from cropfirst.stage2_classify.sweep.report import (
    Comparison,
    compare,
    comparison_table,
    console_tables,
    write_report,
)
from cropfirst.stage2_classify.sweep.scores import check_same_folds, read_line, shared_tasks
from cropfirst.stage2_classify.train.train import prepare_run


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to."""

    comparison: Comparison
    table: pl.DataFrame
    html: Path
    parquet: Path
    n_trained: int
    """Jobs of this call that came to their end."""
    failures: tuple[str, ...]


def sweep(
    lines: Sequence[Line],
    photos: PhotoSet,
    schema: LabelSchema,
    crops: CropSet,
    source: Source,
    *,
    out_dir: Path,
    backend: str = "loky",
    n_jobs: int | None = None,
    baseline: str = "first",
    sort: str = "score",
    console: Console | None = None,
) -> SweepResult:
    """Train what is not finished of every line, and compare them all.

    Args:
        source: the paths of `photos`, `schema` and `crops`, for the jobs.
        n_jobs: at once; None is one a GPU, or one for every two cores; all that a cluster has.
        baseline: first, best, or a line's name.

    Raises:
        TrainError: a line that cannot be trained, or that is split into other folds.
    """
    console = console or Console(quiet=True)
    _check_fair(lines, baseline)
    with write_lock(out_dir):
        for line in lines:
            _prepare(line, photos, schema, crops, out_dir)
        jobs = _all_jobs(lines, source, out_dir)
        todo = [job for job in jobs if not job.finished]
        n_jobs = n_jobs or default_jobs(backend)
        most = max(len(todo), 1) if n_jobs < 0 else min(n_jobs, max(len(todo), 1))
        say(
            console,
            f"{len(lines)} lines, {len(jobs)} jobs (one a fold), {len(jobs) - len(todo)} finished "
            f"already; up to {most} at once ({backend})",
        )
        if todo:
            _run(todo, backend=backend, n_jobs=n_jobs, console=console)
        comparison = _compare(lines, jobs, schema, out_dir, baseline)
        table = comparison_table(comparison, sort=sort)
        write_json(out_dir / "sweep.json", _describe(lines, source, comparison))
        parquet, html = write_report(
            comparison, table, out_dir,
            title=f"Sweep {out_dir.name}", settings={line.name: _settings(line) for line in lines},
        )  # fmt: skip
    failures = tuple(each for line in comparison.lines for each in line.failures)
    _show(console, comparison, table, html, failures, out_dir)
    done = sum(job.finished for job in todo)
    return SweepResult(comparison, table, html, parquet, done, failures)


def _check_fair(lines: Sequence[Line], baseline: str) -> None:
    folds = {
        (config.folds.n_folds, config.folds.seed): line.name
        for line in lines
        for config in line.configs
    }
    if len(folds) > 1:
        (one, first), (two, second) = list(folds.items())[:2]
        raise TrainError(
            f"lines are compared on the same folds, and {first!r} has {one[0]} of seed {one[1]}, "
            f"{second!r} {two[0]} of seed {two[1]}: give --folds N and --set folds.seed=S"
        )
    names = [line.name for line in lines]
    if baseline not in {"first", "best", *names}:
        raise TrainError(f"--baseline wants first, best or a line: {', '.join(map(repr, names))}")


def _prepare(
    line: Line, photos: PhotoSet, schema: LabelSchema, crops: CropSet, out_dir: Path
) -> None:
    """Refuse an impossible line before any work; begin the folders of its runs."""
    for config in line.configs:
        try:
            prepare_run(photos, schema, crops, config, runs_dir=out_dir / line.folder)
        except TrainError as error:
            raise TrainError(f"line {line.name!r}: {error}") from error


def _all_jobs(lines: Sequence[Line], source: Source, out_dir: Path) -> list[Job]:
    """First all lines' fold 0, and so on: a failing line then shows early."""
    jobs = []
    for line in lines:
        for config in line.configs:
            asked = config.folds.fold
            for fold in range(config.folds.n_folds) if asked is None else [asked]:
                jobs.append(
                    Job(
                        line=line.name,
                        source=source,
                        config=_of_fold(config, fold),
                        runs_dir=out_dir / line.folder,
                        number=0,
                        main_pid=os.getpid(),
                    )
                )
    jobs.sort(key=lambda job: job.fold)
    return [replace(job, number=number) for number, job in enumerate(jobs)]


def _of_fold(config: TrainConfig, fold: int) -> TrainConfig:
    folds = config.folds.model_copy(update={"fold": fold, "all_data": False})
    return config.model_copy(update={"folds": folds})


def _run(jobs: Sequence[Job], *, backend: str, n_jobs: int, console: Console) -> None:
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

        def look() -> None:
            epochs = 0
            for job in jobs:
                reason = job.reason()
                over = job.finished or reason is not None
                # A job that ended early has no more epochs to come.
                epochs += job.config.optim.epochs if over else job.epochs_done()
                if over and job.number not in ended:
                    ended.add(job.number)
                    what = "finished" if reason is None else "failed, the reason is at the end"
                    style = "green" if reason is None else "bold red"
                    say(progress.console, f"{_name(job)}: {what}", style=style)
            failed = sum(job.reason() is not None for job in jobs)
            text = f"jobs {len(ended)}/{len(jobs)}" + (f", {failed} failed" if failed else "")
            progress.update(bar, completed=epochs, description=text)
            speed = progress.tasks[0].speed
            progress.update(bar, rate=f"{speed * 60:.1f}/min" if speed else "")

        with Poll(look):
            run_jobs(jobs, backend=backend, n_jobs=min(n_jobs, len(jobs)))


def _name(job: Job) -> str:
    return f"{job.line}, {job.config.task}, fold {job.fold}"


def _compare(
    lines: Sequence[Line], jobs: Sequence[Job], schema: LabelSchema, out_dir: Path, baseline: str
) -> Comparison:
    scores = []
    for line in lines:
        own = [job for job in jobs if job.line == line.name]
        scores.append(
            read_line(
                line.name,
                [out_dir / line.folder / str(config.name) for config in line.configs],
                schema,
                n_jobs=len(own),
                n_finished=sum(job.finished for job in own),
                failures=[_failure(job) for job in own if not job.finished],
            )
        )
    return compare(
        scores, shared_tasks(scores, schema), baseline=baseline, notes=check_same_folds(scores)
    )


def _failure(job: Job) -> str:
    place = f"fold {job.fold}: "
    reason = job.reason() or "it was not begun"
    return f"{job.config.task}, {place}{reason.removeprefix(place)}"


def _settings(line: Line) -> dict[str, Any]:
    """Dotted setting -> value, of the line's first task."""
    config = line.configs[0].model_dump(mode="json", exclude={"name", "device"})
    if len(line.configs) > 1:
        config["task"] = " ".join(each.task for each in line.configs)
    return flatten(config)


def _describe(lines: Sequence[Line], source: Source, comparison: Comparison) -> dict[str, Any]:
    return {
        "crops": source.crops,
        "baseline": comparison.baseline,
        "tasks": list(comparison.tasks),
        "lines": {line.name: {"folder": line.folder, **_settings(line)} for line in lines},
        "notes": list(comparison.notes),
    }


def _show(
    console: Console,
    comparison: Comparison,
    table: pl.DataFrame,
    html: Path,
    failures: Sequence[str],
    out_dir: Path,
) -> None:
    for shown in console_tables(comparison, table):
        console.print(shown)
    for note in comparison.notes:
        say(console, f"note: {note}")
    for line in comparison.lines:
        for reason in line.failures:
            say(console, f"failed: {line.name}, {reason}", style="bold red")
    say(console, f"table: {html} and {html.with_suffix('.parquet')}")
    say(console, f"runs: {out_dir}/LINE/TASK; a line's models vote with predict --runs that LINE")

"""The sweep command: trains every fold of every line as a job, then compares the lines.

All lines are trained on the same crops, persons and folds. Runs are in OUT/LINE/TASK, which predict
reads only when it is named. After a kill, the same sweep trains only what is not finished.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from cropfirst.cache import CropSet
from cropfirst.configs import flatten
from cropfirst.core.console import say
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.json_files import write_json
from cropfirst.stage2_classify.runs.run_folder import run_lock
from cropfirst.stage2_classify.runs.swapped_scores import NOT_CHECKED
from cropfirst.stage2_classify.sweep.comparison import Comparison, compare, comparison_table
from cropfirst.stage2_classify.sweep.console import print_comparison, show_progress
from cropfirst.stage2_classify.sweep.jobs import Job, Source, default_jobs, run_jobs
from cropfirst.stage2_classify.sweep.page import write_report
from cropfirst.stage2_classify.sweep.plan import Line
from cropfirst.stage2_classify.sweep.scores import (
    check_same_folds,
    kind_of_scores,
    read_line,
    shared_tasks,
)
from cropfirst.stage2_classify.train.prepare import prepare_run


@dataclass(frozen=True)
class SweepResult:
    """The comparison of a sweep, and the files that were written."""

    comparison: Comparison
    table: pl.DataFrame
    html: Path
    parquet: Path
    n_trained: int
    """Number of jobs that this call trained to their end."""
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
    """Train the unfinished folds of every line, and compare the lines.

    Args:
        source: paths of `photos`, `schema` and `crops`, for the jobs.
        n_jobs: number of jobs at once; None = one per GPU, or one per two cores without a GPU, or
            all workers of a cluster.
        baseline: first, best, or the name of a line.
        sort: order of the table, see `comparison.SORTS`.

    Raises:
        TrainError: a line that cannot be trained, or that is split into other folds.
    """
    console = console or Console(quiet=True)
    _check_fair(lines, baseline)
    with run_lock(out_dir):
        for line in lines:
            _prepare(line, photos, schema, crops, out_dir)
        jobs = _all_jobs(lines, source, out_dir)
        todo = [job for job in jobs if not job.finished]
        n_jobs = n_jobs or default_jobs(backend)
        most = max(len(todo), 1) if n_jobs < 0 else min(n_jobs, max(len(todo), 1))
        say(
            console,
            f"{len(lines)} lines, {len(jobs)} jobs (one per fold), {len(jobs) - len(todo)} "
            f"finished already; up to {most} at once ({backend})",
        )
        if todo:
            with show_progress(todo, console):
                run_jobs(todo, backend=backend, n_jobs=min(n_jobs, len(todo)))
        comparison = _compare(lines, jobs, schema, out_dir, baseline)
        table = comparison_table(comparison, sort=sort)
        write_json(out_dir / "sweep.json", _describe(lines, source, comparison))
        parquet, html = write_report(
            comparison, table, out_dir,
            title=f"Sweep {out_dir.name}", settings={line.name: _settings(line) for line in lines},
        )  # fmt: skip
    print_comparison(console, comparison, table, html)
    done = sum(job.finished for job in todo)
    return SweepResult(comparison, table, html, parquet, done, tuple(comparison.failures))


def _check_fair(lines: Sequence[Line], baseline: str) -> None:
    """Check that all lines have the same folds, and that the baseline is one of them."""
    folds = {
        (config.folds.n_folds, config.folds.seed): line.name
        for line in lines
        for config in line.configs
    }
    if len(folds) > 1:
        (one, first), (two, second) = list(folds.items())[:2]
        raise TrainError(
            f"lines are compared on the same folds, but {first!r} has {one[0]} of seed {one[1]}, "
            f"{second!r} {two[0]} of seed {two[1]}: give --folds N and --set folds.seed=S"
        )
    names = [line.name for line in lines]
    if baseline not in {"first", "best", *names}:
        raise TrainError(f"--baseline takes first, best or a line: {', '.join(map(repr, names))}")


def _prepare(
    line: Line, photos: PhotoSet, schema: LabelSchema, crops: CropSet, out_dir: Path
) -> None:
    """Check a line before any training, and create the folders of its runs."""
    for config in line.configs:
        try:
            prepare_run(photos, schema, crops, config, runs_dir=out_dir / line.folder)
        except TrainError as error:
            raise TrainError(f"line {line.name!r}: {error}") from error


def _all_jobs(lines: Sequence[Line], source: Source, out_dir: Path) -> list[Job]:
    """Return all jobs, fold 0 of all lines first, so that a failing line shows early."""
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


def _compare(
    lines: Sequence[Line], jobs: Sequence[Job], schema: LabelSchema, out_dir: Path, baseline: str
) -> Comparison:
    runs = {
        line.name: [out_dir / line.folder / str(config.name) for config in line.configs]
        for line in lines
    }
    kinds = {config.choose_by for line in lines for config in line.configs}
    kind = kind_of_scores(runs.values(), "oof" if "oof" in kinds else "auto")
    scores = []
    for line in lines:
        own = [job for job in jobs if job.line == line.name]
        scores.append(
            read_line(
                line.name,
                runs[line.name],
                schema,
                n_jobs=len(own),
                n_finished=sum(job.finished for job in own),
                kind=kind,
                failures=[_failure(job) for job in own if not job.finished],
            )
        )
    notes = [*check_same_folds(scores), *([] if kind == "swapped" else [NOT_CHECKED])]
    return compare(scores, shared_tasks(scores, schema), baseline=baseline, notes=notes, kind=kind)


def _failure(job: Job) -> str:
    place = f"fold {job.fold}: "
    reason = job.reason() or "it was not started"
    return f"{job.config.task}, {place}{reason.removeprefix(place)}"


def _settings(line: Line) -> dict[str, Any]:
    """Return dotted setting -> value of a line's first task."""
    config = line.configs[0].model_dump(mode="json", exclude={"name", "device"})
    if len(line.configs) > 1:
        config["task"] = " ".join(each.task for each in line.configs)
    return flatten(config)


def _describe(lines: Sequence[Line], source: Source, comparison: Comparison) -> dict[str, Any]:
    return {
        "crops": source.crops,
        "baseline": comparison.baseline,
        "compared_by": comparison.kind,
        "tasks": list(comparison.tasks),
        "lines": {line.name: {"folder": line.folder, **_settings(line)} for line in lines},
        "notes": list(comparison.notes),
    }

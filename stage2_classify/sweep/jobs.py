"""Trains folds of runs as independent jobs in other processes.

A job trains one fold in its own process, which opens data set and crops by their paths. A job that
fails, or whose process dies, leaves a file with the reason and does not stop the others. Knows
nothing of scores.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cropfirst.cache import Cache
from cropfirst.core.errors import CropfirstError, first_line
from cropfirst.core.files import write_atomic
from cropfirst.core.gpus import claim_gpu, visible_gpus
from cropfirst.core.workers import (
    CLUSTER_BACKENDS,
    Backend,
    Died,
    end_with_parent,
    open_backend,
    run_until_death,
)
from cropfirst.stage2_classify.config import TrainConfig

DIED = (
    "its process died without an error, as when the system is out of memory: lower "
    "data.batch_size, use --set data.preload=none or fewer --jobs"
)


@dataclass(frozen=True)
class Source:
    """Paths of what the jobs read, so that another process or machine can open it."""

    data: Path
    layout: str | None
    corrections: str | None
    schema: str | None
    cache: Path
    crops: str
    """Name of the crop set."""
    tasks: tuple[str, ...] = ()
    """Tasks that a fitted schema must have: those of all lines."""


@dataclass(frozen=True)
class Job:
    """One fold of one run of a line."""

    line: str
    source: Source
    config: TrainConfig
    """Settings of the run, with the fold of this job in `folds.fold`."""
    runs_dir: Path
    """Folder of the run's folder, which is named `config.name`."""
    number: int
    """Number of the job, from 0."""
    main_pid: int
    """Id of the process that starts the jobs."""

    @property
    def fold(self) -> int:
        """Number of the fold, from 0."""
        assert self.config.folds.fold is not None
        return self.config.folds.fold

    @property
    def folder(self) -> Path:
        """Folder of the fold."""
        return self.runs_dir / str(self.config.name) / f"fold{self.fold}"

    @property
    def failure(self) -> Path:
        """Path of the file with the reason of a failure."""
        return self.folder / "failed.json"

    @property
    def finished(self) -> bool:
        """Whether the fold is trained to its end."""
        return (self.folder / "metrics.json").is_file()

    def epochs_done(self) -> int:
        """Return the number of finished epochs."""
        try:
            text = (self.folder / "history.csv").read_text("utf-8")
        except OSError:
            return 0
        return max(text.count("\n") - 1, 0)

    def reason(self) -> str | None:
        """Return why the job failed; None where it did not."""
        try:
            return str(json.loads(self.failure.read_text("utf-8"))["reason"])
        except (OSError, ValueError, KeyError):
            return None


def run_jobs(jobs: Sequence[Job], *, backend: str, n_jobs: int) -> None:
    """Run every job; afterwards each is `finished` or has a `reason()`.

    Raises:
        BackendError: a backend whose package or cluster is missing.
    """
    for job in jobs:
        job.failure.unlink(missing_ok=True)
    gpus = any(job.config.device != "cpu" for job in jobs)
    with open_backend(backend, jobs=n_jobs, gpus=gpus) as opened:
        try:
            _run(jobs, opened, width=opened.width)
        except opened.death_errors:
            # It is not known whose process died, so the rest runs one job at a time.
            for job in jobs:
                if not job.finished and job.reason() is None:
                    try:
                        _run([job], opened, width=1)
                    except opened.death_errors as error:
                        _write_reason(job, f"{DIED} ({first_line(error)})")


def _run(jobs: Sequence[Job], backend: Backend, *, width: int) -> None:
    tasks = list(enumerate(jobs))
    with closing(run_until_death(backend, run_job, tasks, width=width)) as results:
        for number, result in results:
            if isinstance(result, Died):
                _write_reason(jobs[number], f"{DIED} ({first_line(result.error)})")


def run_job(job: Job) -> None:
    """Train one fold in this process, and write a failure instead of raising it."""
    if os.getpid() != job.main_pid:
        end_with_parent()
        claim_gpu(_count_gpus, number=job.number)
    try:
        _train(job)
    except CropfirstError as error:
        _write_reason(job, str(error))
    except Exception as error:  # a bug ends this job alone
        _write_reason(job, f"{type(error).__name__}: {error}")


def default_jobs(backend: str = "loky") -> int:
    """Return one job per GPU, or per two cores without a GPU; -1 on a cluster, for all workers."""
    if backend in CLUSTER_BACKENDS:
        return -1
    gpus = len(visible_gpus(_count_gpus))
    return gpus or max((os.cpu_count() or 1) // 2, 1)


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _train(job: Job) -> None:
    from cropfirst.stage2_classify.datasets import open_dataset
    from cropfirst.stage2_classify.labels.infer_schema import infer_schema
    from cropfirst.stage2_classify.labels.schema import load_schema
    from cropfirst.stage2_classify.train.train import train

    source = job.source
    photos = open_dataset(source.data, layout=source.layout, corrections=source.corrections)
    schema = (
        infer_schema(photos, source.tasks) if source.schema is None else load_schema(source.schema)
    )
    crops = Cache.open(source.cache, data_root=photos.root).find(source.crops)
    train(photos, schema, crops, job.config, runs_dir=job.runs_dir)


def _write_reason(job: Job, reason: str) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"line": job.line, "fold": job.fold, "reason": reason}, indent=2)
    write_atomic(job.failure, text.encode())

"""Folds x runs as independent jobs in other processes; what one comes to is told by its files.

A job trains one fold in a process of its own, which opens data set and crops by their paths. One
that fails, or whose process dies, leaves a reason and harms no other. Knows nothing of scores.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    "its process died without a word, as when the system is out of memory: lower data.batch_size, "
    "set data.preload=false or use fewer --jobs"
)


@dataclass(frozen=True)
class Source:
    """What the jobs read, by path, so that another process or machine can open it."""

    data: Path
    layout: str | None
    corrections: str | None
    schema: str | None
    cache: Path
    crops: str
    """Name of the crop set."""


@dataclass(frozen=True)
class Job:
    """One fold of one run of one line."""

    line: str
    source: Source
    config: TrainConfig
    """`folds.fold` is this job's."""
    runs_dir: Path
    """The run is `runs_dir / config.name`."""
    number: int
    main_pid: int
    """The process that gives out the jobs."""

    @property
    def fold(self) -> int:
        """Counted from 0."""
        assert self.config.folds.fold is not None
        return self.config.folds.fold

    @property
    def folder(self) -> Path:
        """The fold's folder."""
        return self.runs_dir / str(self.config.name) / f"fold{self.fold}"

    @property
    def failure(self) -> Path:
        """Where the reason of a failure is kept."""
        return self.folder / "failed.json"

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return (self.folder / "metrics.json").is_file()

    def epochs_done(self) -> int:
        """Epochs in the fold's history."""
        try:
            text = (self.folder / "history.csv").read_text("utf-8")
        except OSError:
            return 0
        return max(text.count("\n") - 1, 0)

    def reason(self) -> str | None:
        """Why it failed; None where it has not."""
        try:
            return str(json.loads(self.failure.read_text("utf-8"))["reason"])
        except (OSError, ValueError, KeyError):
            return None


def run_jobs(jobs: Sequence[Job], *, backend: str, n_jobs: int) -> None:
    """Run every job; afterwards each is `finished` or has a `reason()`.

    Raises:
        BackendError: a backend whose package or cluster is not there.
    """
    for job in jobs:
        job.failure.unlink(missing_ok=True)
    gpus = any(job.config.device != "cpu" for job in jobs)
    with open_backend(backend, jobs=n_jobs, gpus=gpus) as opened:
        try:
            _run(jobs, opened, width=opened.width)
        except opened.death_errors:
            # It is not known in whose job a process died: so one job at a time.
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
    """Train one fold in this process; a failure is written, not raised."""
    if os.getpid() != job.main_pid:
        end_with_parent()
        claim_gpu(_count_gpus, number=job.number)
    try:
        _train(job)
    except CropfirstError as error:
        _write_reason(job, str(error))
    except Exception as error:  # a bug, or a library's: this job's alone
        _write_reason(job, f"{type(error).__name__}: {error}")


def default_jobs(backend: str = "loky") -> int:
    """One job a GPU; without one, a job for every two cores; on a cluster -1, all that it has."""
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
    schema = infer_schema(photos) if source.schema is None else load_schema(source.schema)
    crops = Cache.open(source.cache, data_root=photos.root).find(source.crops)
    train(photos, schema, crops, job.config, runs_dir=job.runs_dir)


def _write_reason(job: Job, reason: str) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"line": job.line, "fold": job.fold, "reason": reason}, indent=2)
    write_atomic(job.failure, text.encode())


class Poll:
    """Calls a function now and then from a thread, for as long as its block runs."""

    def __init__(self, look: Callable[[], Any], *, seconds: float = 0.5) -> None:
        self._look, self._seconds = look, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Poll:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._look()

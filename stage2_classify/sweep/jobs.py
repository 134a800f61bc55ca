"""Folds x runs as independent jobs over joblib's backends; what one comes to is told by its files.

A job trains one fold in a process of its own, which opens data set and crops by their paths. One
that fails, or whose process dies, leaves a reason and harms no other. Knows nothing of scores.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cropfirst.cache import Cache
from cropfirst.core.dask_backend import GivenUp
from cropfirst.core.errors import CropfirstError, first_line
from cropfirst.core.files import write_atomic
from cropfirst.core.workers import (
    CLUSTERS,
    claim_gpu,
    end_with_parent,
    lost_errors,
    open_backend,
    visible_gpus,
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
    from joblib import Parallel, delayed

    for job in jobs:
        job.failure.unlink(missing_ok=True)
    gpus = any(job.config.device != "cpu" for job in jobs)
    with open_backend(backend, n_jobs=n_jobs, gpus=gpus):
        lost = lost_errors(backend)
        try:
            results = Parallel(batch_size=1)(delayed(run_job)(job) for job in jobs)
        except lost:
            _run_apart([job for job in jobs if not job.finished and job.reason() is None], lost)
            return
    for job, result in zip(jobs, results, strict=True):
        if isinstance(result, GivenUp):
            _write_reason(job, f"{DIED} ({first_line(result.error)})")


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
    if backend in CLUSTERS:
        return -1
    gpus = len(visible_gpus(_count_gpus))
    return gpus or max((os.cpu_count() or 1) // 2, 1)


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _train(job: Job) -> None:
    from cropfirst.stage2_classify.datasets import open_dataset
    from cropfirst.stage2_classify.labels.schema import infer_schema, load_schema
    from cropfirst.stage2_classify.train.train import train

    source = job.source
    photos = open_dataset(source.data, layout=source.layout, corrections=source.corrections)
    schema = infer_schema(photos) if source.schema is None else load_schema(source.schema)
    crops = Cache.open(source.cache, data_root=photos.root).find(source.crops)
    train(photos, schema, crops, job.config, runs_dir=job.runs_dir)


def _run_apart(jobs: Sequence[Job], lost: tuple[type[Exception], ...]) -> None:
    """One at a time, each in a new process: one has died, and it is not known of whose job."""
    from joblib import Parallel, delayed

    for job in jobs:
        try:
            # Two workers, since joblib runs the jobs of one worker in this very process.
            Parallel(n_jobs=2)([delayed(run_job)(job)])
        except lost as error:
            _write_reason(job, f"{DIED} ({first_line(error)})")


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

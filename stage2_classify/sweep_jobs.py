"""Folds x runs as independent jobs over joblib's backends; what one comes to is told by its files.

A job trains one fold in a process of its own, which opens data set and crops by their paths. One
that fails, or whose process dies, leaves a reason and harms no other. Knows nothing of scores.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from cropfirst.cache import Cache, CropfirstError, TrainError, write_atomic
from cropfirst.stage2_classify.config import TrainConfig

BACKENDS = {"loky": None, "sequential": None, "dask": "distributed", "ray": "ray"}
"""--backend -> the package that it needs beyond joblib."""


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
        TrainError: a backend whose package is not there.
    """
    from joblib import Parallel, delayed

    for job in jobs:
        job.failure.unlink(missing_ok=True)
    try:
        with open_backend(backend, n_jobs=n_jobs):
            Parallel()(delayed(run_job)(job) for job in jobs)
    except BrokenExecutor:
        _run_apart([job for job in jobs if not job.finished and job.reason() is None])


def run_job(job: Job) -> None:
    """Train one fold in this process; a failure is written, not raised."""
    if os.getpid() != job.main_pid:
        _end_with_parent()
        _claim_gpu(job.number)
    try:
        _train(job)
    except CropfirstError as error:
        _write_reason(job, str(error))
    except Exception as error:  # a bug, or a library's: this job's alone
        _write_reason(job, f"{type(error).__name__}: {error}")


@contextmanager
def open_backend(name: str, *, n_jobs: int) -> Iterator[None]:
    """Make joblib's Parallel run on the backend.

    Raises:
        TrainError: its package is not installed.
    """
    from joblib import parallel_config

    package = BACKENDS[name]
    if package is not None and find_spec(package) is None:
        raise TrainError(
            f"--backend {name} needs the package {package}, which is not installed: "
            f"pip install {package}, or leave --backend out"
        )
    with ExitStack() as opened:
        if name == "dask":
            from distributed import Client

            # The scheduler that DASK_SCHEDULER_ADDRESS names, or one on this machine.
            opened.enter_context(Client())
        elif name == "ray":
            from ray.util.joblib import register_ray

            register_ray()
        opened.enter_context(parallel_config(backend=name, n_jobs=n_jobs))
        yield


def default_jobs() -> int:
    """One job a GPU; without one, a job for every two cores."""
    gpus = len(visible_gpus())
    return gpus or max((os.cpu_count() or 1) // 2, 1)


def visible_gpus() -> list[str]:
    """The devices that this process may use, as CUDA_VISIBLE_DEVICES spells them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each.strip() for each in named.split(",") if each.strip() not in {"", "-1"}]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _train(job: Job) -> None:
    from cropfirst.stage2_classify.datasets import open_dataset
    from cropfirst.stage2_classify.labels import infer_schema, load_schema
    from cropfirst.stage2_classify.train import train

    source = job.source
    photos = open_dataset(source.data, layout=source.layout, corrections=source.corrections)
    schema = infer_schema(photos) if source.schema is None else load_schema(source.schema)
    crops = Cache.open(source.cache, data_root=photos.root).find(source.crops)
    train(photos, schema, crops, job.config, runs_dir=job.runs_dir)


def _run_apart(jobs: Sequence[Job]) -> None:
    """One at a time, each in a new process: one has died, and it is not known of whose job."""
    from joblib import Parallel, delayed

    for job in jobs:
        try:
            # Two workers, since joblib runs the jobs of one worker in this very process.
            Parallel(n_jobs=2, backend="loky")([delayed(run_job)(job)])
        except BrokenExecutor as error:
            _write_reason(
                job,
                "its process died without a word, as when the system is out of memory: lower "
                f"data.batch_size, set data.preload=false or use fewer --jobs ({error})",
            )


def _write_reason(job: Job, reason: str) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"line": job.line, "fold": job.fold, "reason": reason}, indent=2)
    write_atomic(job.failure, text.encode())


_held: list[IO[str]] = []
"""The lock of the GPU that this worker process has claimed, for as long as it lives."""
_watched: list[threading.Thread] = []


def _claim_gpu(number: int) -> None:
    """Give this worker process a GPU of its own, before anything touches CUDA.

    Workers outlive jobs, and CUDA reads CUDA_VISIBLE_DEVICES once a process: so it is the process
    that gets a GPU. The system frees the lock at its death.
    """
    gpus = visible_gpus()
    if _held or len(gpus) < 2:
        return
    folder = Path(tempfile.gettempdir()) / f"cropfirst-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True, mode=0o700)
    for gpu in gpus:
        file = (folder / gpu.replace("/", "_")).open("a")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        _held.append(file)
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        return
    # More jobs than GPUs: shared in turn.
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]


def _end_with_parent() -> None:
    """A worker whose sweep was killed must not train on: the next sweep would find it at work."""
    if _watched:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    _watched.append(threading.Thread(target=watch, daemon=True))
    _watched[0].start()


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

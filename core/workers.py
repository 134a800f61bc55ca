"""Work dealt to processes, here or on a cluster, over joblib's backends. Any of them may die.

Knows functions and what they are given; knows nothing of photos or models. Needs no torch.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, TypeVar

from cropfirst.core.dask_backend import WAIT_S, GivenUp, register_dask
from cropfirst.core.errors import BackendError

Item = TypeVar("Item")
Result = TypeVar("Result")

BACKENDS = {"loky": None, "sequential": None, "dask": "distributed", "ray": "ray"}
"""--backend -> the package that it needs beyond joblib."""
CLUSTERS = ("dask", "ray")
"""Those whose processes may be on other machines."""
DEATHS = 3
"""Times that processes may die in a row with nothing done between."""


def deal(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    backend: str,
    jobs: int,
    gpus: bool = False,
) -> Generator[Result, None, None]:
    """Yield the results of `work(item)` as they come, in no order.

    What a process had in hand when it died is given out again: an item may be worked on twice, and
    its result comes once.

    Close it where it is left early: else what ends the processes waits until Python collects it,
    and a Ctrl-C that falls into that prints a trace.

    Args:
        work: can be pickled.
        jobs: items at once; -1 is as many as the backend has processes (dask, ray) or cores.
        gpus: whether a process wants a GPU of its own (ray alone must be told).

    Raises:
        BackendError: the backend's package is not installed; or its processes die again and again
            at the same item.
    """
    with open_backend(backend, n_jobs=jobs, gpus=gpus):
        lost = lost_errors(backend)
        waiting = dict(enumerate(items))
        width, deaths = _width(backend, jobs), 0
        while waiting:
            before = len(waiting)
            try:
                todo = list(waiting.items())
                with closing(_round(work, todo, backend, width)) as results:
                    for number, result in results:
                        del waiting[number]
                        yield result
            except lost as error:
                deaths = deaths + 1 if len(waiting) == before else 0
                if deaths == DEATHS:
                    raise BackendError(
                        f"the processes of --backend {backend} die again and again, as when a "
                        f"machine is out of memory ({type(error).__name__}); {len(waiting)} of "
                        f"{len(items)} pieces of work are left, what was finished is kept: use "
                        "fewer --jobs, and run the same command to go on"
                    ) from error
                # It is not known whose fault it was: those in hand go last, and if nothing was
                # done between two deaths, one at a time.
                width = 1 if deaths else width
                first = list(waiting)[:width]
                waiting |= {number: waiting.pop(number) for number in first}


def _round(
    work: Callable[[Item], Result], todo: Sequence[tuple[int, Item]], backend: str, width: int
) -> Generator[tuple[int, Result], None, None]:
    """Everything once, until something dies."""
    from joblib import Parallel, delayed

    calls = [delayed(_numbered)(work, number, item) for number, item in todo]
    if backend != "ray":
        some = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=width)
        with closing(some(calls)) as results:
            for result in results:
                if isinstance(result, GivenUp):
                    raise result.error
                yield result
        return
    # Ray's backend gives no result before all are there: so not all at once.
    with Parallel(batch_size=1, pre_dispatch="all") as parallel:
        step = 1 if width == 1 else 4 * width
        for first in range(0, len(calls), step):
            yield from parallel(calls[first : first + step])


def _numbered(work: Callable[[Item], Result], number: int, item: Item) -> tuple[int, Result]:
    return number, work(item)


def _width(backend: str, jobs: int) -> int:
    """Items that are given out at once: for cores that are ours, one more each, to be ready."""
    from joblib import effective_n_jobs

    if jobs > 0 and backend in CLUSTERS:
        return jobs
    return 2 * int(effective_n_jobs(jobs))


@contextmanager
def open_backend(name: str, *, n_jobs: int, gpus: bool = False) -> Iterator[None]:
    """Make joblib's Parallel run on the backend.

    Raises:
        BackendError: its package is not installed, or its cluster is not there.
    """
    from joblib import parallel_config

    # Of joblib's, when Ctrl-C ends the work: that is what was asked for.
    warnings.filterwarnings("ignore", ".*tasks which were still being processed", UserWarning)
    package = BACKENDS[name]
    if package is not None and find_spec(package) is None:
        raise BackendError(
            f"--backend {name} needs the package {package}, which is not installed: "
            f"pip install {package}, or leave --backend out"
        )
    with ExitStack() as opened:
        more: dict[str, Any] = {}
        if name == "dask":
            # The scheduler that DASK_SCHEDULER_ADDRESS names, or one on this machine.
            opened.enter_context(_dask_client())
            name, more = register_dask(), {"wait_for_workers_timeout": WAIT_S}
        elif name == "ray":
            from ray.util.joblib import register_ray

            register_ray()
            more = _ray_options(gpus)
        opened.enter_context(parallel_config(backend=name, n_jobs=n_jobs, **more))
        yield


def _dask_client() -> Any:
    from distributed import Client

    try:
        with _without_ctrl_c():
            return Client()
    except OSError as error:
        where = os.environ.get("DASK_SCHEDULER_ADDRESS", "(none is set)")
        raise BackendError(
            f"no dask scheduler answers at {where}: check DASK_SCHEDULER_ADDRESS ({error})"
        ) from error


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Processes that are started now never see a terminal's Ctrl-C: who starts them ends them."""
    started_here = "DASK_SCHEDULER_ADDRESS" not in os.environ
    if not started_here or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _ray_options(gpus: bool) -> dict[str, Any]:
    """Join the cluster that RAY_ADDRESS names, or start one here; a GPU for each process."""
    import ray

    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, logging_level="error")
        except ConnectionError as error:
            raise BackendError(f"no ray cluster answers: check RAY_ADDRESS ({error})") from error
    if gpus and ray.cluster_resources().get("GPU", 0) >= 1:
        return {"ray_remote_args": {"num_gpus": 1}}
    return {}


def lost_errors(backend: str) -> tuple[type[Exception], ...]:
    """The errors by which a backend says that a process died; its package must be there."""
    if backend == "dask":
        from distributed import KilledWorker

        return (KilledWorker,)
    if backend == "ray":
        from ray.exceptions import RayActorError, WorkerCrashedError

        return (RayActorError, WorkerCrashedError)
    return (BrokenExecutor,)


def visible_gpus(count: Callable[[], int]) -> list[str]:
    """The devices that this process may use, as CUDA_VISIBLE_DEVICES spells them.

    Args:
        count: asked for their number where the environment does not say.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each.strip() for each in named.split(",") if each.strip() not in {"", "-1"}]
    return [str(index) for index in range(count())]


_held: list[IO[str]] = []
"""The lock of the GPU that this worker process has claimed, for as long as it lives."""
_watched: list[threading.Thread] = []


def claim_gpu(count: Callable[[], int], *, number: int = 0) -> None:
    """Give this worker process a GPU of its own, before anything touches CUDA.

    Workers outlive jobs, and CUDA reads CUDA_VISIBLE_DEVICES once a process: so it is the process
    that gets a GPU. The system frees the lock at its death.

    Args:
        count: asked for the number of GPUs where the environment does not say.
        number: of the job; decides which GPU is shared where there are too few.
    """
    gpus = visible_gpus(count)
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


def end_with_parent() -> None:
    """A worker whose command was killed must not work on: the next one would find it at work."""
    if _watched:
        return
    parent, asked = os.getppid(), multiprocessing.parent_process()

    def watch() -> None:
        if asked is not None and asked.pid != parent:  # a server of processes started this one
            asked.join()
        else:
            while os.getppid() == parent:
                time.sleep(0.5)
        os._exit(1)

    _watched.append(threading.Thread(target=watch, daemon=True))
    _watched[0].start()

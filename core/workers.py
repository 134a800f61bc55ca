"""Run tasks in other processes, on this machine or on a cluster. Any of the processes may die.

loky and ray run through joblib, dask through its own client. Knows functions and their arguments;
knows nothing of photos or models. Needs no torch.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from typing import Any, TypeVar

from cropfirst.core.errors import BackendError

Item = TypeVar("Item")
Result = TypeVar("Result")

BACKENDS = {"loky": None, "sequential": None, "dask": "distributed", "ray": "ray"}
"""Name of each backend, and the package that it needs beyond joblib."""
CLUSTER_BACKENDS = ("dask", "ray")
"""Backends whose processes may be on other machines."""
MAX_DEATHS = 3
"""Number of times in a row that processes may die before any task finishes."""
WORKER_TIMEOUT_S = 300
"""Seconds that a dask cluster may be without a worker."""
CLOSE_TIMEOUT_S = 10
"""Seconds that each step of closing dask may take."""


@dataclass(frozen=True)
class Backend:
    """An open backend; `open_backend` is the way to get one."""

    name: str
    width: int
    """Number of tasks to hand out at once."""
    death_errors: tuple[type[BaseException], ...]
    """The errors by which the backend reports that a process died."""
    client: Any = None
    """The `distributed.Client` of dask."""


@dataclass(frozen=True)
class Died:
    """The result of a task that dask gave up because processes died while they ran it."""

    error: BaseException


def run_all(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    backend: str,
    jobs: int,
    gpus: bool = False,
) -> Generator[Result, None, None]:
    """Yield the results of `work(item)` in the order in which they are finished.

    The tasks of a process that died are run again: `work` may see an item twice, but each item has
    one result. Close the generator when leaving it early, so that it ends its processes.

    Args:
        work: a function that can be pickled.
        jobs: number of processes; -1 means all of a cluster, or one per core.
        gpus: whether each process needs a GPU of its own (only ray has to be told).

    Raises:
        BackendError: the backend's package is not installed, its cluster does not answer or is
            gone, or its processes keep dying without finishing a task.
    """
    with open_backend(backend, jobs=jobs, gpus=gpus) as opened:
        waiting = dict(enumerate(items))
        width, deaths = opened.width, 0
        while waiting:
            before = len(waiting)
            try:
                tasks = list(waiting.items())
                with closing(run_until_death(opened, work, tasks, width=width)) as results:
                    for number, result in results:
                        if isinstance(result, Died):
                            raise result.error
                        del waiting[number]
                        yield result
            except opened.death_errors as error:
                deaths = deaths + 1 if len(waiting) == before else 0
                if deaths == MAX_DEATHS:
                    raise BackendError(
                        f"the worker processes of --backend {backend} keep dying "
                        f"({type(error).__name__}), for example because a machine is out of "
                        f"memory; {len(waiting)} of {len(items)} tasks are left. Finished work is "
                        "kept: use fewer --jobs and run the same command again"
                    ) from error
                # Any of the tasks under way may be at fault: they go last, and if nothing was
                # finished between two deaths, one at a time.
                width = 1 if deaths else width
                suspects = list(waiting)[:width]
                waiting |= {number: waiting.pop(number) for number in suspects}


def run_until_death(
    backend: Backend,
    work: Callable[[Item], Result],
    tasks: Sequence[tuple[int, Item]],
    *,
    width: int,
) -> Generator[tuple[int, Result | Died], None, None]:
    """Yield (number, result) of each (number, item) task, in the order in which they are finished.

    Raises:
        One of `backend.death_errors`: a process died; the tasks that it ran are not known. dask
            knows them, and yields `Died` instead.
    """
    if backend.name == "dask":
        yield from _run_on_dask(backend.client, work, tasks, width)
        return
    from joblib import Parallel, delayed

    calls = [delayed(_numbered)(work, number, item) for number, item in tasks]
    if backend.name != "ray":
        parallel = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=width)
        with ExitStack() as stack:
            with _new_processes_ignore_ctrl_c():
                results = stack.enter_context(closing(parallel(calls)))
            yield from results
        return
    # joblib's ray backend returns no result before it has all of them, so it gets some at a time.
    with Parallel(batch_size=1, pre_dispatch="all") as parallel:
        step = 1 if width == 1 else 4 * width
        for first in range(0, len(calls), step):
            yield from parallel(calls[first : first + step])


def _numbered(work: Callable[[Item], Result], number: int, item: Item) -> tuple[int, Result]:
    return number, work(item)


def _run_on_dask(
    client: Any, work: Callable[[Item], Result], tasks: Iterable[tuple[int, Item]], width: int
) -> Generator[tuple[int, Result | Died], None, None]:
    """Run tasks by dask's own client: joblib's backend waits forever for a task that dask drops."""
    from distributed import KilledWorker, as_completed

    def submit(task: tuple[int, Item]) -> Any:
        number, item = task
        numbers[(future := client.submit(work, item, pure=False)).key] = number
        return future

    numbers: dict[str, int] = {}
    left = iter(tasks)
    running = as_completed([submit(task) for task in islice(left, width)])
    for future in running:
        number = numbers.pop(future.key)
        try:
            result: Result | Died = future.result()
        except KilledWorker as error:
            result = Died(error)
        for task in islice(left, 1):
            running.add(submit(task))
        yield number, result


@contextmanager
def open_backend(name: str, *, jobs: int, gpus: bool = False) -> Iterator[Backend]:
    """Connect to a backend, or start it on this machine.

    Raises:
        BackendError: its package is not installed, or its cluster does not answer.
    """
    package = BACKENDS[name]
    if package is not None and find_spec(package) is None:
        raise BackendError(
            f"--backend {name} needs the package {package}, which is not installed: "
            f"pip install {package}, or leave --backend out"
        )
    if name == "dask":
        from distributed import KilledWorker

        with _dask_client() as client:
            threads = _count_dask_threads(client)
            yield Backend(name, jobs if jobs > 0 else 2 * threads, (KilledWorker,), client)
        return
    from joblib import effective_n_jobs, parallel_config

    # joblib warns of unfinished tasks when Ctrl-C ends the work, which is what was asked for.
    warnings.filterwarnings("ignore", ".*tasks which were still being processed", UserWarning)
    options, death_errors = _join_ray(gpus) if name == "ray" else ({}, (BrokenExecutor,))
    with parallel_config(backend=name, n_jobs=jobs, **options):
        # On this machine one more task per process, so that none waits for its next one.
        width = jobs if jobs > 0 and name == "ray" else 2 * int(effective_n_jobs(jobs))
        yield Backend(name, width, death_errors)


@contextmanager
def _dask_client() -> Iterator[Any]:
    """Connect to the scheduler that DASK_SCHEDULER_ADDRESS names, or start one here."""
    import dask
    from distributed import Client, LocalCluster
    from distributed.comm import CommClosedError

    address = dask.config.get("scheduler_address", None)
    with ExitStack() as opened:
        try:
            with _new_processes_ignore_ctrl_c():
                if not address:
                    cluster = LocalCluster()
                    cluster.shutdown_on_close = False  # it is closed here, not once more at exit
                    opened.callback(_call_quietly, cluster.close)
                client = Client(address or cluster)
                opened.callback(_call_quietly, client.close)
        except (OSError, RuntimeError) as error:
            wanted = (
                f"no dask scheduler answers at {address}: check DASK_SCHEDULER_ADDRESS"
                if address
                else "dask cannot start workers on this machine: use --backend loky"
            )
            raise BackendError(f"{wanted} ({error})") from error
        if not address:
            # A worker that is stopped while it starts, in place of one that died, prints a trace.
            opened.callback(_call_quietly, client.wait_for_workers, len(cluster.workers))
        try:
            yield client
        except (CancelledError, CommClosedError) as error:
            raise BackendError(
                "the dask scheduler is gone, or cancelled the tasks. Finished work is kept: start "
                "the scheduler and its workers, and run the same command again"
            ) from error


def _call_quietly(close: Callable[..., Any], *arguments: Any) -> None:
    """Call a function of dask that closes something, and drop its error.

    The work is finished or has failed by now, and no error of closing changes that. Workers that
    are left end with this process.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # dask logs the error with its stack trace
    try:
        with suppress(Exception):
            close(*arguments, timeout=CLOSE_TIMEOUT_S)
    finally:
        logging.disable(before)


def _count_dask_threads(client: Any) -> int:
    from distributed import KilledWorker

    try:
        # A task, since an adaptive cluster starts workers for tasks alone.
        client.submit(int).result(timeout=WORKER_TIMEOUT_S)
    except KilledWorker as error:
        raise BackendError(f"the dask workers die before they get any work ({error})") from error
    except TimeoutError as error:
        raise BackendError(
            f"the dask cluster has had no worker for {WORKER_TIMEOUT_S} s: start some with dask "
            "worker ADDRESS --nthreads 1"
        ) from error
    return max(1, sum(client.ncores().values()))


def _join_ray(gpus: bool) -> tuple[dict[str, Any], tuple[type[BaseException], ...]]:
    """Join the cluster that RAY_ADDRESS names, or start one here.

    Returns:
        Options of joblib's backend, which gives each process a GPU, and the errors of deaths.
    """
    import ray
    from ray.exceptions import RayActorError, WorkerCrashedError
    from ray.util.joblib import register_ray

    register_ray()
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, logging_level="error")
        except ConnectionError as error:
            raise BackendError(f"no ray cluster answers: check RAY_ADDRESS ({error})") from error
    has_gpu = gpus and ray.cluster_resources().get("GPU", 0) >= 1
    options = {"ray_remote_args": {"num_gpus": 1}} if has_gpu else {}
    return options, (RayActorError, WorkerCrashedError)


@contextmanager
def _new_processes_ignore_ctrl_c() -> Iterator[None]:
    """Let processes started in this block, or by threads started in it, never see SIGINT.

    A terminal sends Ctrl-C to the workers too. It is their parent that ends them; a worker that is
    interrupted in the middle of the backend's own code prints a stack trace.
    """
    # Starts the resource tracker of multiprocessing, which would unblock SIGINT when it starts.
    multiprocessing.get_context("spawn").Lock()
    # Threads and processes inherit the mask of the thread that starts them, also across exec.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_watchers: list[threading.Thread] = []


def end_with_parent() -> None:
    """End this worker process when its parent dies, so that no later run finds it still at work."""
    if _watchers:
        return
    parent, forking_parent = os.getppid(), multiprocessing.parent_process()

    def watch() -> None:
        if forking_parent is not None and forking_parent.pid != parent:  # a fork server started it
            forking_parent.join()
        else:
            while os.getppid() == parent:
                time.sleep(0.5)
        os._exit(1)

    _watchers.append(threading.Thread(target=watch, daemon=True))
    _watchers[0].start()

"""detect by other processes: the same cache as one process gives, whoever of them dies.

dask is a real scheduler and two real workers on the loopback; ray is a real ray on this machine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from forked import Command
from kills import compare_caches

from cropfirst.cache import Cache
from cropfirst.cache.store import shard_paths
from cropfirst.core.errors import BackendError
from cropfirst.core.workers import run_all

FLAGS = ("--device", "cpu", "--set", "crop.image_size=32", "--set", "commit_photos=1")
"""One photo per task: many moments to be killed at."""


@pytest.fixture(scope="module")
def whole(contest: Path, tmp_path_factory: pytest.TempPathFactory, ok: Callable[..., str]) -> Path:
    """The cache that one process gives."""
    work = tmp_path_factory.mktemp("whole")
    ok("detect", contest, "--work", work, *FLAGS)
    return work / "cache"


def worker_pids(cache: Path) -> list[int]:
    """Those that have written crops, by the names of their shards."""
    shards = [path for each in cache.glob("crops/*") for path in shard_paths(each)]
    return [int(path.name.split("-")[-2]) for path in shards if path.name.count("-") >= 3]


def kill_one_half_way(process: Command, cache: Path, others: Collection[int] = ()) -> str:
    """Kill a worker that has crops to show, when some rows are written; what the command said."""
    n_before, pids = len(list(cache.glob("crops/*/parts/*.parquet"))), list[int]()
    while process.poll() is None:
        pids = [pid for pid in worker_pids(cache) if pid not in others]
        if pids and len(list(cache.glob("crops/*/parts/*.parquet"))) > n_before:
            break
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()[0]
    os.kill(pids[0], signal.SIGKILL)
    assert len(Cache.open(cache).find().manifest.read()) < 46, "not half-way but at the end"
    said = process.communicate(timeout=200)[0]
    assert process.returncode == 0, said
    return said


@contextmanager
def dask_cluster(folder: Path, *, workers: int) -> Iterator[str]:
    """A scheduler and workers as processes of their own; yields the address."""
    address = folder / "scheduler.json"
    common = ("--scheduler-file", str(address))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with ExitStack() as started:

        def start(*words: str) -> None:
            process = subprocess.Popen([sys.executable, "-m", "dask", *words], cwd=folder, **quiet)  # type: ignore[call-overload]
            started.callback(process.wait)
            started.callback(process.kill)

        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *common)
        for _ in range(workers):
            start("worker", "--no-nanny", "--nthreads", "1", "--no-dashboard", *common)
        patience = time.monotonic() + 250
        while not address.exists() and time.monotonic() < patience:
            time.sleep(0.05)
        yield json.loads(address.read_text())["address"]


def stop_half_way(process: Command, cache: Path, sign: signal.Signals) -> str:
    """Ctrl-C as a terminal sends it, to all; or SIGTERM to the command alone. What it said."""
    n_before = len(list(cache.glob("crops/*/parts/*.parquet")))
    try:
        while process.poll() is None:
            if len(list(cache.glob("crops/*/parts/*.parquet"))) > n_before:
                break
            time.sleep(0.005)
        assert process.poll() is None, process.communicate()[0]
        workers = psutil.Process(process.pid).children(recursive=True)
        send = os.killpg if sign is signal.SIGINT else os.kill
        send(process.pid, sign)
        said = process.communicate(timeout=250)[0]
        assert not psutil.wait_procs(workers, timeout=60)[1], "they work on"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
    assert "Traceback" not in said and "Warning" not in said, said
    assert "What was finished is kept: run the same command to go on." in said
    return said


@pytest.mark.slow
def test_loky_stopped_and_a_worker_killed_half_way(
    contest: Path, whole: Path, tmp_path: Path, start: Callable[..., Command],
    ok: Callable[..., str],
) -> None:  # fmt: skip
    command = ("detect", contest, "--work", tmp_path, *FLAGS, "--backend", "loky", "--jobs", "2")
    cache = tmp_path / "cache"
    process = start(*command)
    stop_half_way(process, cache, signal.SIGTERM)
    assert process.returncode == 143
    before = set(worker_pids(cache))
    said = kill_one_half_way(start(*command), cache, before)
    assert 0 < int(said.partition("processed ")[2].split()[0]) < 46, said
    assert compare_caches(cache, whole) == []
    assert len(set(worker_pids(cache)) - before) >= 3, "two, and who came for the killed one"
    ok("verify", contest, "--work", tmp_path)
    assert " merged, " in ok("compact", contest, "--work", tmp_path)
    assert compare_caches(cache, whole) == []
    assert worker_pids(cache) == []
    ok("verify", contest, "--work", tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("distributed") is None, reason="dask is NOT installed: not tried")
def test_dask_stopped_half_way_goes_on_to_the_same_cache(
    contest: Path, whole: Path, tmp_path: Path, start: Callable[..., Command],
    ok: Callable[..., str],
) -> None:  # fmt: skip
    command = ("detect", contest, "--work", tmp_path, *FLAGS)
    process = start(*command, "--backend", "dask", "--jobs", "2")
    stop_half_way(process, tmp_path / "cache", signal.SIGINT)
    assert process.returncode == 130
    assert 0 < int(ok(*command).partition("processed ")[2].split()[0]) < 46
    assert compare_caches(tmp_path / "cache", whole) == []


@pytest.mark.slow
@pytest.mark.skipif(find_spec("distributed") is None, reason="dask is NOT installed: not tried")
def test_dask_a_worker_killed_half_way(
    contest: Path, whole: Path, tmp_path: Path, start: Callable[..., Command],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with dask_cluster(tmp_path, workers=2) as address:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
        work = tmp_path / "work"
        process = start("detect", contest, "--work", work, *FLAGS, "--backend", "dask")
        kill_one_half_way(process, work / "cache")
        assert compare_caches(work / "cache", whole) == []


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="ray is NOT installed: not tried")
def test_ray_a_worker_killed_half_way(
    contest: Path, whole: Path, tmp_path: Path, start: Callable[..., Command]
) -> None:
    process = start("detect", contest, "--work", tmp_path, *FLAGS, "--backend", "ray",
                    "--jobs", "2")  # fmt: skip
    kill_one_half_way(process, tmp_path / "cache")
    assert compare_caches(tmp_path / "cache", whole) == []


BAD_CLOSING = """
import distributed.process

async def join(self, timeout=None):
    raise AssertionError("can only join a started process")

distributed.process.AsyncProcess.join = join
"""
"""A fault of dask, which it shows now and then when closed while it replaces a dead worker."""
POISON = """
import os, signal, sys
from cropfirst.core.errors import BackendError
from cropfirst.core.workers import run_all

def work(item):
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item

if __name__ == "__main__":
    done = []
    try:
        for item in run_all(work, range(8), backend=sys.argv[1], jobs=2):
            done.append(item)
    except BackendError as error:
        print(sorted(done), error)
"""


def poisoned(folder: Path, backend: str, *, fault: str = "", **settings: str) -> tuple[str, str]:
    """Return the output and the errors of a program with poison."""
    if backend == "dask" and find_spec("distributed") is None:
        pytest.skip("dask is NOT installed: not tried")
    (folder / "poison.py").write_text(fault + POISON)
    done = subprocess.run(
        [sys.executable, "poison.py", backend], cwd=folder, capture_output=True, text=True,
        env={**os.environ, **settings}, timeout=250, check=False,
    )  # fmt: skip
    return done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "fault"), [("loky", ""), ("dask", BAD_CLOSING)])
def test_work_that_kills_whoever_does_it_ends_with_an_error(
    tmp_path: Path, backend: str, fault: str
) -> None:
    at_once = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    said, errors = poisoned(tmp_path, backend, fault=fault, **at_once)
    assert said.startswith("[0, 1, 2, 4, 5, 6, 7] "), errors[-2000:]
    assert f"--backend {backend} keep dying" in said and "1 of 8 tasks are left" in said
    assert "can only join" not in errors, errors


@pytest.mark.slow
def test_dask_workers_that_die_at_their_start_are_one_error(tmp_path: Path) -> None:
    dies = {"DASK_DISTRIBUTED__WORKER__PRELOAD": '["import os; os.kill(os.getpid(), 9)"]'}
    said, errors = poisoned(tmp_path, "dask", **dies)
    assert said.startswith("[] dask cannot start workers on this machine"), errors[-2000:]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("distributed") is None, reason="dask is NOT installed: not tried")
def test_a_dask_scheduler_that_dies_is_one_error(tmp_path: Path) -> None:
    import dask

    with dask_cluster(tmp_path, workers=1) as address, dask.config.set(scheduler_address=address):
        results = run_all(abs, range(-9, 0), backend="dask", jobs=1)
        assert next(results) == 9
        for child in psutil.Process().children():
            if "scheduler" in child.cmdline():
                child.kill()
        with pytest.raises(BackendError, match="the dask scheduler is gone"):
            list(results)


def test_jobs_without_a_backend_are_refused(contest: Path, run: Callable, tmp_path: Path) -> None:
    said = run("detect", contest, "--work", tmp_path / "w", "--jobs", "2")
    assert said.code == 2 and "--set workers=N" in said.text
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("distributed") is None, reason="dask is NOT installed: not tried")
def test_no_scheduler_is_one_error(
    contest: Path, tmp_path: Path, start: Callable[..., Command],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:9")
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "1s")
    process = start("detect", contest, "--work", tmp_path, *FLAGS, "--backend", "dask")
    said = process.communicate(timeout=250)[0]
    assert process.returncode == 1 and "Traceback" not in said, said
    assert "no dask scheduler answers at tcp://127.0.0.1:9" in said

"""Tasks in other processes and Ctrl-C; what their death does, cli/test_backends.py tries."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from cropfirst.core.errors import BackendError
from cropfirst.core.workers import BACKENDS, run_all

PROGRAM = """
import sys, time
from cropfirst.core.workers import run_all

def work(seconds):
    time.sleep(seconds)
    return seconds

if __name__ == "__main__":
    print(sum(run_all(work, [float(word) for word in sys.argv[1:]], backend="loky", jobs=2)))
"""


@contextmanager
def _started(folder: Path, *seconds: float) -> Iterator[subprocess.Popen[str]]:
    (folder / "program.py").write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, "program.py", *map(str, seconds)], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    workers = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children():
            if "popen_loky_posix" in " ".join(child.cmdline()):
                workers.append(child)
    return workers


def test_workers_never_notice_a_ctrl_c(tmp_path: Path) -> None:
    """Neither while they start, nor at work, nor idle in the backend's own loop."""
    interrupted = set()
    with _started(tmp_path, 0.0, 0.4) as process:
        while process.poll() is None:
            for worker in _workers(process):
                with suppress(psutil.NoSuchProcess):
                    worker.send_signal(signal.SIGINT)
                    interrupted.add(worker.pid)
            time.sleep(0.002)
        assert process.communicate()[0] == "0.4\n"
    assert process.returncode == 0
    assert len(interrupted) == 2, "none died and was replaced"


def test_a_ctrl_c_ends_the_workers_with_their_parent(tmp_path: Path) -> None:
    with _started(tmp_path, 0.0, 600.0) as process:
        while len(workers := _workers(process)) < 2:
            time.sleep(0.01)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it
        said = process.communicate(timeout=250)[0]
        assert not psutil.wait_procs(workers, timeout=250)[1], "they work on"
    assert said.count("Traceback") == 1 and said.endswith("KeyboardInterrupt\n"), said


@pytest.mark.parametrize(("backend", "jobs"), [("sequential", 3), ("loky", 1)])
def test_a_single_process_runs_the_tasks_itself(backend: str, jobs: int) -> None:
    pids = list(run_all(lambda _: os.getpid(), range(4), backend=backend, jobs=jobs))
    assert pids == [os.getpid()] * 4


def test_a_backend_that_is_not_installed_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "ray", "no_such_package")
    with pytest.raises(BackendError, match="pip install no_such_package"):
        list(run_all(abs, [1], backend="ray", jobs=1))

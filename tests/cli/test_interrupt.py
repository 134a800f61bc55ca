"""Commands that are killed or stopped half-way, and go on when they are given again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from forked import Command

from cropfirst.cache import Cache

Ok = Callable[..., str]
Flags = tuple[str, ...]
Start = Callable[..., Command]
Ending = Callable[[Command, float], str]

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
SLOWLY = ("--set", "commit_photos=1", "--set", "batch_megapixels=0.1")
"""Batches of three photos, each kept. Batches decide the last bits of a box, so that a run that
goes on must come to the same ones."""


@contextmanager
def _stopped(
    process: Command,
    sign: signal.Signals,
    *,
    when: Callable[[], bool],
    ending: Ending,
) -> Iterator[str]:
    """Signal a process as soon as `when()` holds; gives what it said until its end."""
    deadline = time.monotonic() + 250
    try:
        while not when():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "the process did not come to the point in time"
            time.sleep(0.001)
        process.send_signal(sign)
        yield ending(process, 250)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_detect_that_is_stopped_again_and_again_ends_with_the_same_manifest(
    contest: Path, start: Start, ending: Ending, ok: Ok, detect_flags: Flags, tmp_path: Path
) -> None:
    ok("detect", contest, "--work", tmp_path / "whole", *detect_flags, *SLOWLY)
    cache = tmp_path / "stopped/cache"
    command = ("detect", contest, "--work", tmp_path / "stopped", *detect_flags, *SLOWLY)
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        before = len(list(cache.glob("detections/*/parts/*.parquet")))

        def begun(enough: int = before + 2) -> bool:
            return len(list(cache.glob("detections/*/parts/*.parquet"))) >= enough

        process = start(*command)
        with _stopped(process, sign, when=begun, ending=ending) as said:
            assert process.returncode == EXIT_CODES[sign] and "Traceback" not in said, said
            if sign is not signal.SIGKILL:
                word = "Stopped" if sign is signal.SIGINT else "Terminated"
                assert f"{word}. What was finished is kept: run the same command to go on." in said
    said = ok(*command)
    looked = int(said.partition("processed ")[2].split()[0])
    assert 0 < looked < 46, "some photos were done before, and some were not"
    kept, whole = Cache.open(cache).find(), Cache.open(tmp_path / "whole/cache").find()
    assert kept.name == whole.name and kept.verify() == []
    assert kept.manifest.path.read_bytes() == whole.manifest.path.read_bytes()


@pytest.mark.slow
def test_a_stopped_training_says_how_to_go_on(
    copied: Any, start: Start, ending: Ending, ok: Ok, train_flags: Flags
) -> None:
    run = ("train", copied.data, "--work", copied.work, "--task", "mask", *train_flags)
    run = (*run, "--epochs", "12", "--set", "optim.lr=1e-4")
    history = copied.runs / "mask-test_vit/fold0/history.csv"

    def epochs() -> int:
        return len(history.read_text().splitlines()) - 1 if history.is_file() else 0

    for sign in (signal.SIGINT, signal.SIGTERM):
        enough = epochs() + 2
        process = start(*run, "--set", "data.workers=1")
        with _stopped(process, sign, when=lambda n=enough: epochs() >= n, ending=ending) as said:
            assert process.returncode == EXIT_CODES[sign], said
            assert "Traceback" not in said and "run the same command to go on" in said
    # Without workers, since a test process, with other libraries' threads, is no place to fork.
    said = ok(*run, "--set", "data.workers=0")
    assert "epoch 12/12" in said and "epoch 1/12" not in said.partition("fold 1")[0]


@pytest.mark.slow
def test_detect_refuses_a_cache_that_a_live_process_writes_to(
    copied: Any, run: Callable[..., Any], detect_flags: Flags
) -> None:
    code = (
        "import sys; from pathlib import Path; from cropfirst.cache import Cache\n"
        "with Cache.open(Path(sys.argv[1])).lock():\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(copied.cache)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        said = run("detect", copied.data, "--work", copied.work, *detect_flags)
        holder.kill()
    assert f"process {holder.pid} on {os.uname().nodename}" in said.error
    assert "wait for it to end, or stop it" in said.error
    said = run("detect", copied.data, "--work", copied.work, *detect_flags)
    assert said.code == 0, "the lock of a killed process is free"

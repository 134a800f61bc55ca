"""Processes that are told to stop: as an exception, and in time even where cleaning up hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from cropfirst.core.stopping import Stopper, Terminated, signals_held

BOTH = pytest.mark.parametrize(
    ("sign", "code", "word"), [(signal.SIGINT, 130, "Stopped"), (signal.SIGTERM, 143, "Terminated")]
)
START = """
import sys, threading, time
from cropfirst.core.stopping import Stopper, Terminated
with Stopper("{word} here.", grace=float(sys.argv[1])) as stopper:
    lock = threading.Lock()
"""
HANGS = """
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        lock.acquire(), lock.acquire()
"""
SWALLOWS = """
    try:
        print("ready", flush=True)
        time.sleep(60)
    except BaseException:
        time.sleep(60)
"""
ENDS = """
    try:
        print("ready", flush=True)
        time.sleep(60)
    except (KeyboardInterrupt, Terminated):
        stopper.print_message()
        stopper.print_message()
        time.sleep(float(sys.argv[2]))
        sys.exit(stopper.code)
"""


def _stop(body: str, sign: signal.Signals, *arguments: float) -> tuple[int, str, float]:
    """Exit code, what was said and seconds until the end, of a process that is told to stop."""
    command = [sys.executable, "-c", START + body, *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        begun = time.monotonic()
        process.send_signal(sign)
        said = process.communicate(timeout=250)[0]
    return process.returncode, said, time.monotonic() - begun


@BOTH
@pytest.mark.parametrize("body", [HANGS, SWALLOWS], ids=["hangs", "swallows"])
def test_a_process_that_does_not_end_is_ended(
    body: str, sign: signal.Signals, code: int, word: str
) -> None:
    ended, said, seconds = _stop(body, sign, 0.5)
    assert (ended, said) == (code, f"{word} here.\n")
    assert seconds > 0.4, "it had its time to clean up"


@BOTH
def test_a_process_that_ends_by_itself_has_its_time_and_says_so_once(
    sign: signal.Signals, code: int, word: str
) -> None:
    ended, said, seconds = _stop(ENDS, sign, 40, 0.3)
    assert (ended, said) == (code, f"{word} here.\n")
    assert 0.3 <= seconds < 35


NOTICED = """
import hashlib, os, sys, time
from cropfirst.core.stopping import Stopper, Terminated
with Stopper("", notice="Stopping."):
    print("ready", flush=True)
"""


@BOTH
def test_the_notice_does_not_wait_for_a_long_call(
    sign: signal.Signals, code: int, word: str
) -> None:
    body = '    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 5_000_000)\n'
    with subprocess.Popen(
        [sys.executable, "-c", NOTICED + body], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        begun = time.monotonic()
        process.send_signal(sign)
        assert process.stdout.readline() == "Stopping.\n"
        noticed = time.monotonic() - begun
        rest = process.communicate(timeout=250)[0]
    assert noticed < (time.monotonic() - begun) / 2
    assert "Stopping.\n" not in rest, "once"


def test_a_signal_to_a_forked_child_gives_no_notice() -> None:
    body = """
    pid = os.fork()
    if pid == 0:
        try:
            time.sleep(30)
        finally:
            os._exit(0)
    time.sleep(0.2)
    os.kill(pid, 15)
    os.waitpid(pid, 0)
    time.sleep(0.2)
"""
    found = subprocess.run(
        [sys.executable, "-c", NOTICED + body], capture_output=True, text=True, timeout=250
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "ready\n", "")


def test_a_child_that_is_left_at_work_is_ended_too() -> None:
    body = """
    import multiprocessing
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(50,))
    child.start()
""" + HANGS.replace("lock.acquire(), ", "print(child.pid, flush=True), lock.acquire(), ")
    begun = time.monotonic()
    ended, said, _ = _stop(body, signal.SIGTERM, 0.5)
    assert ended == 143
    pid, rest = said.split("\n", 1)
    assert rest == "Terminated here.\n"
    while _lives(int(pid)):
        assert time.monotonic() < begun + 30
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_signals_do_what_they_did_before_once_the_work_is_done() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Stopper("") as stopper:
        assert signal.getsignal(signal.SIGTERM) not in before
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert stopper.code is None


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stopper(""):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_nothing_is_touched() -> None:
    seen: list[object] = []

    def work() -> None:
        with Stopper(""), signals_held():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_held_signals_come_when_the_block_is_done() -> None:
    steps: list[str] = []

    def come(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, come)
    try:
        with pytest.raises(Terminated), signals_held():
            signal.raise_signal(signal.SIGTERM)
            steps.append("done")
        assert signal.getsignal(signal.SIGTERM) is come
    finally:
        signal.signal(signal.SIGTERM, before)
    assert steps == ["done"]

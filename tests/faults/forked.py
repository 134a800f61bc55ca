"""Commands as processes of their own, forked from one that has imported torch and timm.

These imports take a command longer than the work that the tests give it. Signals, kills and locks
are tried on what comes after them.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

IMPORTS = (
    "torch._dynamo", "torch.utils.tensorboard", "timm", "albumentations", "numba", "cv2",
    "pydantic", "rich.console",
)  # fmt: skip
"""Imported before forking. Not polars: it starts threads, which a forked process would lack."""
_NUMBER = struct.Struct("<q")


class Command:
    """A command in a session of its own; it has what tests use of `subprocess.Popen`."""

    def __init__(self, words: list[str], environment: Mapping[str, str] | None = None) -> None:
        """Start a command with more environment variables than those of the tests."""
        self.args, self.returncode, self._said = words, None, b""
        self._answers, answers = socket.socketpair()
        self._output, output = os.pipe()
        request = {
            "words": words,
            "cwd": os.getcwd(),
            "environment": {**os.environ, **(environment or {})},
        }
        message = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(_server(), [message], [answers.fileno(), output])
        _server().sendall(message[sent:])
        answers.close()
        os.close(output)
        self.pid = _NUMBER.unpack(self._answers.recv(_NUMBER.size))[0]

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = _NUMBER.unpack(self._answers.recv(_NUMBER.size))[0]
        return self.returncode

    def communicate(self, timeout: float = 1e6) -> tuple[str, None]:
        end = time.monotonic() + timeout
        while select.select([self._output], [], [], max(end - time.monotonic(), 0))[0]:
            if not (part := os.read(self._output, 1 << 16)):
                self.wait(max(end - time.monotonic(), 0))
                return self._said.decode(), None
            self._said += part
        raise subprocess.TimeoutExpired(self.args, timeout, self._said)

    def send_signal(self, sign: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sign)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def __del__(self) -> None:
        self._answers.close()
        os.close(self._output)


@cache
def _server() -> socket.socket:
    """Start the process that forks; return the way to it, whose closing ends it."""
    ours, theirs = socket.socketpair()
    code = "import forked; forked.serve(); from cropfirst.cli import main; main()"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ, "PYTHONPATH": path, "PYTHONFAULTHANDLER": "1", "OMP_NUM_THREADS": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=subprocess.DEVNULL,
        start_new_session=True, env=environment,
    )  # fmt: skip
    theirs.close()
    atexit.register(server.kill)
    return ours


def serve() -> None:
    """Fork a process for every request; this returns in those processes alone."""
    for name in IMPORTS:
        import_module(name)
    requests = socket.socket(fileno=os.dup(0))
    while True:
        message, handles = b"", list[int]()
        while not message.endswith(b"\n"):
            part, found, _, _ = socket.recv_fds(requests, 1 << 16, 2)
            if not part:
                os._exit(0)
            message, handles = message + part, handles + found
        if os.fork() == 0:
            answers = socket.socket(fileno=handles[0])
            if (child := os.fork()) == 0:
                break
            os.close(handles[1])
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            with suppress(OSError):  # nobody waits for it
                answers.sendall(_NUMBER.pack(code))
            os._exit(0)
        for handle in handles:
            os.close(handle)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    requests.close()
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(handles[1], 1)
    os.dup2(handles[1], 2)
    os.close(handles[1])
    request = json.loads(message)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.argv = ["cropfirst", *request["words"]]
    answers.sendall(_NUMBER.pack(os.getpid()))
    answers.close()

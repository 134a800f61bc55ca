"""Turn SIGINT and SIGTERM into exceptions, and make sure that the process ends in time.

A signal's exception may be raised between any two steps, also while a library holds a lock, which
is then never released: cleaning up that needs the lock waits forever. This has happened with
`queue.Queue`, futures and TensorBoard's writer.

Knows signals and processes; knows nothing of commands.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import active_children
from types import FrameType
from typing import Any

GRACE = 20.0
"""Seconds for cleaning up; Kubernetes waits 30 s before it sends SIGKILL."""
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""Exit codes by which shells report a process that a signal ended."""
_NAMES = {signal.SIGINT: "Stopped", signal.SIGTERM: "Terminated"}


class Terminated(BaseException):
    """Raised by SIGTERM; like KeyboardInterrupt, it is not an ordinary error."""


def exit_code(stop: KeyboardInterrupt | Terminated) -> int:
    """Return the exit code of a command that was stopped in this way, and has ended its work."""
    return EXIT_CODES[signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT]


class Stopper:
    """A context in which SIGTERM raises `Terminated`, and a signalled process ends in time.

    It does nothing outside the main thread, which alone handles signals. An ignored SIGINT, as of a
    job in the background, stays ignored.

    Attributes:
        received: the first signal; None before there is one.
    """

    def __init__(self, message: str, *, notice: str = "", grace: float = GRACE) -> None:
        """Prepare the context.

        Args:
            message: text for stderr, printed once; `{word}` is Stopped or Terminated. May be empty.
            notice: text for stderr at the moment of the signal, even while a library's call runs
                for seconds, after which Python raises the exception. May be empty.
            grace: seconds from the signal until the process is ended.
        """
        self.received: signal.Signals | None = None
        self._message = message
        self._notice = notice
        self._wakeup: tuple[int, int] | None = None
        self._grace = grace
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            listened = [signal.SIGTERM]
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                listened.append(signal.SIGINT)
            self._before = {sign: signal.signal(sign, self._handle) for sign in listened}
            if self._notice:
                self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        # After a signal the process is about to end, and may be signalled again.
        if self.received is None:
            for sign, handler in self._before.items():
                signal.signal(sign, handler)
            if self._wakeup is not None:
                end, before = self._wakeup
                signal.set_wakeup_fd(before)
                os.close(end)  # which ends the thread

    @property
    def code(self) -> int | None:
        """The exit code for the received signal; None without one."""
        return None if self.received is None else EXIT_CODES[self.received]

    def print_message(self) -> None:
        """Print the message, unless it was printed before."""
        text, self._message = self._message.format(word=_NAMES[self.received or signal.SIGINT]), ""
        if text:
            # Not by sys.stderr, which a progress bar may have replaced by an object with locks.
            os.write(2, f"{text}\n".encode())

    def _listen(self) -> None:
        """Print the notice from a thread: Python runs handlers only between two steps of its own.

        The system's own handler writes the number of each signal to a pipe at once.
        """
        start, end = os.pipe()
        os.set_blocking(end, False)
        self._wakeup = end, signal.set_wakeup_fd(end, warn_on_full_buffer=False)
        _close_pipe_in_forks()
        _thread.start_new_thread(self._print_notice, (start, frozenset(self._before)))

    def _print_notice(self, pipe: int, signs: frozenset[signal.Signals]) -> None:
        while numbers := os.read(pipe, 64):
            if self._notice and signs.intersection(numbers):
                os.write(2, f"{self._notice}\n".encode())
                self._notice = ""
        os.close(pipe)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        sign = signal.Signals(number)
        if self.received is None and os.getpid() == self._process:  # not in a forked child
            self.received = sign
            # threading.Thread starts with the help of locks, which may be held.
            _thread.start_new_thread(self._end_process, (EXIT_CODES[sign],))
        if sign is signal.SIGINT:
            signal.default_int_handler(number, frame)
        raise Terminated

    def _end_process(self, code: int) -> None:
        time.sleep(self._grace)
        self.print_message()
        for child in active_children():
            child.terminate()
        os._exit(code)


@cache
def _close_pipe_in_forks() -> None:
    """Keep forked workers off the pipe: a signal to one of them is none to this process."""
    os.register_at_fork(after_in_child=_forget_wakeup)


def _forget_wakeup() -> None:
    with suppress(ValueError):  # not the main thread
        signal.set_wakeup_fd(-1)


@contextmanager
def signals_held() -> Iterator[None]:
    """Delay SIGINT and SIGTERM until the block ends, for short work under a library's locks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = {sign: signal.getsignal(sign) for sign in EXIT_CODES}
    ours = [sign for sign, handler in before.items() if callable(handler)]
    for sign in ours:
        signal.signal(sign, lambda number, _: received.append(number))
    try:
        yield
    finally:
        for sign in ours:
            signal.signal(sign, before[sign])
        for number in received:
            signal.raise_signal(number)

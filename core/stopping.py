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
from contextlib import contextmanager
from multiprocessing import active_children
from types import FrameType, TracebackType
from typing import Any

GRACE = 20.0
"""Seconds for cleaning up; Kubernetes waits 30 s before it sends SIGKILL."""
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""Exit codes by which shells report a process that a signal ended."""
_NAMES = {signal.SIGINT: "Stopped", signal.SIGTERM: "Terminated"}


class Terminated(BaseException):
    """Raised by SIGTERM; like KeyboardInterrupt, it is not an ordinary error."""


class Stopper:
    """A context in which SIGTERM raises `Terminated`, and a signalled process ends in time.

    It does nothing outside the main thread, which alone handles signals. An ignored SIGINT, as of a
    job in the background, stays ignored.

    Attributes:
        received: the first signal; None before there is one.
    """

    def __init__(self, message: str, *, grace: float = GRACE) -> None:
        """Prepare the context.

        Args:
            message: text for stderr, printed once; `{word}` is Stopped or Terminated. May be empty.
            grace: seconds from the signal until the process is ended.
        """
        self.received: signal.Signals | None = None
        self._message = message
        self._grace = grace
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            listened = [signal.SIGTERM]
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                listened.append(signal.SIGINT)
            self._before = {sign: signal.signal(sign, self._handle) for sign in listened}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After a signal the process is about to end, and may be signalled again.
        if self.received is None:
            for sign, handler in self._before.items():
                signal.signal(sign, handler)

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

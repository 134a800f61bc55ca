"""Being told to stop by SIGINT or SIGTERM: as an exception, and with an end that comes for certain.

A signal's exception may come between any two steps, also while a library has taken a lock: nobody
then gives it back, and whoever asks for it while cleaning up waits for ever. `queue.Queue`, futures
and TensorBoard's writer can all be left so.

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
"""Seconds for cleaning up. Kubernetes waits 30 before it sends SIGKILL."""
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""As a shell tells of a process that the signal ended."""
_NAMES = {signal.SIGINT: "Stopped", signal.SIGTERM: "Terminated"}


class Terminated(BaseException):
    """SIGTERM came. Like KeyboardInterrupt, no handler of ordinary errors must swallow it."""


class Stopper:
    """A context in which SIGTERM raises `Terminated`, and a process told to stop ends in time.

    Outside the main thread, which alone is told of signals, it does nothing. A SIGINT that is
    ignored, as by a job in the background, stays so.

    Attributes:
        came: the first signal; None while none did.
    """

    def __init__(self, message: str, *, grace: float = GRACE) -> None:
        """Get ready.

        Args:
            message: what to say on stderr, once; `{word}` is Stopped or Terminated. May be empty.
            grace: seconds from the signal until the process is ended as by SIGKILL.
        """
        self.came: signal.Signals | None = None
        self._message = message
        self._grace = grace
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            listened = [signal.SIGTERM]
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                listened.append(signal.SIGINT)
            self._before = {sign: signal.signal(sign, self._come) for sign in listened}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.came is None:  # else the process is about to end, and may be told so again
            for sign, handler in self._before.items():
                signal.signal(sign, handler)

    @property
    def code(self) -> int | None:
        """The exit code that tells of the signal; None while none came."""
        return None if self.came is None else EXIT_CODES[self.came]

    def say(self) -> None:
        """Say the message, if it was not said yet."""
        text, self._message = self._message.format(word=_NAMES[self.came or signal.SIGINT]), ""
        if text:
            # Past sys.stderr, which a progress bar may have replaced by a thing with locks.
            os.write(2, f"{text}\n".encode())

    def _come(self, number: int, frame: FrameType | None) -> None:
        sign = signal.Signals(number)
        if self.came is None and os.getpid() == self._process:  # no forked child's business
            self.came = sign
            # threading's own threads start with the help of locks, which may be the taken ones.
            _thread.start_new_thread(self._end, (EXIT_CODES[sign],))
        if sign is signal.SIGINT:
            signal.default_int_handler(number, frame)
        raise Terminated

    def _end(self, code: int) -> None:
        time.sleep(self._grace)
        self.say()
        for child in active_children():
            child.terminate()
        os._exit(code)


@contextmanager
def signals_held() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block is done: for short work on others' locks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {sign: signal.getsignal(sign) for sign in EXIT_CODES}
    ours = [sign for sign, handler in before.items() if callable(handler)]
    for sign in ours:
        signal.signal(sign, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for sign in ours:
            signal.signal(sign, before[sign])
        for number in came:
            signal.raise_signal(number)

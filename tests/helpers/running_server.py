"""A real server of `cropfirst serve` on this machine, in a thread of the tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cropfirst.door.serve.limits import ServeLimits
from cropfirst.door.serve.run import Address, Server


@contextmanager
def running(
    folder: Path, limits: ServeLimits, address: Address, *, review: Path | None = None
) -> Iterator[str]:
    """Run a server; give its address without the last slash."""
    server = Server(folder, address, limits, review=review)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.uvicorn.started:
        assert thread.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield server.url.rstrip("/")
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()

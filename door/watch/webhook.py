"""Send events to a URL, in a thread, so that a slow receiver never holds up a frame.

Knows HTTP and JSON; knows nothing of what an event is. No torch.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import deque
from typing import Any
from urllib.parse import urlsplit

from cropfirst.core.errors import DoorError
from cropfirst.core.text import count_of
from cropfirst.door.watch.sources import without_password

WAITING = 100
"""Events that may wait to be sent; more are dropped."""
ATTEMPTS = 5
FIRST_PAUSE = 0.5
"""Seconds between the first two attempts: doubled after each."""
TIMEOUT = 5.0
"""Seconds for one attempt."""
POLL = 0.05
"""Seconds after which the thread looks for new events."""
_REPEATED = {408, 425, 429, *range(500, 600)}
"""Status codes after which sending again may help."""


class Webhook:
    """A receiver of events, which gets each as one POST of JSON."""

    def __init__(self, url: str) -> None:
        """Start the thread that sends.

        Raises:
            DoorError: the URL is not one of http or https.
        """
        self.name = without_password(url)
        try:
            self._parts = urlsplit(url)
            is_usable = bool(self._parts.hostname) and self._parts.port != 0
        except ValueError:  # a port or an IPv6 address that is none
            is_usable = False
        if not is_usable or self._parts.scheme not in ("http", "https"):
            raise DoorError(
                f"--webhook wants a URL such as http://127.0.0.1:9000/door, got {self.name}"
            )
        self.sent = 0
        self.dropped = 0
        # No queue.Queue: Ctrl-C while the main thread holds its lock would lock the thread out.
        self._waiting: deque[dict[str, Any]] = deque()
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, event: dict[str, Any]) -> None:
        """Queue an event; it is dropped if too many wait already."""
        if len(self._waiting) < WAITING:
            self._waiting.append(event)
        else:
            self.dropped += 1

    def close(self, *, seconds: float = 10.0) -> str:
        """Send what waits, for `seconds` at most; return what became of all events."""
        self._deadline = time.monotonic() + seconds
        self._thread.join(seconds + TIMEOUT)
        lost = self.dropped + len(self._waiting)
        return f"{self.name}: {count_of(self.sent, 'event')} sent, {lost} dropped"

    def _run(self) -> None:
        while True:
            if not self._waiting:
                if self._deadline is not None:
                    return
                time.sleep(POLL)
            elif self._deliver(json.dumps(self._waiting[0]).encode()):
                self._waiting.popleft()
                self.sent += 1
            else:
                self._waiting.popleft()
                self.dropped += 1

    def _deliver(self, body: bytes) -> bool:
        pause = FIRST_PAUSE
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(pause)
                pause *= 2
            if self._deadline is not None and time.monotonic() > self._deadline:
                return False
            status = self._post(body)
            if status is not None and status not in _REPEATED:
                return 200 <= status < 300
        return False

    def _post(self, body: bytes) -> int | None:
        """Return the status code; None without an answer."""
        parts = self._parts
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request("POST", target, body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException, ValueError):  # ValueError: a name that is none
            return None
        finally:
            connection.close()

"""Whether the bundle still answers its golden photos as when it was exported. No torch."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from cropfirst.core.errors import BundleError
from cropfirst.door.bundle import Bundle
from cropfirst.door.check import check_golden

VALID_SECONDS = 10.0
"""Seconds for which a check holds: probes cannot be used to keep the server busy."""


class Health:
    """The newest check of a bundle."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        """Prepare; nothing is checked yet."""
        self._bundle, self._folder = bundle, folder
        self._lock = asyncio.Lock()
        self._checked: float | None = None
        self._is_right = False

    @property
    def is_warm(self) -> bool:
        """Whether the bundle has answered its golden photos right at least once."""
        return self._checked is not None and self._is_right

    async def is_right(self) -> bool:
        """Return whether the golden photos are answered right, now or some seconds ago."""
        async with self._lock:
            now = time.monotonic()
            if self._checked is None or now - self._checked > VALID_SECONDS:
                try:
                    found = await run_in_threadpool(check_golden, self._bundle, self._folder)
                    self._is_right = not found.problems
                except BundleError:
                    self._is_right = False
                self._checked = time.monotonic()
            return self._is_right

"""Whether the bundle still answers its golden photos as when it was exported. No torch."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from cropfirst.core.errors import BundleError
from cropfirst.door.bundle import Bundle
from cropfirst.door.check import check_golden

FAILED = "the golden photos are not answered as at the export; the server's output says more"
LOGGER = logging.getLogger(__name__)
VALID_SECONDS = 10.0
"""Seconds for which a check holds: probes cannot be used to keep the server busy."""


class Health:
    """The newest check of a bundle."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        """Prepare; nothing is checked yet."""
        self._bundle, self._folder = bundle, folder
        self._lock = asyncio.Lock()
        self._checked: float | None = None
        self.problem = "not warmed up"
        """That the newest check failed, or that there was none yet; "" where it was right."""

    async def is_right(self) -> bool:
        """Return whether the golden photos are answered right, now or some seconds ago."""
        async with self._lock:
            now = time.monotonic()
            if self._checked is None or now - self._checked > VALID_SECONDS:
                try:
                    found = await run_in_threadpool(check_golden, self._bundle, self._folder)
                    reason = str(found) if found.problems else ""
                except BundleError as error:
                    reason = str(error)
                if reason:  # it may name folders, which are nobody's business but the owner's
                    LOGGER.error("the check of the bundle failed: %s", reason)
                self.problem = FAILED if reason else ""
                self._checked = time.monotonic()
            return not self.problem

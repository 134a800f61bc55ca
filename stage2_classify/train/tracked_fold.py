"""The fold whose epochs a tracker records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cropfirst.core.files import write_atomic


@dataclass(frozen=True)
class TrackedFold:
    """Names and settings of a fold, for trackers."""

    run: str
    """Name of the run."""
    fold: int
    folder: Path
    """Folder of the fold, in which trackers save what a resumed run needs."""
    project: str
    config: Mapping[str, Any]
    """Resolved settings, JSON-able."""
    first_epoch: int
    """1, or the first epoch of a resumed run."""

    @property
    def name(self) -> str:
        """Name of the fold among those of all runs."""
        return f"{self.run}-fold{self.fold}"

    def recall(self, tracker: str) -> str | None:
        """Return the id under which a killed run logged; None for a new run."""
        found = self._read().get(tracker)
        return found if isinstance(found, str) else None

    def remember(self, tracker: str, value: str) -> None:
        """Save an id for `recall`."""
        text = json.dumps(self._read() | {tracker: value}, indent=2)
        write_atomic(self.folder / "trackers.json", text.encode())

    def _read(self) -> dict[str, Any]:
        path = self.folder / "trackers.json"
        try:
            data = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        except ValueError:
            return {}
        return data if isinstance(data, dict) else {}

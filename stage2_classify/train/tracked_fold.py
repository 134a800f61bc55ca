"""What a tracker is told of the fold whose epochs it records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cropfirst.core.files import write_atomic


@dataclass(frozen=True)
class TrackedFold:
    """What a tracker may say of the fold whose epochs it gets."""

    run: str
    """The run's name."""
    fold: int
    folder: Path
    """The fold's folder; a tracker keeps here what a resumed run needs of it."""
    project: str
    config: Mapping[str, Any]
    """The resolved settings, JSON-able."""
    first_epoch: int
    """1, or the epoch that a resumed run goes on with."""

    @property
    def name(self) -> str:
        """What the fold is called beside others."""
        return f"{self.run}-fold{self.fold}"

    def recall(self, tracker: str) -> str | None:
        """The id under which a killed run has begun to log; None for a new one."""
        found = self._read().get(tracker)
        return found if isinstance(found, str) else None

    def remember(self, tracker: str, value: str) -> None:
        """Keep an id for `recall`."""
        text = json.dumps(self._read() | {tracker: value}, indent=2)
        write_atomic(self.folder / "trackers.json", text.encode())

    def _read(self) -> dict[str, Any]:
        path = self.folder / "trackers.json"
        try:
            data = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        except ValueError:
            return {}
        return data if isinstance(data, dict) else {}

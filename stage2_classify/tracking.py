"""Where scalars of each epoch go: a CSV file and TensorBoard.

A tracker has `log(step, scalars)` and `close()`; it knows nothing of what the numbers mean.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from cropfirst.cache import write_atomic


class Tracker(Protocol):
    """What training asks of a tracker."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Record one epoch."""

    def close(self) -> None:
        """Write what is left."""


class CsvTracker:
    """A CSV file that is whole after every epoch, since each time it is written anew."""

    def __init__(self, path: Path, *, rows: Sequence[Mapping[str, float]] = ()) -> None:
        """Go on from `rows`, the epochs that a resumed run already has."""
        self.path = path
        self._rows: list[Mapping[str, float]] = list(rows)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Append one row and replace the file."""
        self._rows.append({"epoch": step, **scalars})
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(self._rows[0]))
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomic(self.path, text.getvalue().encode())

    def close(self) -> None:
        """Nothing is left."""


class TensorBoardTracker:
    """TensorBoard event files; epochs from `purge_step` on replace what a killed run left."""

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch.utils.tensorboard import SummaryWriter

            self._writer: Any = SummaryWriter(str(folder), purge_step=purge_step)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write one point per scalar."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class Trackers:
    """Several trackers as one; a context manager that closes them."""

    def __init__(self, *trackers: Tracker) -> None:
        self._trackers = trackers

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Pass one epoch on to all."""
        for tracker in self._trackers:
            tracker.log(step, scalars)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for tracker in self._trackers:
            tracker.close()

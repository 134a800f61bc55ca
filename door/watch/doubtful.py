"""Crops of doubtful tracks, kept for some days to be labelled (`--keep-doubtful`).

The folder is a data set of the layout `csv`: photos and a table with `path`, `group` (the track)
and an empty column for the label. A crop's name has the time at which it was taken; nothing else is
ever deleted. No torch.
"""

from __future__ import annotations

import calendar
import csv
import io
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cropfirst.core.errors import DoorError
from cropfirst.core.files import make_folder, write_atomic
from cropfirst.door.tracks import Event, Track
from cropfirst.door.watch.sources import Frame

TABLE = "labels.csv"
MARGIN = 0.5
"""Margin around the box, as a fraction of its longer side: the detector finds the face again."""
DAY = 86_400.0
PURGE_EVERY = 600.0
"""Seconds between two searches for expired crops."""
_TIME = "%Y%m%d-%H%M%S"
_NAME = re.compile(r"(\d{8}-\d{6})-[0-9a-f]{8}\.png")
"""Name of a crop: the time (UTC) at which it was taken, and a random part."""


@dataclass(frozen=True)
class _Best:
    """The best picture of a track so far."""

    size: float
    taken: float
    crop: np.ndarray


class DoubtfulCrops:
    """Keeps one crop of each track that was doubtful, and forgets all others."""

    def __init__(
        self, folder: Path, task: str, *, days: float, now: Callable[[], float] = time.time
    ) -> None:
        """Open the folder, and delete what has expired.

        Args:
            task: name of the label's column.
            days: age at which a crop is deleted, > 0.
            now: returns the Unix time.

        Raises:
            DoorError: the folder holds a table of another kind.
        """
        self.folder, self.kept = folder, 0
        self._columns = ["path", "group", task]
        self._days, self._now = days, now
        self._best: dict[int, _Best] = {}
        self._doubted: set[int] = set()
        make_folder(folder)
        self._purged = 0.0
        self.purge()

    def add(self, frame: Frame, tracks: Sequence[Track]) -> None:
        """Take in a frame, and the tracks after it."""
        for track in tracks:
            if track.state is not None or track.last_seen != frame.time:
                continue
            best = self._best.get(track.id)
            if best is None or track.size > best.size:
                self._best[track.id] = _Best(track.size, self._now(), cut(frame.image, track.box))

    def note(self, events: Sequence[Event]) -> None:
        """Take in what happened: a track that was doubtful and has ended is written."""
        for event in events:
            if event.event == "doubtful":
                self._doubted.add(event.track)
            elif event.event == "gone":
                best = self._best.pop(event.track, None)
                if event.track in self._doubted and best is not None:
                    self._write(best)
                self._doubted.discard(event.track)
        if self._now() - self._purged > PURGE_EVERY:
            self.purge()

    def purge(self) -> None:
        """Delete the crops that have expired, and their rows."""
        self._purged = self._now()
        rows = self._rows()
        old = {row["path"] for row in rows if self._is_old(row["path"])}
        if old:
            # First the table, which so never names a crop that is gone.
            self._save([row for row in rows if row["path"] not in old])
            for name in old:
                (self.folder / name).unlink(missing_ok=True)

    def _is_old(self, name: str) -> bool:
        """Return whether a file is a crop that has expired; other files never are."""
        found = _NAME.fullmatch(name)
        if found is None:
            return False
        taken = calendar.timegm(time.strptime(found[1], _TIME))
        return self._purged - taken > self._days * DAY

    def _write(self, best: _Best) -> None:
        group = f"{time.strftime(_TIME, time.gmtime(best.taken))}-{secrets.token_hex(4)}"
        is_encoded, data = cv2.imencode(".png", cv2.cvtColor(best.crop, cv2.COLOR_RGB2BGR))
        assert is_encoded, "PNG holds any array of bytes"
        write_atomic(self.folder / f"{group}.png", data.tobytes())
        self._save([*self._rows(), {"path": f"{group}.png", "group": group}])
        self.kept += 1

    def _rows(self) -> list[dict[str, str]]:
        path = self.folder / TABLE
        if not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            rows, columns = list(table), list(table.fieldnames or ())
        if not set(self._columns) <= set(columns):
            raise DoorError(
                f"{path} has the columns {columns}, wanted {self._columns}: give --keep-doubtful "
                "an empty folder, or one that it has written for this task"
            )
        self._columns = columns
        return rows

    def _save(self, rows: Sequence[dict[str, str]]) -> None:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, self._columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_atomic(self.folder / TABLE, text.getvalue().encode())


def cut(image: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Return a copy of the square around a box, as far as it is inside the picture."""
    x1, y1, x2, y2 = box
    half = (0.5 + MARGIN) * max(x2 - x1, y2 - y1)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    height, width = image.shape[:2]
    left, top = max(0, round(x - half)), max(0, round(y - half))
    right, bottom = min(width, round(x + half)), min(height, round(y + half))
    return image[top : max(bottom, top + 1), left : max(right, left + 1)].copy()

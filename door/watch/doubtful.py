"""Crops of doubtful tracks, kept for some days to be labelled (`--keep-doubtful`).

The folder is a data set of the layout `csv`: photos and a table with `path`, `group` (the track)
and an empty column for the label. Only crops that the table names are ever deleted. No torch.
"""

from __future__ import annotations

import csv
import io
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
        self._columns = ["path", "group", task, "expires"]
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
            size = min(track.box[2] - track.box[0], track.box[3] - track.box[1])
            best = self._best.get(track.id)
            if best is None or size > best.size:
                self._best[track.id] = _Best(size, self._now(), cut(frame.image, track.box))

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
        fresh = [row for row in rows if float(row["expires"]) > self._purged]
        if len(fresh) < len(rows):
            self._save(fresh)  # first the table: it never names a file that is gone
            for row in rows:
                if row not in fresh:
                    self._file(row["path"]).unlink(missing_ok=True)

    def _write(self, best: _Best) -> None:
        taken = time.strftime("%Y%m%d-%H%M%S", time.gmtime(best.taken))
        name = f"{taken}-{secrets.token_hex(4)}.png"
        is_encoded, data = cv2.imencode(".png", cv2.cvtColor(best.crop, cv2.COLOR_RGB2BGR))
        assert is_encoded, "PNG holds any array of bytes"
        write_atomic(self.folder / name, data.tobytes())
        expires = f"{best.taken + self._days * DAY:.0f}"
        group = name.removesuffix(".png")
        row = dict(zip(self._columns, (name, group, "", expires), strict=True))
        self._save([*self._rows(), row])
        self.kept += 1

    def _rows(self) -> list[dict[str, str]]:
        path = self.folder / TABLE
        if not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            rows = list(table)
        if table.fieldnames != self._columns:
            raise DoorError(
                f"{path} has the columns {table.fieldnames}, wanted {self._columns}: give "
                "--keep-doubtful an empty folder, or one that it has written for this task"
            )
        return rows

    def _save(self, rows: Sequence[dict[str, str]]) -> None:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, self._columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_atomic(self.folder / TABLE, text.getvalue().encode())

    def _file(self, name: str) -> Path:
        """Return the path of a crop; one outside of the folder is refused."""
        if Path(name).name != name:
            raise DoorError(f"{self.folder / TABLE} names a file outside of its folder: {name!r}")
        return self.folder / name


def cut(image: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Return a copy of the square around a box, as far as it is inside the picture."""
    x1, y1, x2, y2 = box
    half = (0.5 + MARGIN) * max(x2 - x1, y2 - y1)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    height, width = image.shape[:2]
    left, top = max(0, round(x - half)), max(0, round(y - half))
    right, bottom = min(width, round(x + half)), min(height, round(y + half))
    return image[top : max(bottom, top + 1), left : max(right, left + 1)].copy()

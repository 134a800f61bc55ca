"""The folder of crops to label, which `watch` fills and `serve --review` shows.

The folder is a data set of the layout `csv`: photos and a table with `path`, `group` (the track)
and a column for each task's label. Several processes may change it at once. The name of a crop has
the time at which it was taken, and `expiry.json` says after how many days it is deleted; no other
file is ever shown, changed or deleted. It knows no tracks and no requests. No torch.
"""

from __future__ import annotations

import calendar
import csv
import io
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cropfirst.core.errors import CacheLockedError, DoorError
from cropfirst.core.files import write_atomic
from cropfirst.core.lock import write_lock

TABLE = "labels.csv"
EXPIRY = "expiry.json"
DAY = 86_400.0
MAX_DAYS = 36_500.0
PURGE_EVERY = 600.0
"""Seconds between two searches for expired crops."""
LOCK_SECONDS = 10.0
"""Longest wait for another process that changes the table, which takes it milliseconds."""
_PAUSE = 0.02
_TOO_MANY = "\0"
"""Stands for the cells of a row beyond the last column."""
_TIME = "%Y%m%d-%H%M%S"
_NAME = re.compile(r"((\d{8}-\d{6})-[0-9a-f]{8})\.png")
"""Name of a crop: its id, which is the time (UTC) at which it was taken and a random part."""
_TORN = re.compile(rf"{_NAME.pattern}\.\d+\.tmp")
"""Name of a crop that a killed process did not write to its end."""


class UnknownCropError(LookupError):
    """There is no such crop, or none any more."""


@dataclass(frozen=True)
class StoredCrop:
    """One crop of the folder."""

    id: str
    taken: float
    """Unix time at which it was taken."""
    expires: float | None
    """Unix time from which on it is deleted; None where the folder has no expiry."""
    labels: Mapping[str, str]
    """Task -> label, "" without one."""


class CropFolder:
    """The crops of one folder, and their table."""

    def __init__(
        self, folder: Path, tasks: Sequence[str], *, now: Callable[[], float] = time.time
    ) -> None:
        """Open the folder.

        Args:
            tasks: names of the labels' columns. A table that is there needs one of them.
            now: returns the Unix time.

        Raises:
            DoorError: there is no folder, or it holds a table or an expiry of another kind.
        """
        if not folder.is_dir():
            raise DoorError(
                f"there is no folder {folder}: watch --keep-doubtful makes it, also before the "
                "first crop"
            )
        self.folder, self._tasks, self._now = folder, tuple(tasks), now
        self._read()
        self.days()

    def days(self) -> float | None:
        """Return the age in days at which a crop is deleted; None where the folder has none.

        Raises:
            DoorError: `expiry.json` does not say it.
        """
        path = self.folder / EXPIRY
        try:
            days = json.loads(path.read_bytes())["days"]
            if not 0 < days <= MAX_DAYS:
                raise ValueError(days)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DoorError(
                f'{path} does not say when crops expire: wanted {{"days": 30}}, or no such file'
            ) from error
        return float(days)

    def expire_after(self, days: float) -> None:
        """Delete crops after some days from now on; written down in the folder.

        Raises:
            DoorError: the days are not above 0, or more than MAX_DAYS.
        """
        if not 0 < days <= MAX_DAYS:
            raise DoorError(f"wanted 0 < days <= {MAX_DAYS:g} for the crops to stay, got {days:g}")
        if not (self.folder / EXPIRY).exists() or self.days() != days:
            write_atomic(self.folder / EXPIRY, json.dumps({"days": days}).encode())

    def add(self, image: np.ndarray, taken: float) -> None:
        """Add a crop, (H, W, 3) uint8 RGB, of a person who has no other crop here."""
        group = f"{time.strftime(_TIME, time.gmtime(taken))}-{secrets.token_hex(4)}"
        is_encoded, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        assert is_encoded, "PNG holds any array of bytes"
        write_atomic(self.folder / f"{group}.png", data.tobytes())
        with self._changing() as rows:
            rows.append({"path": f"{group}.png", "group": group})

    def crops(self) -> list[StoredCrop]:
        """Return the crops that are there and have not expired, the oldest first.

        Raises:
            DoorError: the table or the expiry is of another kind.
        """
        days = self.days()
        found = (self._crop(row, days) for row in self._read()[1])
        return sorted((each for each in found if each is not None), key=lambda each: each.id)

    def photo(self, crop_id: str) -> bytes:
        """Return the PNG file of a crop.

        Raises:
            UnknownCropError: there is none with this id.
        """
        self._find(crop_id, self._read()[1])
        # No link is followed, and nothing is waited for, whatever has taken the place of the file.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            with open(os.open(self.folder / f"{crop_id}.png", flags), "rb") as file:
                return file.read()
        except OSError as error:
            raise UnknownCropError(crop_id) from error

    def label(self, crop_id: str, labels: Mapping[str, str]) -> StoredCrop:
        """Set labels of a crop, "" for none; those of other tasks stay. Return the crop.

        Raises:
            UnknownCropError: there is none with this id.
        """
        with self._changing() as rows:
            self._find(crop_id, rows)
            for row in rows:
                if row["path"] == f"{crop_id}.png":
                    row.update(labels)
            found = self._find(crop_id, rows)
        return found

    def delete(self, crop_id: str) -> None:
        """Delete a crop and its row.

        Raises:
            UnknownCropError: there is none with this id.
        """
        with self._changing() as rows:
            self._find(crop_id, rows)
            rows[:] = [row for row in rows if row["path"] != f"{crop_id}.png"]
        (self.folder / f"{crop_id}.png").unlink(missing_ok=True)

    def purge(self) -> None:
        """Delete the crops that have expired, and their rows."""
        days = self.days()
        if days is None:
            return
        files = [path for path in self.folder.iterdir() if self._is_old(path.name, days)]
        if any(self._is_old(row["path"], days) for row in self._read()[1]):
            # First the table, which so never names a crop that is gone.
            with self._changing() as rows:
                rows[:] = [row for row in rows if not self._is_old(row["path"], days)]
        for path in files:
            with suppress(OSError):
                path.unlink()

    def _crop(self, row: Mapping[str, str], days: float | None) -> StoredCrop | None:
        """Return the crop of a row; None for another file, and for one that is gone or old."""
        name = _NAME.fullmatch(row["path"])
        taken = _time_of(row["path"])
        if name is None or taken is None or (days is not None and self._is_old(name[0], days)):
            return None
        try:
            if not stat.S_ISREG((self.folder / name[0]).lstat().st_mode):
                return None
        except OSError:
            return None
        labels = {task: (row.get(task) or "").strip() for task in self._tasks}
        return StoredCrop(name[1], taken, None if days is None else taken + days * DAY, labels)

    def _find(self, crop_id: str, rows: Sequence[Mapping[str, str]]) -> StoredCrop:
        days = self.days()
        for row in rows:
            if row["path"] == f"{crop_id}.png":
                found = self._crop(row, days)
                if found is not None:
                    return found
        raise UnknownCropError(crop_id)

    def _is_old(self, name: str, days: float) -> bool:
        """Return whether a file is a crop that has expired; other files never are."""
        taken = _time_of(name)
        return taken is not None and self._now() - taken > days * DAY

    @contextmanager
    def _changing(self) -> Iterator[list[dict[str, str]]]:
        """Yield the table's rows to be changed, and write them; nobody else writes meanwhile."""
        with _locked(self.folder):
            columns, rows = self._read()
            yield rows
            columns = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
            text = io.StringIO(newline="")
            table = csv.DictWriter(text, columns, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
            write_atomic(self.folder / TABLE, text.getvalue().encode())

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Return the columns and rows of the table; no rows where there is none."""
        path = self.folder / TABLE
        wanted = ["path", "group", *self._tasks]
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                table = csv.DictReader(file, restkey=_TOO_MANY, restval="")
                rows, columns = list(table), list(table.fieldnames or ())
        except FileNotFoundError:
            return wanted, []
        except (OSError, ValueError, csv.Error) as error:
            raise DoorError(f'{path} cannot be read: save it as "CSV UTF-8" ({error})') from error
        if not {"path", "group"} <= set(columns) or not set(self._tasks) & set(columns):
            raise DoorError(
                f"{path} has the columns {columns}, wanted path, group and "
                f"{' or '.join(self._tasks)}: give an empty folder, or one that watch "
                "--keep-doubtful has written for this task"
            )
        if len(set(columns)) != len(columns) or any(_TOO_MANY in row for row in rows):
            raise DoorError(
                f"{path} has a column twice, or a row with more cells than columns: mend it"
            )
        return columns, rows


def _time_of(name: str) -> float | None:
    """Return when the crop with a file's name was taken; None for another file."""
    found = _NAME.fullmatch(name) or _TORN.fullmatch(name)
    if found is None:
        return None
    try:
        return float(calendar.timegm(time.strptime(found[2], _TIME)))
    except ValueError:
        return None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; wait for a process that holds it.

    Raises:
        DoorError: it holds it for longer than LOCK_SECONDS.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(write_lock(folder))
                break
            except CacheLockedError as error:
                if time.monotonic() > deadline:
                    raise DoorError(f"{folder / TABLE} is being changed: {error}") from error
                time.sleep(_PAUSE)
        yield

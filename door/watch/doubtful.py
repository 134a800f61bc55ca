"""Crops of doubtful tracks, kept for some days to be labelled (`--keep-doubtful`).

It chooses the picture of each track; `door/crop_folder.py` keeps it. No torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cropfirst.core.files import make_folder
from cropfirst.door.crop_folder import PURGE_EVERY, CropFolder
from cropfirst.door.tracks import Event, Track
from cropfirst.door.watch.sources import Frame

MARGIN = 0.5
"""Margin around the box, as a fraction of its longer side: the detector finds the face again."""


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
        make_folder(folder)
        self.folder, self.kept = folder, 0
        self._crops = CropFolder(folder, [task], now=now)
        self._crops.expire_after(days)
        self._now = now
        self._best: dict[int, _Best] = {}
        self._doubted: set[int] = set()
        self._purge()

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
                    self._crops.add(best.crop, best.taken)
                    self.kept += 1
                self._doubted.discard(event.track)
        if self._now() - self._purged > PURGE_EVERY:
            self._purge()

    def _purge(self) -> None:
        self._purged = self._now()
        self._crops.purge()


def cut(image: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Return a copy of the square around a box, as far as it is inside the picture."""
    x1, y1, x2, y2 = box
    half = (0.5 + MARGIN) * max(x2 - x1, y2 - y1)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    height, width = image.shape[:2]
    left, top = max(0, round(x - half)), max(0, round(y - half))
    right, bottom = min(width, round(x + half)), min(height, round(y + half))
    return image[top : max(bottom, top + 1), left : max(right, left + 1)].copy()

"""Write rows and crops to the cache a batch at a time, crops first: a row promises its crop.

A kill between the two leaves a crop without a row, which the next run simply writes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cropfirst.cache import CropSet, Encoded, Manifest


class Commits:
    """Rows and crops on their way to the cache. Use `close` in a `finally`."""

    def __init__(self, detections: Manifest, crops: CropSet, *, every: int) -> None:
        self._detections, self._crops, self._every = detections, crops.manifest, every
        self._writer = crops.writer()
        self._detection_rows: list[dict[str, Any]] = []
        self._crop_rows: list[dict[str, Any]] = []
        self.rows = 0

    def put_crop(self, key: str, crop: Encoded) -> str:
        return self._writer.put(key, crop)

    def add(
        self, *, detection: dict[str, Any] | None = None, crop: dict[str, Any] | None = None
    ) -> None:
        self.add_batch([(detection, crop)])

    def add_batch(
        self, rows: Sequence[tuple[dict[str, Any] | None, dict[str, Any] | None]]
    ) -> None:
        """Add (detection, crop) rows that are kept together or not at all.

        Photos detected in one batch must be: the last bits of a net's output depend on what else
        is in the batch, and a run that goes on after a kill must come to the same batches.
        """
        self._detection_rows += [detection for detection, _ in rows if detection is not None]
        self._crop_rows += [crop for _, crop in rows if crop is not None]
        self.rows += len(rows)
        if max(len(self._detection_rows), len(self._crop_rows)) >= self._every:
            self.commit()

    def commit(self) -> None:
        self._writer.commit()
        self._crops.append(self._crop_rows)
        self._detections.append(self._detection_rows)
        self._crop_rows, self._detection_rows = [], []

    def close(self) -> None:
        """Keep what is finished, also after an exception or Ctrl-C."""
        try:
            self.commit()
        finally:
            self._writer.close()

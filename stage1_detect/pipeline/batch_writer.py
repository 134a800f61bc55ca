"""Write rows and crops to the cache a batch at a time, crops first, since a row promises its crop.

A kill between the two leaves a crop without a row, which the next run writes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cropfirst.cache import CropSet, Encoded, Manifest

Row = dict[str, Any]


class BatchWriter:
    """Collects rows and crops and commits them to the cache in batches.

    Call `close` in a `finally`, which commits what is finished.

    Attributes:
        rows: number of photos of which a row was added.
    """

    def __init__(self, detections: Manifest, crops: CropSet, *, every: int) -> None:
        """Open the crop set for writing.

        Args:
            every: number of rows after which a batch is committed.
        """
        self._detections, self._crops, self._every = detections, crops.manifest, every
        self._writer = crops.writer()
        self._detection_rows: list[Row] = []
        self._crop_rows: list[Row] = []
        self.rows = 0

    def put_crop(self, key: str, crop: Encoded) -> str:
        """Add the crop of a photo and return its hash."""
        return self._writer.put(key, crop)

    def add(self, *, detection: Row | None = None, crop: Row | None = None) -> None:
        """Add the rows of one photo."""
        self.add_batch([(detection, crop)])

    def add_batch(self, rows: Sequence[tuple[Row | None, Row | None]]) -> None:
        """Add (detection, crop) rows that are committed together; None for an unchanged row.

        Photos detected in one batch must be: the last bits of a network's output depend on the
        other photos of the batch, and a run that continues must form the same batches.
        """
        self._detection_rows += [detection for detection, _ in rows if detection is not None]
        self._crop_rows += [crop for _, crop in rows if crop is not None]
        self.rows += sum(row != (None, None) for row in rows)
        if max(len(self._detection_rows), len(self._crop_rows)) >= self._every:
            self.commit()

    def commit(self) -> None:
        """Write the open batch."""
        self._writer.commit()
        self._crops.append(self._crop_rows)
        self._detections.append(self._detection_rows)
        self._crop_rows, self._detection_rows = [], []

    def close(self) -> None:
        """Write the open batch and close the crop set, also after an exception or Ctrl-C."""
        try:
            self.commit()
        finally:
            self._writer.close()

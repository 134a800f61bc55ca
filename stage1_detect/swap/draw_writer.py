"""Write the crops and rows of several draws a batch at a time, crops before their rows.

Knows crop sets, rows and crops; knows nothing of how they are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cropfirst.cache import CropSet, Encoded

Row = dict[str, Any]

BATCH_BYTES = 64_000_000
"""Most bytes of the crops of an open batch."""


class DrawWriter:
    """Collects crops and rows, and commits them to their draws in batches.

    Call `close` in a `finally`, which commits what is finished.

    Attributes:
        rows: number of rows that were added.
    """

    def __init__(self, draws: Sequence[CropSet], *, every: int) -> None:
        """Open the draws for writing.

        Args:
            every: number of rows of a draw after which a batch is committed.
        """
        self._manifests = [draw.manifest for draw in draws]
        self._writers = [draw.writer() for draw in draws]
        self._batches: list[list[Row]] = [[] for _ in draws]
        self._every, self._held = every, 0
        self.rows = 0

    def add(self, draw: int, row: Row, crop: Encoded | None = None) -> None:
        """Add a row of a draw, and its crop, whose hash the row gets, if that is new."""
        if crop is not None:
            row = {**row, "crop_hash": self._writers[draw].put(row["key"], crop)}
            self._held += crop.nbytes
        self._batches[draw].append(row)
        self.rows += 1
        if len(self._batches[draw]) >= self._every or self._held >= BATCH_BYTES:
            self.commit()

    def commit(self) -> None:
        """Write the open batch."""
        for writer, manifest, batch in zip(
            self._writers, self._manifests, self._batches, strict=True
        ):
            writer.commit()
            manifest.append(batch)
            batch.clear()
        self._held = 0

    def close(self) -> None:
        """Write the open batch and close the draws, also after an exception or Ctrl-C."""
        try:
            self.commit()
        finally:
            for writer in self._writers:
                writer.close()

"""Store the cut-outs of photos, a batch at a time. Knows rows and cut-outs; knows no donors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from cropfirst.cache.cut_outs import cut_out_id
from cropfirst.stage1_detect.pipeline.progress import Progress
from cropfirst.stage1_detect.swap.read import HeadReader

BATCH_BYTES = 64_000_000
"""Most bytes of an open batch."""


def store_cut_outs(
    rows: Sequence[Mapping[str, Any]], reader: HeadReader, *, console: Console | None
) -> int:
    """Cut the heads out of the photos that have no stored cut-out, and store them.

    A photo that is gone or has changed gets none. A kill loses at most the open batch.

    Args:
        rows: crop rows of photos with a face of their own.
        reader: of photos; its store is written to.
        console: where progress is shown; None shows none.

    Returns:
        Number of cut-outs that were made.
    """
    pending = [row for row in rows if reader.about(row) is None]
    made, batch = 0, {}

    def encode(row: Mapping[str, Any]) -> bytes:
        cut_out = reader.new_cut_out(row)
        return b"" if cut_out is None else cut_out.to_bytes()

    if not pending:
        return 0
    try:
        with Progress(console, "cut out", total=len(pending)) as progress:
            for row, data in reader.in_threads(pending, encode, size_of=len):
                if data:
                    batch[cut_out_id(row)] = data
                    made += 1
                held = sum(map(len, batch.values()))
                if held >= BATCH_BYTES or len(batch) >= reader.config.commit_photos:
                    reader.store.put(batch)
                    batch = {}
                progress.advance(1)
    finally:
        reader.store.put(batch)
    return made

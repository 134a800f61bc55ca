"""Read the photos behind crop rows, and their cut-outs, in threads.

Knows files, rows and cut-outs; knows nothing of donors or draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from cropfirst.cache import Cache
from cropfirst.cache.cut_outs import CutOutStore, cut_out_id
from cropfirst.core.compositing import Image
from cropfirst.core.prefetch import available_cores, prefetch
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.crops.cut_out import CutOut, make_cut_out
from cropfirst.stage1_detect.crops.photo_reader import box_of, landmarks_of
from cropfirst.stage1_detect.photos.read import PhotoRef
from cropfirst.stage1_detect.pipeline.detect_batches import crop_bytes, single_threaded_kernels
from cropfirst.stage1_detect.pipeline.memory import memory_budget
from cropfirst.stage1_detect.pipeline.photo_reads import PhotoReads

Row = Mapping[str, Any]
T = TypeVar("T")


class HeadReader:
    """Reads photos and their cut-outs by crop rows; several threads may use it."""

    def __init__(self, cache: Cache, photos: Sequence[PhotoRef], config: DetectConfig) -> None:
        """Set the photos; opens none."""
        self.store = CutOutStore(cache.path)
        self.config = config
        self._paths = {photo.key: photo.path for photo in photos}
        self._budget = memory_budget(config, config.workers or available_cores())
        self._reads = PhotoReads(config.decode, self._budget, ahead=self._budget.batch_pixels)

    @contextmanager
    def photo(self, row: Row) -> Iterator[Image | None]:
        """Read the photo of a row, (H, W, 3) uint8 RGB; None if it is gone or has changed.

        A large photo waits until there is memory for it, which it holds during the block: no other
        photo may be read in the block.
        """
        path = self._paths[row["key"]]
        with self._reads.read_rest([path], [self._reads.read_ahead(path)]) as (read,):
            unchanged = read.photo is not None and read.photo.content_hash == row["content_hash"]
            yield read.photo.image if read.photo is not None and unchanged else None

    def cut_out(self, row: Row) -> CutOut | None:
        """Return the stored cut-out of a row's photo, or a new one; None as in `photo`."""
        return self.store.get(cut_out_id(row), CutOut.from_bytes) or self.new_cut_out(row)

    def new_cut_out(self, row: Row) -> CutOut | None:
        """Cut the head out of a row's photo; None as in `photo`."""
        with self.photo(row) as photo:
            return None if photo is None else make_cut_out(photo, box_of(row), landmarks_of(row))

    def about(self, row: Row) -> CutOut | None:
        """Return the stored cut-out of a photo without its pictures; None if there is none."""
        return self.store.peek(
            cut_out_id(row), lambda data: CutOut.from_bytes(data, pictures=False)
        )

    def in_threads(
        self, rows: Sequence[Row], work: Callable[[Row], T], *, size_of: Callable[[T], int]
    ) -> Iterator[tuple[Row, T]]:
        """Yield (row, result) in order, while threads work on the next rows.

        Args:
            size_of: returns the size of a result in bytes.
        """
        with single_threaded_kernels():
            yield from prefetch(
                rows,
                work,
                workers=self.config.workers,
                size_of=size_of,
                max_bytes=self._budget.crop_bytes,
                expected=crop_bytes(self.config),
            )

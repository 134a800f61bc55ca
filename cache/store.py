"""Write and read crops in LMDB files, with one shard per writer.

Knows photo keys and uint8 images; knows nothing of boxes, rows or labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from cropfirst.cache.encoding import (
    Encoded,
    Image,
    digest_of,
    encode_crop,
    set_written_at,
    value_hash,
    view_crop,
    written_at,
)
from cropfirst.cache.environment import Environment, environment
from cropfirst.core.errors import CacheCorruptError, CacheError, CacheMissingError
from cropfirst.core.files import make_folder

T = TypeVar("T")

MAX_BATCH_BYTES = 64_000_000
"""Size of the open batch of a writer, in bytes, from which on it is written."""


def shard_folder(folder: Path, shard: int | str) -> Path:
    """Return the folder of a shard, by its number or name."""
    return folder / (f"shard-{shard:03d}" if isinstance(shard, int) else f"shard-{shard}")


def shard_paths(folder: Path) -> list[Path]:
    """Return the folders of the shards of a crop set that are not empty."""
    return [path for path in sorted(folder.glob("shard-*")) if _has_data(path)]


class CropWriter:
    """Writes crops to one shard, a batch at a time.

    A batch is held in memory until `commit`, which writes all of it or nothing: a kill loses at
    most the open batch. Commit crops before the rows that refer to them. A `with` block commits at
    its end, but not after an exception. A batch that has grown large is committed by itself, so
    that large crops do not fill the memory.
    """

    def __init__(
        self,
        folder: Path,
        shard: int | str = 0,
        *,
        older: Sequence[Path] | None = None,
        written: int | None = None,
    ) -> None:
        """Open a shard for writing, and create it if there is none.

        Args:
            folder: folder of the crop set.
            shard: number or name of the shard; two writers must not share one.
            older: shards that may hold crops of the same photos; None means all others. If several
                machines write at once, only those that none of them writes to: LMDB does not allow
                a reader on another machine than its writer.
            written: time of the crops in ns since 1970, for machines whose clocks differ; None
                means the clock of this machine.
        """
        self._older, self._written = older, written
        path = shard_folder(folder, shard)
        make_folder(path)
        self._path = path
        self._env: Environment | None = environment(path)
        self._env.open_for_writing()
        self._batch: dict[bytes, memoryview] = {}
        self._batch_bytes = 0

    def put(self, key: str, crop: Image | Encoded) -> str:
        """Add a crop to the open batch.

        Args:
            key: key of the photo.
            crop: (H, W, 3) uint8 RGB, which is copied; or the result of `encode_crop`, so that
                other threads can encode.

        Returns:
            Hash of shape and pixels, 32 hex characters.

        Raises:
            ValueError: the image has another shape or type.
            CacheError: the batch was large, and could not be written.
        """
        encoded = crop if isinstance(crop, Encoded) else encode_crop(crop)
        if self._written is not None:
            set_written_at(encoded.value, self._written)
        self._batch[digest_of(key)] = encoded.value
        self._batch_bytes += encoded.nbytes
        if self._batch_bytes >= MAX_BATCH_BYTES:
            self.commit()
        return encoded.hash

    def commit(self) -> None:
        """Write the open batch to disk.

        Raises:
            CacheError: the disk is full, or refuses the write, or the shard is gone; the batch
                stays open.
        """
        if self._env is None:
            raise ValueError("this CropWriter is closed: open another")
        if self._batch:
            self._outdate_other_shards()
            self._env.write(self._batch)
            self._batch, self._batch_bytes = {}, 0

    def _outdate_other_shards(self) -> None:
        """Give crops a later time than those of the same photos in other shards.

        The latest crop of a photo counts, but clocks may differ, or be set back.
        """
        others = shard_paths(self._path.parent) if self._older is None else self._older
        others = [path for path in others if path != self._path]
        for shard in map(environment, others):
            for digest, value in self._batch.items():
                written = shard.get(digest, written_at)
                if written is not None and written >= written_at(value):
                    set_written_at(value, written + 1)

    def close(self) -> None:
        """Release the shard and drop the open batch."""
        self._batch, self._batch_bytes = {}, 0
        self._env = None

    def __enter__(self) -> CropWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()


class CropReader:
    """Reads the crops of all shards of a crop set, also while a writer is at work.

    Opens the shards on first use, and again in a forked or spawned process; pickles only its
    folder. If two shards hold a key, the later crop counts.
    """

    def __init__(self, folder: Path) -> None:
        """Set the folder of the crop set; opens nothing."""
        self.folder = folder
        self._shards: dict[Path, Environment] = {}

    def __getitem__(self, key: str) -> Image:
        """Return a copy of the crop of a photo, (H, W, 3) uint8 RGB.

        Raises:
            CacheMissingError: there is no such crop.
            CacheCorruptError: the stored value is not a crop.
        """
        return self._decoded(key, lambda value: view_crop(value).copy())

    def read_into(self, key: str, out: Image) -> bool:
        """Copy the crop of a photo to `out`, (H, W, 3) uint8, in a third of the time of `[]`.

        Returns:
            False, and `out` is unchanged, if the crop has another shape.

        Raises:
            CacheMissingError: there is no such crop.
            CacheCorruptError: the stored value is not a crop.
        """

        def copy(value: memoryview) -> bool:
            crop = view_crop(value)
            if crop.shape != out.shape:
                return False
            np.copyto(out, crop)
            return True

        return self._decoded(key, copy)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._newest(digest_of(key)) is not None

    def __len__(self) -> int:
        shards = self._open_shards()
        if len(shards) == 1:
            return shards[0].count()
        return len({digest for shard in shards for digest in shard.list_keys()})

    def crop_hash(self, key: str) -> str:
        """Return the hash of the stored crop, which `put` returned for it.

        Raises:
            CacheMissingError: there is no such crop.
        """
        return self._read(key, value_hash)

    def close(self) -> None:
        """Release the shards; a later read opens them again."""
        self._shards = {}

    def __getstate__(self) -> dict[str, Path]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.folder = state["folder"]
        self._shards = {}

    def _decoded(self, key: str, decode: Callable[[memoryview], T]) -> T:
        try:
            return self._read(key, decode)
        except ValueError as error:
            raise CacheCorruptError(
                f"the crop of {key!r} in {self.folder} is damaged ({error}): run cropfirst "
                "verify DATA --repair"
            ) from error

    def _read(self, key: str, decode: Callable[[memoryview], T]) -> T:
        digest = digest_of(key)
        found: T | None = None
        if len(self._shards) == 1:
            (only,) = self._shards.values()
            found = only.get(digest, decode)
        if found is None:
            # Open shards first: listing the folder costs more than reading a crop.
            newest = _newest_of(list(self._shards.values()), digest) or self._newest(digest)
            found = None if newest is None else newest.get(digest, decode)
        if found is None:
            raise CacheMissingError(f"no crop of {key!r} in {self.folder}: run detect first")
        return found

    def _newest(self, digest: bytes) -> Environment | None:
        """Return the shard with the latest crop of a key."""
        return _newest_of(self._open_shards(), digest)

    def _open_shards(self) -> list[Environment]:
        """Return all shards, including those created since the last call."""
        for path in shard_paths(self.folder):
            if path not in self._shards:
                try:
                    self._shards[path] = environment(path)
                except CacheError:
                    if path.exists():  # otherwise merge_shards has merged it into another
                        raise
        return list(self._shards.values())


def _newest_of(shards: Sequence[Environment], digest: bytes) -> Environment | None:
    best, latest = None, -1
    for shard in shards:
        written = shard.get(digest, written_at)
        if written is not None and written > latest:
            best, latest = shard, written
    return best


def _has_data(shard: Path) -> bool:
    try:
        return (shard / "data.mdb").stat().st_size > 0
    except FileNotFoundError:
        return False

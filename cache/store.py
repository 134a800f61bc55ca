"""Crops in LMDB: raw pixels behind a small header, in one shard a writer.

Knows photo keys and uint8 images; knows nothing of boxes, rows or labels.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from cropfirst.cache.environment import Environment, environment
from cropfirst.core.errors import CacheCorruptError, CacheError, CacheMissingError
from cropfirst.core.files import make_folder
from cropfirst.core.fingerprint import content_hash

T = TypeVar("T")
Image = npt.NDArray[np.uint8]

# When it was written (ns), magic, version, encoding, channels, 0, height, width.
_HEADER = struct.Struct("<Q4sBBBxII")
_STAMP = struct.Struct("<Q")
_MAGIC = b"crop"
_VERSION = 1
_RAW = 0


def shard_folder(folder: Path, shard: int | str) -> Path:
    """Where a shard of a crop set lives, by its number or name."""
    return folder / (f"shard-{shard:03d}" if isinstance(shard, int) else f"shard-{shard}")


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a crop set that hold anything."""
    return [path for path in sorted(folder.glob("shard-*")) if _has_data(path)]


class CropWriter:
    """Writes crops to one shard, a batch at a time.

    A batch is held in memory until `commit` and is then written whole: a kill loses at most the
    open batch. Commit the crops before the rows that speak of them. As a context manager it commits
    at the end, but not after an exception.
    """

    def __init__(
        self,
        folder: Path,
        shard: int | str = 0,
        *,
        older: Sequence[Path] | None = None,
        written: int | None = None,
    ) -> None:
        """Open a shard for writing, making it if need be.

        Args:
            folder: the crop set's folder.
            shard: number or name of the shard; two writers at work must not share one.
            older: the shards that may hold crops of the same photos; None is all others. Where
                several machines write at once, those that none of them writes to: LMDB bears no
                reader on another machine than its writer's.
            written: the date of what is put, in ns since 1970; None is the clock's. Machines whose
                clocks differ get one from the same clock.
        """
        self._older, self._written = older, written
        path = shard_folder(folder, shard)
        make_folder(path)
        self._path = path
        self._env: Environment | None = environment(path)
        self._env.open_for_writing()
        self._batch: dict[bytes, memoryview] = {}

    def put(self, key: str, crop: Image | Encoded) -> str:
        """Add a crop to the open batch.

        Args:
            key: the photo's key, of any length.
            crop: (H, W, 3) uint8 RGB, copied, so that the caller may reuse it; or what
                `encode_crop` made of it, in a thread with less to do than this one's.

        Returns:
            The hash of its shape and pixels, 32 hex characters.

        Raises:
            ValueError: the image has another shape or type.
        """
        encoded = crop if isinstance(crop, Encoded) else encode_crop(crop)
        if self._written is not None:
            _STAMP.pack_into(encoded.value, 0, self._written)
        self._batch[digest_of(key)] = encoded.value
        return encoded.hash

    def commit(self) -> None:
        """Write the open batch to disk and begin the next.

        Raises:
            CacheError: the disk is full, or refuses the write, or the shard is gone; the batch
                stays open.
        """
        if self._env is None:
            raise ValueError("this CropWriter is closed: open another")
        if self._batch:
            self._outdate_other_shards()
            self._env.write(self._batch)
            self._batch = {}

    def _outdate_other_shards(self) -> None:
        """Where another shard has a crop of later date (clocks differ, or are set back), date ours
        after it: the crop that was written last is the one that counts."""
        others = shard_paths(self._path.parent) if self._older is None else self._older
        others = [path for path in others if path != self._path]
        for shard in map(environment, others):
            for digest, value in self._batch.items():
                written = shard.get(digest, written_at)
                if written is not None and written >= written_at(value):
                    _STAMP.pack_into(value, 0, written + 1)

    def close(self) -> None:
        """Let go of the shard; an open batch is dropped."""
        self._batch = {}
        self._env = None

    def __enter__(self) -> CropWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()


class CropReader:
    """Reads the crops of all shards of a crop set, also while a writer writes.

    Opens on first use, again in a forked or spawned process, and pickles by its folder only. Where
    two shards hold a key, the later crop counts.
    """

    def __init__(self, folder: Path) -> None:
        """Name the crop set's folder; opens nothing yet."""
        self.folder = folder
        self._shards: dict[Path, Environment] = {}

    def __getitem__(self, key: str) -> Image:
        """The crop of a photo, (H, W, 3) uint8 RGB, the caller's own copy.

        Raises:
            CacheMissingError: there is no such crop.
            CacheCorruptError: what is stored is no crop.
        """
        return self._decoded(key, decode_crop)

    def read_into(self, key: str, out: Image) -> bool:
        """Copy the crop of a photo to `out`, (H, W, 3) uint8: no new memory, a third of the time.

        Returns:
            False, with nothing written, where the crop has another shape.

        Raises:
            CacheMissingError: there is no such crop.
            CacheCorruptError: what is stored is no crop.
        """

        def copy(value: memoryview) -> bool:
            crop = _view(value)
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
        """The hash of the crop as it is stored now, to hold against the one `put` returned.

        Raises:
            CacheMissingError: there is no such crop.
        """
        return self._read(key, value_hash)

    def close(self) -> None:
        """Let go of the shards; a later read opens them again."""
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
                f"the crop of {key!r} in {self.folder} is damaged ({error}): run cli.py "
                "verify DATA --repair"
            ) from error

    def _read(self, key: str, decode: Callable[[memoryview], T]) -> T:
        digest = digest_of(key)
        found: T | None = None
        if len(self._shards) == 1:
            (only,) = self._shards.values()
            found = only.get(digest, decode)
        if found is None:
            # Those that are open first: listing the folder costs more than reading a crop.
            newest = _newest_of(list(self._shards.values()), digest) or self._newest(digest)
            found = None if newest is None else newest.get(digest, decode)
        if found is None:
            raise CacheMissingError(f"no crop of {key!r} in {self.folder}: run detect first")
        return found

    def _newest(self, digest: bytes) -> Environment | None:
        """The shard with the latest crop of a key."""
        return _newest_of(self._open_shards(), digest)

    def _open_shards(self) -> list[Environment]:
        """All shards that are there by now; those begun since the last look are found here."""
        for path in shard_paths(self.folder):
            if path not in self._shards:
                try:
                    self._shards[path] = environment(path)
                except CacheError:
                    if path.exists():  # else it was merged into another, see merge_shards
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


def digest_of(key: str) -> bytes:
    """The 16 bytes under which the crop of a photo is kept."""
    # LMDB's keys end at 511 bytes; paths do not.
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).digest()


@dataclass(frozen=True)
class Encoded:
    """A crop as it is stored."""

    value: memoryview
    hash: str
    """Of its shape and pixels, 32 hex characters."""

    @property
    def nbytes(self) -> int:
        return self.value.nbytes


def encode_crop(image: Image) -> Encoded:
    """A crop, (H, W, 3) uint8 RGB, as it is stored, written now.

    Raises:
        ValueError: the image has another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"a crop is (H, W, 3) uint8, got {image.shape} {image.dtype}")
    height, width, channels = image.shape
    value = np.empty(_HEADER.size + image.size, np.uint8)
    header = (
        time.time_ns(),
        _MAGIC,
        _VERSION,
        _RAW,
        channels,
        height,
        width,
    )
    _HEADER.pack_into(value.data, 0, *header)
    value[_HEADER.size :].reshape(image.shape)[...] = image
    return Encoded(value.data, value_hash(value.data))


def decode_crop(value: memoryview) -> Image:
    """The crop in a stored value, (H, W, 3) uint8 RGB, copied.

    Raises:
        ValueError: it is none.
    """
    return _view(value).copy()


def _view(value: memoryview) -> Image:
    """The crop in the store's own memory."""
    height, width = shape_of(value)
    flat = np.frombuffer(value, np.uint8, offset=_HEADER.size)
    return flat.reshape(height, width, -1)


def shape_of(value: memoryview) -> tuple[int, int]:
    """Height and width of the crop in a stored value.

    Raises:
        ValueError: it is none.
    """
    if len(value) < _HEADER.size:
        raise ValueError(f"{len(value)} bytes are too few")
    _, magic, version, encoding, channels, height, width = _HEADER.unpack_from(value)
    if (magic, version, encoding) != (_MAGIC, _VERSION, _RAW):
        raise ValueError("its header is not one of this version")
    size = height * width * channels
    if len(value) != _HEADER.size + size or not size:
        raise ValueError(f"{len(value)} bytes do not hold {height}x{width}x{channels}")
    return height, width


def value_hash(value: memoryview) -> str:
    """Hash of a stored value without the time it was written at."""
    return content_hash(value[_STAMP.size :])


def written_at(value: memoryview) -> int:
    """When a stored value was written, in ns since 1970."""
    return int(_STAMP.unpack_from(value)[0]) if len(value) >= _STAMP.size else 0

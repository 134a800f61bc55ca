"""Store the cut-outs of photos: heads and backgrounds that are made once and used several times.

    cut-outs/data.mdb, lock.mdb       id of a photo and its face -> a cut-out

Knows bytes and the rows that they belong to; knows nothing of what the bytes show. Every value can
be made again, so one that is damaged counts as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cropfirst.cache.environment import Environment, environment
from cropfirst.core.files import make_folder
from cropfirst.core.fingerprint import content_hash, fingerprint

T = TypeVar("T")

CUT_OUTS = "cut-outs"
"""Name of the folder in the cache."""
_HASH_BYTES = 16


def cut_out_id(row: Mapping[str, Any]) -> str:
    """Return the id of the cut-out of a crop row: a hash of its photo, box and landmarks."""
    return fingerprint({name: row[name] for name in ("content_hash", "box", "landmarks")})


class CutOutStore:
    """Reads and writes the cut-outs of a cache."""

    def __init__(self, cache: Path) -> None:
        """Set the cache folder; opens nothing."""
        self.folder = cache / CUT_OUTS
        self._env: Environment | None = None

    def get(self, name: str, decode: Callable[[memoryview], T]) -> T | None:
        """Return `decode(bytes)` of the cut-out with an id; None if there is none.

        A cut-out that is damaged, or that `decode` cannot read, counts as missing.

        Args:
            decode: must copy what it keeps; raises ValueError for bytes that it cannot read.

        Raises:
            CacheCorruptError: the store cannot be read.
        """
        return self._get(name, lambda value: None if cut_out_fault(value) else value, decode)

    def peek(self, name: str, decode: Callable[[memoryview], T]) -> T | None:
        """Return what `get` returns, without checking the bytes, so that few of them are read."""
        return self._get(name, lambda value: value, decode)

    def _get(
        self,
        name: str,
        check: Callable[[memoryview], memoryview | None],
        decode: Callable[[memoryview], T],
    ) -> T | None:
        def read(value: memoryview) -> T | None:
            checked = check(value)
            try:
                return None if checked is None else decode(checked[_HASH_BYTES:])
            except ValueError:
                return None

        env = self._open()
        return None if env is None else env.get(name.encode(), read)

    def put(self, cut_outs: Mapping[str, bytes]) -> None:
        """Write cut-outs in one transaction, all or none of them; hold the cache's lock.

        Raises:
            CacheError: the disk is full, or refuses the write.
        """
        if not cut_outs:
            return
        make_folder(self.folder)
        self._env = self._env or environment(self.folder)
        self._env.write(
            {
                name.encode(): bytes.fromhex(content_hash(data)) + data
                for name, data in cut_outs.items()
            }
        )

    def _open(self) -> Environment | None:
        """Return the open store; None if there is none yet."""
        if self._env is None and (self.folder / "data.mdb").is_file():
            self._env = environment(self.folder)
        return self._env


def cut_out_fault(value: memoryview) -> str:
    """Return why the bytes of a stored cut-out are not those that were written; "" if they are."""
    good = bytes.fromhex(content_hash(value[_HASH_BYTES:])) == bytes(value[:_HASH_BYTES])
    return "" if good else "its hash is not that of its bytes"

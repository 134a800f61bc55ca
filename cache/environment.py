"""Open LMDB files once per process, and share them between readers and the writer.

LMDB forbids opening a file twice in one process, and using an open one after a fork. So this module
keeps the open ones: they are shared while in use, closed in a forked child, and opened again on
the next use. Knows byte keys and values; knows nothing of images.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import lmdb

from cropfirst.core.errors import CacheCorruptError, CacheError

T = TypeVar("T")

START_MAP = 64 << 20
_MAX_READERS = 1024
_LOCK_BYTES = 64 * _MAX_READERS + 4096
_FIX = "run cropfirst verify DATA --repair"

_open: WeakValueDictionary[tuple[int, int], Environment] = WeakValueDictionary()
_open_guard = threading.RLock()


class Environment:
    """The LMDB file of a shard, opened on first use and again after a fork. Thread-safe.

    Reads hold one lock and writes another, so that threads can read during a commit. Closing or
    remapping the file holds both.
    """

    def __init__(self, folder: Path) -> None:
        """Set the folder; call `environment` instead, which shares open files."""
        self.folder = folder
        self.reading = threading.RLock()
        self.writing = threading.RLock()
        self._env: Any = None
        self._writable = False
        self._file: tuple[int, int] | None = None

    def get(self, key: bytes, decode: Callable[[memoryview], T]) -> T | None:
        """Return `decode(value)` for the value of `key`; None if there is none.

        `decode` must copy what it keeps: the memory is LMDB's own.
        """
        with self.reading, self._damage_named(), self._begin_read() as txn:
            value = txn.get(key)
            return None if value is None else decode(value)

    @property
    def is_open(self) -> bool:
        """Whether the file is open in this process."""
        return self._env is not None

    def list_keys(self) -> list[bytes]:
        """Return all keys, in byte order."""
        with self.reading, self._damage_named(), self._begin_read() as txn:
            return [bytes(key) for key in txn.cursor().iternext(keys=True, values=False)]

    def count(self) -> int:
        """Return the number of keys."""
        with self.reading, self._begin_read() as txn:
            return int(txn.stat()["entries"])

    def write(self, items: Mapping[bytes, Any]) -> None:
        """Put all items in one transaction; after a kill, all or none of them are stored.

        Raises:
            CacheError: the disk is full or refuses the write, or the file is gone.
        """
        self._change(lambda txn: [txn.put(key, value) for key, value in items.items()])

    def delete(self, keys: Iterable[bytes]) -> None:
        """Delete the values of these keys in one transaction.

        Raises:
            CacheError: the disk is full or refuses the write, or the file is gone.
        """
        gone = list(keys)
        self._change(lambda txn: [txn.delete(key) for key in gone])

    def _change(self, change: Callable[[Any], object]) -> None:
        with self.writing:
            while True:
                try:
                    self.open_for_writing()
                    self._check_in_place()
                    with self._env.begin(write=True) as txn:
                        change(txn)
                    return
                except lmdb.MapFullError:
                    self._remap(2 * int(self._env.info()["map_size"]))
                except lmdb.MapResizedError:
                    self._remap(0)
                except lmdb.Error as error:
                    raise CacheError(
                        f"cannot write crops to {self.folder}: {error}. Is the disk full, or the "
                        "folder read-only?"
                    ) from error

    def open_for_writing(self) -> None:
        """Create and open the file now, so that a folder that refuses writes is noticed early."""
        with self.writing, self.reading:
            if not self._writable:
                self.close()
                self._writable = True
            if self._env is None:
                self._env = self._open()
                # Killed readers leave slots behind, which would keep old pages from being reused.
                self._env.reader_check()

    def close(self) -> None:
        """Close the file; the next use opens it for reading."""
        with self.writing, self.reading:
            if self._env is not None:
                self._env.close()
            self._env = None
            self._writable = False

    def _check_in_place(self) -> None:
        """Refuse to write to a file that was deleted or replaced, where nothing would find it."""
        try:
            found = _identity(self.folder)
        except OSError:
            found = None
        if found != self._file:
            raise CacheError(
                f"{self.folder} is gone: it was deleted or moved while this process wrote to it; "
                "run the same command again"
            )

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        """Turn errors of LMDB into CacheCorruptError."""
        try:
            yield
        except lmdb.Error as error:
            raise CacheCorruptError(
                f"the crops in {self.folder} are damaged ({error}): {_FIX}"
            ) from error

    def _remap(self, size: int) -> None:
        with self.reading:
            self._env.set_mapsize(size)

    def _begin_read(self) -> Any:
        """Begin a read transaction; the caller holds `reading`."""
        if self._env is None:
            self._env = self._open()
        try:
            return self._env.begin(buffers=True)
        except lmdb.MapResizedError:
            # Another process enlarged the file; without a transaction of ours the map may move.
            self._env.set_mapsize(0)
            return self._env.begin(buffers=True)

    def _open(self) -> Any:
        writable = self._writable
        # In a folder that refuses writes there is no slot to take in the lock file.
        lock = writable or os.access(self.folder, os.W_OK)
        new = writable and not _has_pages(self.folder)
        try:
            if lock:
                _allocate_lock(self.folder / "lock.mdb")
            env = lmdb.open(
                str(self.folder),
                map_size=START_MAP,
                readonly=not writable,
                create=writable,
                readahead=False,
                meminit=False,
                max_readers=_MAX_READERS,
                # A spare transaction would keep a slot that a forked child would share.
                max_spare_txns=0,
                lock=lock,
            )
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
            raise CacheCorruptError(
                f"the crops in {self.folder} cannot be opened ({error}): {_FIX}"
            ) from error
        except (lmdb.Error, OSError) as error:
            if new:  # a full disk may leave half of the first pages, which cannot be opened
                (self.folder / "data.mdb").unlink(missing_ok=True)
            raise CacheError(f"the crops in {self.folder} cannot be opened: {error}") from error
        try:
            _check_length(env, self.folder)
        except BaseException:
            env.close()
            raise
        self._file = _identity(self.folder)
        return env


def environment(folder: Path) -> Environment:
    """Return the environment of the shard in `folder`, the open one if this process has it."""
    _watch_forks()
    folder = folder.resolve()
    with _open_guard:
        found: Environment | None = None
        if (folder / "data.mdb").exists():
            found = _open.get(_identity(folder))
        # The inode of a deleted file may have been reused for another.
        if found is None or (found.folder != folder and not found.is_open):
            found = Environment(folder)
            if not (folder / "data.mdb").exists():
                found.open_for_writing()
            _open[_identity(folder)] = found
        return found


def _has_pages(folder: Path) -> bool:
    try:
        return (folder / "data.mdb").stat().st_size > 0
    except FileNotFoundError:
        return False


def _allocate_lock(path: Path) -> None:
    """Allocate LMDB's lock file on disk.

    LMDB makes it sparse and maps it: on a full disk the first access would kill the process
    (SIGBUS), where this raises an error.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        missing = _LOCK_BYTES - os.fstat(handle).st_size
        if missing > 0 and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, _LOCK_BYTES)
        elif missing > 0:
            os.pwrite(handle, bytes(missing), _LOCK_BYTES - missing)
    finally:
        os.close(handle)


def _check_length(env: Any, folder: Path) -> None:
    """Refuse a truncated file: reading past its end would kill the process (SIGBUS)."""
    wanted = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    size = (folder / "data.mdb").stat().st_size
    if size < wanted:
        raise CacheCorruptError(
            f"{folder / 'data.mdb'} is cut short, {size} bytes of {wanted} (an unfinished copy?): "
            f"{_FIX}"
        )


def _identity(folder: Path) -> tuple[int, int]:
    status = (folder / "data.mdb").stat()
    return status.st_dev, status.st_ino


@contextmanager
def _all_locked() -> Iterator[list[Environment]]:
    with _open_guard:
        environments = list(_open.values())
        for env in environments:
            env.writing.acquire()
            env.reading.acquire()
        try:
            yield environments
        finally:
            for env in environments:
                env.reading.release()
                env.writing.release()


@functools.cache
def _watch_forks() -> None:
    """Let forks wait for open transactions, and close inherited files in the child."""
    held: list[Any] = []

    def before() -> None:
        # Two threads may fork at once: only the one that holds the locks may write `held`.
        locked = _all_locked()
        locked.__enter__()
        held.append(locked)

    def in_parent() -> None:
        held.pop().__exit__(None, None, None)

    def in_child() -> None:
        for env in list(_open.values()):
            env.close()
        held.pop().__exit__(None, None, None)

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)

"""Lock a folder for its only writer. The system frees the lock when the process ends.

Knows a folder and the holder of its lock; knows nothing of what is written there.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cropfirst.core.errors import CacheError, CacheLockedError
from cropfirst.core.fingerprint import canonical_json

_RETRIES, _PAUSE_S = 40, 0.05
_handles: set[int] = set()
"""Open handles of the locks that this process holds."""


@contextmanager
def write_lock(folder: Path) -> Iterator[None]:
    """Hold the lock `folder`/lock; the file names the holder, and is empty without one.

    Raises:
        CacheLockedError: another process holds it; the message names its pid and host.
        CacheError: the file cannot be written.
    """
    handle = _take(folder)
    try:
        yield
    finally:
        # A forked child that gets here has released it already.
        if handle in _handles:
            os.ftruncate(handle, 0)
            _release(handle)


def _release(handle: int) -> None:
    _handles.discard(handle)
    os.close(handle)


@functools.cache
def _release_in_forks() -> None:
    """Release locks in forked workers, which would hold them after their parent's death."""

    def in_child() -> None:
        for handle in list(_handles):
            _release(handle)

    os.register_at_fork(after_in_child=in_child)


def _take(folder: Path) -> int:
    """Lock the folder, write the holder into the file, and return the handle of the lock."""
    _release_in_forks()
    try:
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CacheError(f"cannot write to the cache {folder}: {error.strerror}") from error
    _handles.add(handle)
    try:
        _flock(handle, folder)
        os.ftruncate(handle, 0)
        holder = {"pid": os.getpid(), "host": socket.gethostname()}
        os.pwrite(handle, canonical_json(holder).encode(), 0)
    except OSError as error:
        _release(handle)
        raise CacheError(f"cannot write to the cache {folder}: {error.strerror}") from error
    except BaseException:
        _release(handle)
        raise
    return handle


def _flock(handle: int, folder: Path) -> None:
    """Lock, or raise with the holder's name; wait briefly for the workers of a dead holder."""
    for _ in range(_RETRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder: dict[str, Any] = {}
            with suppress(ValueError):
                holder = dict(json.loads(os.pread(handle, 4096, 0)))
            if not _is_dead(holder):
                break
            time.sleep(_PAUSE_S)
        except OSError as error:
            raise CacheError(
                f"the cache {folder} cannot be locked ({error.strerror}): choose a folder on a "
                "local disk with --cache"
            ) from error
    raise CacheLockedError(
        f"the cache {folder} is being written by process {holder.get('pid', '(unknown)')} on "
        f"{holder.get('host', '(unknown host)')}: wait for it to end, or stop it"
    )


def _is_dead(holder: Mapping[str, Any]) -> bool:
    """Return whether the holder was a process of this machine that has ended."""
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:  # a process of another user
        return False
    return False

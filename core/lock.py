"""The lock of the one writer. The system frees it when the process ends, however it ends.

Knows a folder and who holds it; knows nothing of what is written there.
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

_PATIENCE, _PAUSE_S = 40, 0.05
_held: set[int] = set()


@contextmanager
def write_lock(folder: Path) -> Iterator[None]:
    """Hold `folder`/lock; the file says who holds it, and is empty when nobody does.

    Raises:
        CacheLockedError: another holds it; names its pid and host.
        CacheError: the file cannot be written.
    """
    handle = _take(folder)
    try:
        yield
    finally:
        # A forked child that comes this way has let go of it already.
        if handle in _held:
            os.ftruncate(handle, 0)
            _let_go(handle)


def _let_go(handle: int) -> None:
    _held.discard(handle)
    os.close(handle)


@functools.cache
def _watch_forks() -> None:
    """From now on, no forked worker keeps a lock that would outlive its killed parent."""

    def in_child() -> None:
        for handle in list(_held):
            _let_go(handle)

    os.register_at_fork(after_in_child=in_child)


def _take(folder: Path) -> int:
    """Lock the cache and write down who did; returns the handle that holds the lock."""
    _watch_forks()
    try:
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CacheError(f"cannot write to the cache {folder}: {error.strerror}") from error
    _held.add(handle)
    try:
        _flock(handle, folder)
        os.ftruncate(handle, 0)
        holder = {"pid": os.getpid(), "host": socket.gethostname()}
        os.pwrite(handle, canonical_json(holder).encode(), 0)
    except OSError as error:
        _let_go(handle)
        raise CacheError(f"cannot write to the cache {folder}: {error.strerror}") from error
    except BaseException:
        _let_go(handle)
        raise
    return handle


def _flock(handle: int, folder: Path) -> None:
    """Lock, or say who holds it; waits a moment for what a dead holder's workers still hold."""
    for _ in range(_PATIENCE):
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
    """Whether the holder was a process of this machine that is no more."""
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        return False
    return False

"""Write files so that they are complete or absent, whenever the process dies.

Knows bytes and folders; knows nothing of their content.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cropfirst.core.errors import CacheError


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` and replace what is there; a reader sees the old bytes or the new.

    Raises:
        CacheError: the disk is full or refuses the write.
    """
    tmp = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with _cleaned_up(tmp, path):
        _write_synced(tmp, data, "wb")
        os.replace(tmp, path)
        _sync_folder(path.parent)


def write_new(path: Path, data: bytes) -> bool:
    """Write `data` to `path` unless it exists or another process is writing it.

    Returns:
        Whether it was written.

    Raises:
        CacheError: the disk is full or refuses the write.
    """
    tmp = path.with_name(f"{path.name}.tmp")
    try:
        tmp.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError as error:
        raise CacheError(f"cannot write {path}: {error.strerror}") from error
    with _cleaned_up(tmp, path):
        # Only the owner of the tmp file creates `path`, so this answer stays true.
        if path.exists():
            tmp.unlink()
            return False
        _write_synced(tmp, data, "r+b")
        os.replace(tmp, path)
        _sync_folder(path.parent)
    return True


MARKER = ".cropfirst"
"""Name of the file which says that cropfirst made a folder, so that its pictures are no photos."""


def mark_output(folder: Path) -> None:
    """Create a folder for results, and mark it so that it is not read as part of a data set."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


def make_folder(path: Path) -> None:
    """Create a folder and its parents, unless it exists.

    Raises:
        CacheError: the disk refuses it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(f"cannot make the folder {path}: {error.strerror}") from error


def remove_torn(folder: Path) -> list[Path]:
    """Remove unfinished files that killed writers left in a folder; return their paths.

    Only the one process that may write there can call this: an unfinished file of a writer at work
    looks the same.
    """
    removed = []
    for torn in sorted(folder.glob("*.tmp")):
        with suppress(OSError):
            torn.unlink()
            removed.append(torn)
    return removed


@contextmanager
def _cleaned_up(tmp: Path, path: Path) -> Iterator[None]:
    """Remove the tmp file after a failure, and name the file in the error."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # a folder that refuses writes may refuse removal too
            tmp.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise CacheError(f"cannot write {path}: {error.strerror}") from error
        raise


def _write_synced(path: Path, data: bytes, mode: str) -> None:
    with open(path, mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that a rename in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

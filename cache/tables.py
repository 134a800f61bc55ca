"""Tables on disk: Parquet that says what it is, in which format, and the hash of its own bytes.

Parquet as polars writes it has no checksum: a flipped bit may come out as another number. So each
file carries a stamp in its footer, which any other reader of Parquet passes over.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import polars as pl

from cropfirst.core.errors import CacheCorruptError, CacheMismatchError
from cropfirst.core.files import write_atomic
from cropfirst.core.fingerprint import content_hash

_BLANK = b"0" * 32
_STAMP = re.compile(rb"kind=([a-z_]+);format=(\d+);hash=([0-9a-f]{32})")


def encode_table(frame: pl.DataFrame, *, kind: str, version: int) -> bytes:
    """A table as stamped Parquet; equal tables give equal bytes.

    Args:
        kind: what the table is, e.g. `crops`: lower-case letters.
        version: format of this kind of table.
    """
    buffer = io.BytesIO()
    stamp = f"kind={kind};format={version};hash={_BLANK.decode()}"
    # All settings are spelled out: other defaults of polars would give other bytes.
    frame.write_parquet(
        buffer,
        compression="zstd",
        compression_level=3,
        statistics=False,
        row_group_size=1 << 16,
        metadata={"cropfirst": stamp},
    )
    data = buffer.getvalue()
    place = data.rindex(stamp.encode()) + len(stamp) - len(_BLANK)
    return _with_hash(data, place, content_hash(data).encode())


def decode_table(
    data: bytes, path: Path, *, kind: str, version: int, mend: str, unstamped: bool = False
) -> pl.DataFrame:
    """The table in some bytes, after its stamp was checked.

    Args:
        path: where the bytes come from, for messages.
        version: the newest format that the caller understands.
        mend: what to do about a damaged file.
        unstamped: also take a file without a stamp, as they were before there were stamps.

    Raises:
        CacheCorruptError: not Parquet, or not the bytes that were written.
        CacheMismatchError: a newer format, or another kind of table.
    """
    found = list(_STAMP.finditer(data))
    if found:
        _check(found[-1], data, path, kind=kind, version=version, mend=mend)
    elif not unstamped:
        raise CacheCorruptError(
            f"{path} does not carry the hash of its bytes: it is damaged, or cropfirst did not "
            f"write it: {mend}"
        )
    try:
        return pl.read_parquet(io.BytesIO(data))
    # A panic of polars is no Exception; nobody's table is worth a stack trace.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CacheCorruptError(f"{path} is not readable as Parquet ({reason}): {mend}") from error


def write_table(path: Path, frame: pl.DataFrame, *, kind: str, version: int) -> None:
    """Write a table in one step.

    Raises:
        CacheError: the disk is full, or refuses the write.
    """
    write_atomic(path, encode_table(frame, kind=kind, version=version))


def read_table(path: Path, *, kind: str, version: int, mend: str) -> pl.DataFrame:
    """Read a table that `write_table` wrote, or an older one without a stamp.

    Raises:
        CacheCorruptError: missing, not Parquet, or not the bytes that were written.
        CacheMismatchError: a newer format, or another kind of table.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CacheCorruptError(f"{path} cannot be read ({error.strerror}): {mend}") from error
    return decode_table(data, path, kind=kind, version=version, mend=mend, unstamped=True)


def is_stamped(data: bytes) -> bool:
    """Whether the bytes carry a stamp, right or wrong."""
    return _STAMP.search(data) is not None


def _check(
    stamp: re.Match[bytes], data: bytes, path: Path, *, kind: str, version: int, mend: str
) -> None:
    if content_hash(_with_hash(data, stamp.start(3), _BLANK)) != stamp[3].decode():
        raise CacheCorruptError(f"{path} is not as it was written, its hash differs: {mend}")
    if int(stamp[2]) > version:
        raise CacheMismatchError(
            f"{path} has format {int(stamp[2])}, this version reads up to {version}: use the "
            f"cropfirst that wrote it (or newer), or {mend}"
        )
    if stamp[1].decode() != kind:
        raise CacheMismatchError(f"{path} is a table of {stamp[1].decode()}, wanted {kind}: {mend}")


def _with_hash(data: bytes, place: int, digest: bytes) -> bytes:
    return data[:place] + digest + data[place + len(digest) :]

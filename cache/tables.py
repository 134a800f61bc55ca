"""Write and read tables as Parquet with a stamp: kind, format, and a hash of the file's bytes.

Parquet as polars writes it has no checksum, so a flipped bit may be read as another number. The
stamp is metadata in the footer, which other Parquet readers ignore.
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
    """Encode a table as stamped Parquet; equal tables give equal bytes.

    Args:
        kind: kind of table in lower-case letters, for example `crops`.
        version: format version of this kind of table.
    """
    buffer = io.BytesIO()
    stamp = f"kind={kind};format={version};hash={_BLANK.decode()}"
    # All settings are explicit: other defaults of polars would give other bytes.
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
    data: bytes, path: Path, *, kind: str, version: int, fix: str, unstamped: bool = False
) -> pl.DataFrame:
    """Decode a table after checking its stamp.

    Args:
        path: file of the bytes, for messages.
        version: newest format version that the caller understands.
        fix: what the user can do about a damaged file, for messages.
        unstamped: whether files without a stamp are accepted, as older versions wrote them.

    Raises:
        CacheCorruptError: the bytes are not Parquet, or not those that were written.
        CacheMismatchError: the table has a newer format or is of another kind.
    """
    found = list(_STAMP.finditer(data))
    if found:
        _check(found[-1], data, path, kind=kind, version=version, fix=fix)
    elif not unstamped:
        raise CacheCorruptError(
            f"{path} does not carry the hash of its bytes: it is damaged, or cropfirst did not "
            f"write it: {fix}"
        )
    try:
        return pl.read_parquet(io.BytesIO(data))
    # A panic of polars is not an Exception; a damaged table must not end in a stack trace.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CacheCorruptError(f"{path} is not readable as Parquet ({reason}): {fix}") from error


def write_table(path: Path, frame: pl.DataFrame, *, kind: str, version: int) -> None:
    """Write a table in one step.

    Raises:
        CacheError: the disk is full, or refuses the write.
    """
    write_atomic(path, encode_table(frame, kind=kind, version=version))


def read_table(path: Path, *, kind: str, version: int, fix: str) -> pl.DataFrame:
    """Read a table that `write_table` wrote, or an older one without a stamp.

    Raises:
        CacheCorruptError: the file is missing, not Parquet, or not as it was written.
        CacheMismatchError: the table has a newer format or is of another kind.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CacheCorruptError(f"{path} cannot be read ({error.strerror}): {fix}") from error
    return decode_table(data, path, kind=kind, version=version, fix=fix, unstamped=True)


def is_stamped(data: bytes) -> bool:
    """Return whether the bytes have a stamp, valid or not."""
    return _STAMP.search(data) is not None


def _check(
    stamp: re.Match[bytes], data: bytes, path: Path, *, kind: str, version: int, fix: str
) -> None:
    if content_hash(_with_hash(data, stamp.start(3), _BLANK)) != stamp[3].decode():
        raise CacheCorruptError(f"{path} is not as it was written, its hash differs: {fix}")
    if int(stamp[2]) > version:
        raise CacheMismatchError(
            f"{path} has format {int(stamp[2])}, this version reads up to {version}: use the "
            f"cropfirst that wrote it (or newer), or {fix}"
        )
    if stamp[1].decode() != kind:
        raise CacheMismatchError(f"{path} is a table of {stamp[1].decode()}, wanted {kind}: {fix}")


def _with_hash(data: bytes, place: int, digest: bytes) -> bytes:
    return data[:place] + digest + data[place + len(digest) :]

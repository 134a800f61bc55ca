"""Store rows about photos as Parquet: one small part per batch, merged at the end of a run.

Knows columns and keys; knows nothing of photos, crops or labels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cropfirst.cache.tables import decode_table, encode_table
from cropfirst.core.errors import CacheCorruptError, CacheError
from cropfirst.core.files import remove_torn, write_atomic, write_new
from cropfirst.core.fingerprint import FORMAT

_FLOATS = pl.List(pl.Float32())

DETECTION_SCHEMA: dict[str, pl.DataType] = {
    "key": pl.String(),
    "size": pl.Int64(),  # bytes
    "mtime_ns": pl.Int64(),
    "content_hash": pl.String(),
    "width": pl.Int32(),  # photo px, upright
    "height": pl.Int32(),
    "found": pl.String(),  # detected | retried | missed | unreadable
    "policy": pl.String(),  # the retry step that found it, "" otherwise
    "n_faces": pl.Int32(),
    "boxes": _FLOATS,  # 4n, xyxy in photo px
    "probs": _FLOATS,  # n
    "landmarks": _FLOATS,  # 10n, five points x, y
    "error_type": pl.String(),
    "error": pl.String(),
}

CROP_SCHEMA: dict[str, pl.DataType] = {
    "key": pl.String(),
    "split": pl.String(),
    "group": pl.String(),
    "status": pl.String(),  # detected | retried | sibling | prior | unreadable
    "recipe": pl.String(),  # hash of all that decides the crop's pixels
    "content_hash": pl.String(),
    "width": pl.Int32(),  # photo px, upright
    "height": pl.Int32(),
    "box": _FLOATS,  # 4, xyxy in photo px
    "prob": pl.Float32(),
    "landmarks": _FLOATS,  # 10
    "n_faces": pl.Int32(),
    "window": _FLOATS,  # 4, what was cut, xyxy in photo px
    "angle": pl.Float32(),  # degrees
    "crop_hash": pl.String(),
    "error_type": pl.String(),
    "error": pl.String(),
}

_PART = re.compile(r"(\d{8})\.parquet")
_PART_OR_TMP = re.compile(r"(\d{8})\.parquet(\.tmp)?")


class Manifest:
    """The rows of one folder: `manifest.parquet`, then `parts/NNNNNNNN.parquet` in order.

    A later row replaces an earlier row of the same key. Several processes may append at once; only
    the holder of the cache's lock may compact, when the others are finished.
    """

    def __init__(
        self, folder: Path, schema: Mapping[str, pl.DataType], *, kind: str = "rows"
    ) -> None:
        """Set the folder; reads and writes nothing.

        Args:
            folder: folder of the rows, which must exist when `append` is called.
            schema: column names and types; the first is `key`, a unique string.
            kind: name of the kind of rows, written into their files.
        """
        self.folder = folder
        self.schema = pl.Schema(schema)
        self.kind = kind

    @property
    def path(self) -> Path:
        """Path of the merged rows, `manifest.parquet`."""
        return self.folder / "manifest.parquet"

    @property
    def parts(self) -> Path:
        """Folder of the parts that are not merged yet."""
        return self.folder / "parts"

    def read(self, keys: Collection[str] | None = None) -> pl.DataFrame:
        """Return the rows, one per key, sorted by key.

        Args:
            keys: keys whose rows are returned; None returns all.

        Raises:
            CacheCorruptError: a file is not Parquet, or has other columns.
        """
        while True:
            stamp = _stamp(self.path)
            frame = self._merge(self._list_parts())
            # A compaction between the two stamps may have moved rows from the parts just missed.
            if stamp == _stamp(self.path):
                return frame if keys is None else _only(frame, keys)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows as one new part, all or none of them; no rows write nothing.

        Args:
            rows: column -> value. A missing column is null; arrays are flattened.

        Raises:
            ValueError: a row has an unknown column, no key, or a value of the wrong type.
            CacheError: a key cannot be written as UTF-8.
        """
        if not rows:
            return
        data = self._encode(_frame(rows, self.schema))
        self._make_parts()
        number = self._next_number()
        while not write_new(self.parts / f"{number:08d}.parquet", data):
            number += 1

    def compact(self, keep: Collection[str] | None = None) -> pl.DataFrame:
        """Merge the parts into `manifest.parquet`, then remove them.

        Equal rows give equal bytes, whatever their batches and order were.

        Args:
            keep: keys whose rows are kept; None keeps all.

        Returns:
            The kept rows, as `read` returns them.
        """
        parts = self._list_parts()
        frame = self._merge(parts)
        n_rows = frame.height
        if keep is not None:
            frame = _only(frame, keep)
        if parts or frame.height != n_rows or not self.path.exists():
            write_atomic(self.path, self._encode(frame))
        # Oldest first: after a kill here the newest row of every key still wins.
        for part in parts:
            part.unlink(missing_ok=True)
        remove_torn(self.folder)
        remove_torn(self.parts)
        return frame

    def files(self) -> list[Path]:
        """Return all files that hold rows, oldest first."""
        return [path for path in (self.path, *self._list_parts()) if path.exists()]

    def decode(self, data: bytes, path: Path) -> pl.DataFrame:
        """Return the rows in the bytes of one of the files.

        Raises:
            CacheCorruptError: the bytes are not those that were written, or have other columns.
        """
        fix = (
            "run cropfirst verify DATA --repair, then detect, which processes only its photos again"
        )
        frame = decode_table(data, path, kind=self.kind, version=FORMAT, fix=fix)
        if frame.schema != self.schema:
            raise CacheCorruptError(f"{path} has other columns than {list(self.schema)}: {fix}")
        return frame

    def _encode(self, frame: pl.DataFrame) -> bytes:
        return encode_table(frame, kind=self.kind, version=FORMAT)

    def _make_parts(self) -> None:
        # Without parents: a cache that was deleted during the run must stay deleted.
        try:
            self.parts.mkdir(exist_ok=True)
        except FileNotFoundError as error:
            raise CacheError(
                f"{self.folder} is gone: it was deleted or moved while this process wrote to it; "
                "run the same command again"
            ) from error
        except OSError as error:
            raise CacheError(f"cannot make the folder {self.parts}: {error.strerror}") from error

    def _list_parts(self) -> list[Path]:
        """Return the finished parts, oldest first."""
        if not self.parts.is_dir():
            return []
        return sorted(path for path in self.parts.iterdir() if _PART.fullmatch(path.name))

    def _next_number(self) -> int:
        matches = (_PART_OR_TMP.fullmatch(name) for name in os.listdir(self.parts))
        return max((int(match[1]) for match in matches if match), default=-1) + 1

    def _merge(self, parts: Iterable[Path]) -> pl.DataFrame:
        frames = [pl.DataFrame(schema=self.schema)]
        for path in (self.path, *parts):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            frames.append(self.decode(data, path))
        merged = pl.concat(frames).unique("key", keep="last", maintain_order=True)
        return merged.sort("key").rechunk()


def _only(frame: pl.DataFrame, keys: Collection[str]) -> pl.DataFrame:
    wanted = frozenset(keys)
    mask = [key in wanted for key in frame["key"]]
    return frame.filter(pl.Series(mask, dtype=pl.Boolean()))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _frame(rows: Sequence[Mapping[str, Any]], schema: pl.Schema) -> pl.DataFrame:
    for row in rows:
        _check_row(row, schema)
    columns = []
    for name, dtype in schema.items():
        values = [_plain(row.get(name)) for row in rows]
        try:
            columns.append(pl.Series(name, values, dtype=dtype, strict=True))
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
            raise ValueError(f"column {name!r} expects {dtype} values: {error}") from error
    return pl.DataFrame(columns)


def _check_row(row: Mapping[str, Any], schema: pl.Schema) -> None:
    unknown = row.keys() - schema.keys()
    if unknown:
        raise ValueError(f"unknown columns {sorted(unknown)}: wanted some of {list(schema)}")
    key = row.get("key")
    if not isinstance(key, str) or not key:
        raise ValueError(f"a row needs a key, the photo's path under the data root; got {key!r}")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise CacheError(
            f"the name {key!a} is not UTF-8 and cannot be kept in a table: rename that file"
        ) from error


def _plain(value: Any) -> Any:
    """Convert a value to a type that polars accepts."""
    if isinstance(value, np.ndarray):
        return value.ravel().tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str) and not value.isascii():
        # Error messages may quote undecodable file names.
        return value.encode("utf-8", "backslashreplace").decode()
    return value

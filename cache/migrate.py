"""Convert a cache of an older format in place, without detecting anything again.

The tables of format 1 have no stamp (see tables.py); all else is as in format 2. A kill does no
harm: cache.json gets its new format last, and stamped tables are left as they are.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cropfirst.cache.tables import decode_table, encode_table, is_stamped
from cropfirst.core.errors import CacheCorruptError
from cropfirst.core.files import write_atomic
from cropfirst.core.fingerprint import FORMAT

OLDEST = 1
"""The oldest format that can be migrated."""
_ROWS = re.compile(r"manifest\.parquet|\d{8}\.parquet")


def migrate(path: Path) -> None:
    """Stamp all tables of a cache of format 1; hold its lock.

    A table that cannot be read is removed, and the next detect processes its photos again.

    Raises:
        CacheError: the disk is full, or refuses the write.
    """
    for kind in ("detections", "crops"):
        for folder, _, names in os.walk(path / kind):
            for name in filter(_ROWS.fullmatch, sorted(names)):
                _stamp(Path(folder) / name, kind)


def _stamp(file: Path, kind: str) -> None:
    data = file.read_bytes()
    if is_stamped(data):
        return
    try:
        frame = decode_table(data, file, kind=kind, version=FORMAT, fix="", unstamped=True)
    except CacheCorruptError:
        file.unlink()
        return
    write_atomic(file, encode_table(frame, kind=kind, version=FORMAT))

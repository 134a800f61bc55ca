"""Remove from a cache what verify.py found bad, so that the next detect makes it again.

Knows findings and files; knows no photos. Valid rows and crops are never touched.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from cropfirst.cache.environment import environment
from cropfirst.cache.open import Cache, write_head
from cropfirst.cache.verify import FolderCheck
from cropfirst.core.errors import CacheError


def repair_cache(checks: Sequence[FolderCheck]) -> None:
    """Remove damaged files and shards, bad rows and crops, and orphans.

    Hold the cache's lock from before the check until after this.

    Raises:
        CacheError: the disk refuses.
    """
    for check in checks:
        if check.findings:
            try:
                _repair(check)
            except OSError as error:
                raise CacheError(f"cannot repair {check.folder}: {error}") from error


def _repair(check: FolderCheck) -> None:
    for shard in check.shards:
        shutil.rmtree(shard)
    for file in check.files:
        file.unlink(missing_ok=True)
    if check.keys:
        check.manifest.compact(keep=set(check.manifest.read()["key"]) - check.keys)
    for shard, digests in check.digests.items():
        shard_env = environment(shard)
        shard_env.delete(digests)
        shard_env.close()


def open_damaged(path: Path, *, data_root: Path, repair: bool) -> Cache:
    """Open a cache; with `repair`, write its cache.json again if that is damaged.

    Raises:
        CacheError: as `Cache.open`.
    """
    head = path / "cache.json"
    if repair and (path / "crops").is_dir() and not _is_json(head):
        write_head(head, data_root.resolve())
    return Cache.open(path, data_root=data_root, create=repair and head.is_file())


def _is_json(head: Path) -> bool:
    try:
        return isinstance(json.loads(head.read_bytes()), dict)
    except (OSError, ValueError, RecursionError):
        return False

"""Merge the shards of a crop set into one.

Knows stored bytes and their times; knows nothing of rows.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cropfirst.cache.encoding import written_at
from cropfirst.cache.environment import Environment, environment
from cropfirst.cache.store import shard_folder, shard_paths
from cropfirst.core.errors import CacheError

_BATCH_BYTES = 64_000_000


def merge_shards(folder: Path) -> int:
    """Merge all shards of a crop set into number 0; hold the cache's lock.

    The latest crop of each photo is kept, with its time. A shard is removed after all its crops
    that count have been written to shard 0, so a kill at any moment loses nothing.

    Returns:
        Number of shards that were merged into shard 0.

    Raises:
        CacheError: a shard is damaged, or the disk is full or refuses the write.
    """
    main = shard_folder(folder, 0)
    others = [path for path in shard_paths(folder) if path != main]
    if not others:
        return 0
    main.mkdir(exist_ok=True)
    target = environment(main)
    for path in others:
        source = environment(path)
        _copy_newer(source, target)
        try:
            shutil.rmtree(path)
        except OSError as error:
            raise CacheError(f"cannot remove the merged {path}: {error.strerror}") from error
    target.close()
    return len(others)


def _copy_newer(source: Environment, target: Environment) -> None:
    batch: dict[bytes, bytes] = {}
    held = 0
    for digest in source.list_keys():
        written = source.get(digest, written_at)
        there = target.get(digest, written_at)
        if written is None or (there is not None and there >= written):
            continue
        value = source.get(digest, bytes)
        assert value is not None
        batch[digest] = value
        held += len(value)
        if held >= _BATCH_BYTES:
            target.write(batch)
            batch, held = {}, 0
    target.write(batch)

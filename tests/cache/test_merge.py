"""Shards merged into one: nothing is lost, and the crop that counted still counts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cropfirst.cache import CropReader, CropWriter
from cropfirst.cache.merge import merge_shards
from cropfirst.core.errors import CacheError


def flat(value: int) -> np.ndarray:
    return np.full((8, 8, 3), value, np.uint8)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards; `both` was written by two of them, last by b."""
    folder = tmp_path / "set"
    for shard, key, value, written in (
        (0, "zero", 1, 10), ("b", "both", 2, 30), ("a", "both", 3, 20), ("a", "only a", 4, 20),
    ):  # fmt: skip
        with CropWriter(folder, shard, older=(), written=written) as writer:
            writer.put(key, flat(value))
    return folder


def values(folder: Path) -> dict[str, int]:
    reader = CropReader(folder)
    return {key: int(reader[key].max()) for key in ("zero", "both", "only a")}


def test_one_shard_is_left_with_what_counted(shards: Path) -> None:
    before = values(shards)
    hashes = {key: CropReader(shards).crop_hash(key) for key in before}
    assert before == {"zero": 1, "both": 2, "only a": 4}
    assert merge_shards(shards) == 2
    assert [path.name for path in shards.iterdir()] == ["shard-000"]
    assert values(shards) == before and len(CropReader(shards)) == 3
    assert {key: CropReader(shards).crop_hash(key) for key in before} == hashes
    assert merge_shards(shards) == 0


def test_a_merge_that_was_killed_is_gone_on_with(shards: Path, tmp_path: Path) -> None:
    """Killed after a shard was copied, before it was removed."""
    shutil.copytree(shards / "shard-a", tmp_path / "kept")
    merge_shards(shards)
    shutil.move(tmp_path / "kept", shards / "shard-a")
    assert merge_shards(shards) == 1
    assert values(shards) == {"zero": 1, "both": 2, "only a": 4}


def test_a_reader_that_is_open_reads_on(shards: Path) -> None:
    reader = CropReader(shards)
    assert (reader["only a"] == 4).all() and (reader["both"] == 2).all()
    merge_shards(shards)
    assert (reader["only a"] == 4).all() and (reader["both"] == 2).all()


def test_shards_without_a_number_zero(tmp_path: Path) -> None:
    with CropWriter(tmp_path, "host-1") as writer:
        writer.put("a", flat(7))
    assert merge_shards(tmp_path) == 1
    assert (CropReader(tmp_path)["a"] == 7).all()


def test_a_damaged_shard_is_refused_and_nothing_is_removed(shards: Path) -> None:
    (shards / "shard-b/data.mdb").write_bytes(b"not LMDB" * 4096)
    with pytest.raises(CacheError, match=r"shard-b.*verify DATA --repair"):
        merge_shards(shards)
    assert (shards / "shard-b/data.mdb").exists() and (shards / "shard-000/data.mdb").exists()


def test_the_given_date_counts_not_the_clocks(tmp_path: Path) -> None:
    """A machine whose clock is ahead wrote first; what was handed out later counts."""
    with CropWriter(tmp_path, "ahead", older=(), written=100) as writer:
        writer.put("a", flat(1))
    with CropWriter(tmp_path, "behind", older=(), written=101) as writer:
        writer.put("a", flat(2))
    assert (CropReader(tmp_path)["a"] == 2).all()
    # An earlier run's shard with a later date is outdated.
    with CropWriter(tmp_path, "new", older=[tmp_path / "shard-behind"], written=50) as writer:
        writer.put("a", flat(3))
    assert (CropReader(tmp_path)["a"] == 3).all()

"""Several processes on one cache, a cache that is deleted under way, and clocks that go back."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kills import DETECT, compare_caches, finish, make_data, start

from cropfirst.cache import Cache, CropReader, CropWriter
from cropfirst.cache.verify import check_cache
from cropfirst.core.errors import CacheError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("crowd"))


@pytest.fixture(scope="module")
def whole(data: Path) -> Path:
    """The cache of a run that had it for itself."""
    finish("detect", data, "--work", data.parent / "whole", *DETECT)
    return data.parent / "whole/cache"


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 250
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.slow
def test_readers_and_a_second_writer_beside_a_detect(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    command = ("detect", data, "--work", tmp_path / "work", *DETECT)
    cache = tmp_path / "work/cache"
    with start(*command) as first:
        wait_for(lambda: list(cache.glob("crops/*/parts/*.parquet")))
        with start(*command, "--background", "box") as second:
            seen = 0
            reader = Cache.open(cache).find().reader()
            while first.poll() is None:
                rows = Cache.open(cache).find("ellipse").manifest.read().drop_nulls("crop_hash")
                for key, wanted in rows.select("key", "crop_hash").iter_rows():
                    assert reader.crop_hash(key) == wanted
                assert rows.height >= seen, "a row was lost"
                seen = rows.height
                time.sleep(0.05)  # as long as a few commits take; a core is for the writers
            said = second.communicate(timeout=250)[0]
        assert first.wait() == 0
    if second.returncode != 0:  # else it came when the first had ended
        assert f"is being written by process {first.pid} on {os.uname().nodename}" in said
        assert "Traceback" not in said
    box = [path for path in (cache / "crops").iterdir() if path.name.startswith("box")]
    for path in box:
        shutil.rmtree(path)
    assert seen > 0 and compare_caches(cache, whole) == []


@pytest.mark.slow
def test_two_that_start_at_the_same_moment(data: Path, whole: Path, tmp_path: Path) -> None:
    command = ("detect", data, "--work", tmp_path / "work", *DETECT)
    with start(*command) as one, start(*command) as other:
        said = [each.communicate(timeout=250)[0] for each in (one, other)]
    codes = sorted([one.returncode, other.returncode])
    assert codes in ([0, 1], [0, 0]), said
    if codes == [0, 1]:
        refused = said[one.returncode == 0]
        assert "is being written by process" in refused and "Traceback" not in refused
    assert compare_caches(tmp_path / "work/cache", whole) == []
    assert all(not check.findings for check in check_cache(tmp_path / "work/cache"))


@pytest.mark.slow
def test_a_cache_that_is_deleted_under_way(data: Path, whole: Path, tmp_path: Path) -> None:
    command = ("detect", data, "--work", tmp_path / "work", *DETECT)
    cache = tmp_path / "work/cache"
    with start(*command) as process:
        wait_for(lambda: list(cache.glob("detections/*/parts/*.parquet")))
        cache.rename(tmp_path / "gone")  # in one step; what deleting ends with
        said = process.communicate(timeout=250)[0]
    assert process.returncode == 1 and "Traceback" not in said, said
    assert said.count("Error: ") == 1 and "run the same command again" in said
    assert not cache.exists(), "it was half made again"
    finish(*command)
    assert compare_caches(cache, whole) == []


def test_a_shard_that_is_deleted_is_not_written_on(tmp_path: Path) -> None:
    writer = CropWriter(tmp_path / "set")
    writer.put("a", np.ones((4, 4, 3), np.uint8))
    writer.commit()
    shutil.rmtree(tmp_path / "set")
    writer.put("b", np.ones((4, 4, 3), np.uint8))
    with pytest.raises(CacheError, match="deleted or moved"):
        writer.commit()


def test_a_clock_that_goes_back_lets_no_older_crop_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for now, shard in ((3_000, 0), (2_000, 1), (1_000, 2), (500, 0)):
        # The one thing that the test cannot bring about for real is another time of day.
        monkeypatch.setattr(time, "time_ns", lambda now=now: now)
        with CropWriter(tmp_path, shard) as writer:
            writer.put("a", np.full((4, 4, 3), now // 100, np.uint8))
        assert (CropReader(tmp_path)["a"] == now // 100).all(), "the last one written counts"


@pytest.mark.slow
def test_photos_of_an_earlier_date_are_looked_at_again(data: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    shutil.copytree(next((data / "train/images").iterdir()), few)
    command = ("detect", few, "--layout", "photos", "--work", tmp_path / "work", *DETECT)
    finish(*command)
    before = Cache.open(tmp_path / "work/cache").find().manifest.read()
    one, other = sorted(few.iterdir())[:2]
    shutil.copy2(other, one)
    os.utime(one, (1, 1))
    finish(*command)
    after = Cache.open(tmp_path / "work/cache").find().manifest.read()
    hashes = dict(after.select("key", "content_hash").iter_rows())
    assert hashes[one.name] == hashes[other.name]
    assert dict(before.select("key", "content_hash").iter_rows())[one.name] != hashes[one.name]

"""The cache folder: making, opening, refusing, finding, and the one writer's lock."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cropfirst.cache import Cache, CropSet, crop_set_name
from cropfirst.core.errors import (
    CacheCorruptError,
    CacheLockedError,
    CacheMismatchError,
    CacheMissingError,
)
from cropfirst.core.fingerprint import FORMAT, fingerprint

CONFIG = {"background": "hull", "image_size": 224, "margin": 0.2}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache.open(tmp_path / "cache", create=True)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def test_a_new_cache_says_what_it_is(tmp_path: Path, photos: Path) -> None:
    cache = Cache.open(tmp_path / "a" / "cache", data_root=photos, create=True)
    head = json.loads((tmp_path / "a" / "cache" / "cache.json").read_text())
    assert head["format"] == FORMAT and head["data_root"] == str(photos.resolve())
    assert head["cropfirst"]
    assert cache.crop_sets() == []
    again = Cache.open(tmp_path / "a" / "cache", data_root=photos)
    assert again == cache and again.data_root == photos.resolve()


def test_no_cache_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(CacheMissingError, match=r"run cropfirst detect first"):
        Cache.open(tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_another_data_root_is_refused_while_the_first_is_there(
    tmp_path: Path, photos: Path
) -> None:
    Cache.open(tmp_path / "cache", data_root=photos, create=True)
    other = tmp_path / "other"
    other.mkdir()
    for create in (False, True):
        with pytest.raises(CacheMismatchError, match="--cache") as caught:
            Cache.open(tmp_path / "cache", data_root=other, create=create)
        assert str(photos) in str(caught.value) and str(other) in str(caught.value)
    assert Cache.open(tmp_path / "cache").data_root == photos.resolve()


def test_a_cache_follows_photos_that_were_moved(tmp_path: Path, photos: Path) -> None:
    Cache.open(tmp_path / "cache", data_root=photos, create=True)
    moved = photos.rename(tmp_path / "moved")
    assert Cache.open(tmp_path / "cache", data_root=moved).data_root == moved.resolve()
    # A reader leaves the cache as it is, a writer writes the new place down.
    assert Cache.open(tmp_path / "cache").data_root == photos
    Cache.open(tmp_path / "cache", data_root=moved, create=True)
    assert Cache.open(tmp_path / "cache").data_root == moved.resolve()


def test_the_same_data_root_by_another_name(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Cache.open(tmp_path / "cache", data_root=photos, create=True)
    (tmp_path / "link").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    for name in (tmp_path / "link", Path("photos"), tmp_path / "cache" / ".." / "photos"):
        assert Cache.open(tmp_path / "cache", data_root=name).data_root == photos.resolve()


def test_a_data_root_is_learned_late(tmp_path: Path, photos: Path, cache: Cache) -> None:
    assert cache.data_root is None
    Cache.open(cache.path, data_root=photos, create=True)
    assert Cache.open(cache.path).data_root == photos.resolve()


def test_another_format_is_refused_with_the_way_out(cache: Cache) -> None:
    head = {"format": 99, "data_root": None, "cropfirst": "9.9.9"}
    (cache.path / "cache.json").write_text(json.dumps(head))
    for create in (False, True):
        with pytest.raises(CacheMismatchError, match=r"format 99.*9\.9\.9.*--cache"):
            Cache.open(cache.path, create=create)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_an_unreadable_head_is_named(cache: Cache, text: str) -> None:
    (cache.path / "cache.json").write_text(text, encoding="latin-1")
    with pytest.raises(CacheCorruptError, match=r"cache\.json"):
        Cache.open(cache.path, create=True)


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "open.py").write_text("source")
    with pytest.raises(CacheMismatchError, match=r"open\.py.*--cache"):
        Cache.open(tmp_path, create=True)
    with pytest.raises(CacheMismatchError, match="is a file"):
        Cache.open(tmp_path / "open.py", create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["open.py"]


def test_a_cache_whose_making_was_killed_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "cache.json.123.tmp").write_text("{")
    (tmp_path / ".DS_Store").touch()
    Cache.open(tmp_path, create=True)
    assert Cache.open(tmp_path).crop_sets() == []


def test_detections_lie_under_their_fingerprint(cache: Cache) -> None:
    config = {"thresholds": [0.6, 0.7, 0.7]}
    manifest = cache.detections(config)
    assert manifest.folder == cache.path / "detections" / fingerprint(config)
    assert json.loads((manifest.folder / "config.json").read_text()) == config
    manifest.append([{"key": "a", "found": "missed"}])
    assert cache.detections(config).read()["found"].to_list() == ["missed"]
    assert cache.detections({"thresholds": [0.5, 0.5, 0.5]}).read().height == 0


def test_crop_sets_are_made_once_and_found_again(cache: Cache) -> None:
    name = crop_set_name("hull", 224, fingerprint(CONFIG))
    assert name == f"hull-224-{fingerprint(CONFIG)[:8]}"
    crops = cache.crop_set(name, CONFIG)
    with crops.writer() as writer:
        crop_hash = writer.put("a", np.zeros((4, 4, 3), np.uint8))
    crops.manifest.append([{"key": "a", "crop_hash": crop_hash}, {"key": "b"}])
    same = cache.crop_set(name, CONFIG)
    assert same == crops and same.fingerprint == fingerprint(CONFIG)
    assert cache.crop_sets() == [name]
    found = Cache.open(cache.path).find()
    assert isinstance(found, CropSet) and found == crops
    assert found.reader()["a"].shape == (4, 4, 3)
    assert found.verify() == []


def test_a_crop_set_of_another_config_is_refused(cache: Cache) -> None:
    cache.crop_set("hull-224-x", CONFIG)
    cache.crop_set("hull-224-x", dict(reversed(CONFIG.items())))
    with pytest.raises(CacheMismatchError, match=r"hull-224-x.*config\.json"):
        cache.crop_set("hull-224-x", {**CONFIG, "margin": 0.3})


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden"])
def test_a_crop_set_lies_inside_the_cache(cache: Cache, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        cache.crop_set(name, CONFIG)


def test_finding_by_prefix(cache: Cache) -> None:
    with pytest.raises(CacheMissingError, match=r"run cropfirst detect first"):
        cache.find()
    for name in ("box-224-aa", "box-224-aabb", "hull-224-cc"):
        cache.crop_set(name, {**CONFIG, "name": name})
    assert cache.find("hull").name == "hull-224-cc"
    assert cache.find("box-224-aa").name == "box-224-aa"
    assert cache.find("box-224-aab").config["name"] == "box-224-aabb"
    for prefix, listed in [
        (None, ["box-224-aa", "box-224-aabb", "hull-224-cc"]),
        ("box", ["box-224-aa", "box-224-aabb"]),
    ]:
        with pytest.raises(CacheMismatchError, match="--crops NAME") as caught:
            cache.find(prefix)
        assert re.findall(r"^  (\S+):", str(caught.value), re.MULTILINE) == listed
    with pytest.raises(CacheMissingError, match=r"'oval'.*box-224-aa, box-224-aabb, hull-224-cc"):
        cache.find("oval")


def test_a_half_made_crop_set_is_not_listed(cache: Cache) -> None:
    (cache.path / "crops" / "hull-224-zz").mkdir(parents=True)
    assert cache.crop_sets() == []


def test_verify_names_crops_that_are_not_what_their_rows_say(cache: Cache) -> None:
    crops = cache.crop_set("hull-224-x", CONFIG)
    with crops.writer() as writer:
        hashes = {key: writer.put(key, np.full((4, 4, 3), 5, np.uint8)) for key in "abc"}
    rows = [{"key": key, "crop_hash": crop_hash} for key, crop_hash in hashes.items()]
    crops.manifest.append([*rows, {"key": "gone", "crop_hash": hashes["a"]}, {"key": "unreadable"}])
    with crops.writer() as writer:
        writer.put("b", np.full((4, 4, 3), 6, np.uint8))
    assert crops.verify() == ["b", "gone"]


def test_a_flipped_bit_is_noticed(cache: Cache) -> None:
    crops = cache.crop_set("hull-224-x", CONFIG)
    with crops.writer() as writer:
        crop_hash = writer.put("a", np.full((8, 8, 3), 5, np.uint8))
    crops.manifest.append([{"key": "a", "crop_hash": crop_hash}])
    assert crops.verify() == []
    path = crops.folder / "shard-000" / "data.mdb"
    data = bytearray(path.read_bytes())
    data[data.index(b"\x05" * 192) + 100] ^= 1
    path.write_bytes(data)
    assert crops.verify() == ["a"]


HOLDER = """
import os, sys, time
from pathlib import Path
from cropfirst.cache import Cache

with Cache.open(Path(sys.argv[1])).lock():
    child = os.fork() if sys.argv[2] == "fork" else 0
    if sys.argv[2] == "fork" and child == 0:
        os.close(1)
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_the_lock_names_its_holder_and_is_free_once_that_is_killed(cache: Cache, how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(cache.path), how], stdout=subprocess.PIPE, text=True
    ) as holder:
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(CacheLockedError) as caught, cache.lock():
                pass
            assert f"process {holder.pid} on {socket.gethostname()}" in str(caught.value)
            holder.kill()
            holder.wait(timeout=250)
            # Even while a worker that the holder forked lives on.
            with cache.lock():
                who = json.loads((cache.path / "lock").read_text())
            assert who == {"pid": os.getpid(), "host": socket.gethostname()}
        finally:
            holder.kill()
            if child:
                os.kill(child, signal.SIGKILL)


def test_the_lock_holds_within_the_process_and_is_freed_by_an_exception(cache: Cache) -> None:
    with pytest.raises(CacheLockedError, match=f"process {os.getpid()}"):  # noqa: SIM117
        with cache.lock(), Cache.open(cache.path).lock():
            pass
    with pytest.raises(RuntimeError, match="boom"), cache.lock():
        raise RuntimeError("boom")
    with cache.lock():
        pass
    assert (cache.path / "lock").read_bytes() == b""


LEAVING = """
import os, sys
from pathlib import Path
from cropfirst.cache import Cache
from cropfirst.core.errors import CacheLockedError

cache = Cache.open(Path(sys.argv[1]))
with cache.lock():
    pid = os.fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
        try:
            with cache.lock():
                pass
        except CacheLockedError as error:
            assert f"process {os.getpid()} " in str(error)
            print("still locked")
if pid == 0:
    os._exit(0)
"""


def test_a_forked_child_that_leaves_the_block_does_not_free_the_lock(cache: Cache) -> None:
    command = [sys.executable, "-c", LEAVING, str(cache.path)]
    out = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert out.returncode == 0, out.stderr
    assert out.stdout == "still locked\n"


def test_a_cache_can_be_read_while_it_is_locked(cache: Cache) -> None:
    with cache.lock():
        crops = cache.crop_set("hull-224-x", CONFIG)
        crops.manifest.append([{"key": "a"}])
        assert Cache.open(cache.path).find().manifest.read().height == 1

"""The crop store: pixels come back as they were put, batch by batch, in any process."""

from __future__ import annotations

import pickle
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cropfirst.cache import CropReader, CropWriter, store
from cropfirst.core.errors import CacheCorruptError, CacheMissingError

Image = npt.NDArray[np.uint8]


def image(seed: int = 0, size: tuple[int, int] = (8, 6)) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def flat(value: int, size: int = 16) -> Image:
    return np.full((size, size, 3), value, np.uint8)


def test_round_trip_of_several_shapes(tmp_path: Path) -> None:
    images = {f"{h}x{w}.jpg": image(h, (h, w)) for h, w in [(1, 1), (8, 6), (224, 224), (7, 300)]}
    with CropWriter(tmp_path) as writer:
        for key, pixels in images.items():
            writer.put(key, pixels)
    reader = CropReader(tmp_path)
    assert len(reader) == 4
    for key, pixels in images.items():
        assert key in reader
        np.testing.assert_array_equal(reader[key], pixels)


def test_a_crop_read_is_the_callers_own(tmp_path: Path) -> None:
    with CropWriter(tmp_path) as writer:
        writer.put("a", flat(1))
    reader = CropReader(tmp_path)
    first = reader["a"]
    first[:] = 9
    assert first.flags.writeable and first.flags.c_contiguous
    assert (reader["a"] == 1).all()


def test_a_crop_is_read_into_memory_of_its_shape_and_into_no_other(tmp_path: Path) -> None:
    with CropWriter(tmp_path) as writer:
        writer.put("a", image(1))
    reader = CropReader(tmp_path)
    room = np.zeros((3, *image(1).shape), np.uint8)
    assert reader.read_into("a", room[1])
    assert np.array_equal(room[1], image(1)) and not room[[0, 2]].any()
    other = np.zeros((6, 8, 3), np.uint8)
    assert not reader.read_into("a", other) and not other.any()
    with pytest.raises(CacheMissingError, match="no crop of 'b'"):
        reader.read_into("b", other)


def test_the_writer_copies_what_it_is_given(tmp_path: Path) -> None:
    pixels = image(1, (10, 10))
    view = pixels[::2, ::-1]
    wanted = view.copy()
    with CropWriter(tmp_path) as writer:
        writer.put("a", view)
        pixels[:] = 0
    np.testing.assert_array_equal(CropReader(tmp_path)["a"], wanted)


@pytest.mark.parametrize(
    "bad",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32),
     np.zeros((0, 8, 3), np.uint8)],
)  # fmt: skip
def test_what_is_no_crop_is_refused(tmp_path: Path, bad: np.ndarray) -> None:
    with CropWriter(tmp_path) as writer, pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        writer.put("a", bad)


def test_crop_hash_is_of_shape_and_pixels_not_of_time_or_key(tmp_path: Path) -> None:
    with CropWriter(tmp_path) as writer:
        first = writer.put("a", flat(1))
        assert writer.put("b", flat(1)) == first
        assert writer.put("c", flat(2)) != first
        assert writer.put("d", flat(1).reshape(8, 32, 3)) != first
        writer.commit()
        assert writer.put("a", flat(1)) == first
    assert CropReader(tmp_path).crop_hash("a") == first


def test_only_committed_crops_are_seen(tmp_path: Path) -> None:
    reader = CropReader(tmp_path)
    writer = CropWriter(tmp_path)
    writer.put("a", flat(1))
    assert "a" not in reader and len(reader) == 0
    writer.commit()
    assert "a" in reader and len(reader) == 1
    writer.put("b", flat(2))
    writer.close()
    assert "b" not in reader
    with pytest.raises(ValueError, match="closed"):
        writer.commit()


def test_an_exception_drops_the_open_batch_only(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="boom"), CropWriter(tmp_path) as writer:
        writer.put("a", flat(1))
        writer.commit()
        writer.put("b", flat(2))
        raise RuntimeError("boom")
    reader = CropReader(tmp_path)
    assert "a" in reader and "b" not in reader


def test_missing_crop_is_named(tmp_path: Path) -> None:
    for reader in (CropReader(tmp_path / "no such folder"), CropReader(tmp_path)):
        assert "ann/normal.jpg" not in reader
        assert len(reader) == 0
        with pytest.raises(CacheMissingError, match=r"ann/normal\.jpg.*run detect"):
            reader["ann/normal.jpg"]
        with pytest.raises(CacheMissingError, match=r"ann/normal\.jpg"):
            reader.crop_hash("ann/normal.jpg")
    assert 3 not in reader


def test_keys_of_any_length_and_script(tmp_path: Path) -> None:
    keys = [
        "k" * 511,
        "k" * 512,
        "d/" * 3000 + "é.jpg",
        "写真/人😀.jpg",
        "e\u0301",
        "é",
        "caf\udce9",
    ]
    with CropWriter(tmp_path) as writer:
        for index, key in enumerate(keys):
            writer.put(key, flat(index))
    reader = CropReader(tmp_path)
    assert [int(reader[key][0, 0, 0]) for key in keys] == list(range(len(keys)))


def test_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "写真 [1]* cache"
    with CropWriter(folder) as writer:
        writer.put("a", flat(3))
    assert (CropReader(folder)["a"] == 3).all()


def test_a_batch_larger_than_the_map_is_kept_whole(tmp_path: Path) -> None:
    side = 1600  # 7.3 MiB each, 10 of them; the map starts at 64 MiB
    with CropWriter(tmp_path) as writer:
        for index in range(10):
            writer.put(f"{index}", flat(index, side))
        writer.commit()
        reader = CropReader(tmp_path)
        assert len(reader) == 10
        assert all((reader[f"{index}"][:: side - 1] == index).all() for index in range(10))
        writer.put("after", flat(77))
    assert (CropReader(tmp_path)["after"] == 77).all()
    # A map that was grown is grown for the next writer too.
    with CropWriter(tmp_path) as writer:
        writer.put("later", flat(78))
    assert len(reader) == 12


def test_one_reader_reads_all_shards(tmp_path: Path) -> None:
    for shard in range(3):
        with CropWriter(tmp_path, shard) as writer:
            writer.put(f"only {shard}", flat(shard))
            writer.put("all", flat(100 + shard))
    reader = CropReader(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "shard-000",
        "shard-001",
        "shard-002",
    ]
    assert [int(reader[f"only {shard}"][0, 0, 0]) for shard in range(3)] == [0, 1, 2]
    assert len(reader) == 4
    assert "only 3" not in reader


@pytest.mark.parametrize("latest", [0, 2])
def test_of_two_shards_the_later_crop_counts(tmp_path: Path, latest: int) -> None:
    for shard in (0, 1, 2):
        with CropWriter(tmp_path, shard) as writer:
            writer.put("a", flat(shard))
    with CropWriter(tmp_path, latest) as writer:
        wanted = writer.put("a", flat(50))
    reader = CropReader(tmp_path)
    assert (reader["a"] == 50).all()
    assert reader.crop_hash("a") == wanted


def test_a_shard_begun_after_the_first_read_is_found(tmp_path: Path) -> None:
    reader = CropReader(tmp_path)
    with CropWriter(tmp_path, 0) as writer:
        writer.put("a", flat(1))
    assert (reader["a"] == 1).all()
    with CropWriter(tmp_path, 1) as writer:
        writer.put("b", flat(2))
        writer.commit()
        assert (reader["b"] == 2).all()


def test_close_and_read_again(tmp_path: Path) -> None:
    with CropWriter(tmp_path) as writer:
        writer.put("a", flat(1))
    reader = CropReader(tmp_path)
    assert (reader["a"] == 1).all()
    reader.close()
    reader.close()
    assert (reader["a"] == 1).all()


def test_a_pickled_reader_is_its_folder(tmp_path: Path) -> None:
    with CropWriter(tmp_path) as writer:
        writer.put("a", flat(4, 64))
    reader = CropReader(tmp_path)
    assert (reader["a"] == 4).all()
    data = pickle.dumps(reader)
    assert len(data) < 1000
    assert (pickle.loads(data)["a"] == 4).all()


def test_a_set_that_is_deleted_and_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    with CropWriter(folder) as writer:
        writer.put("a", flat(1))
    old = CropReader(folder)
    assert (old["a"] == 1).all()
    shutil.rmtree(folder)
    with CropWriter(folder) as writer:
        writer.put("a", flat(2))
    assert (CropReader(folder)["a"] == 2).all()
    old.close()
    assert (old["a"] == 2).all()


def test_threads_read_while_one_writes(tmp_path: Path) -> None:
    n_crops = 20
    committed = -1
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        reader = CropReader(tmp_path)
        while not done.is_set():
            newest = committed
            if newest >= 0 and not (reader[f"{newest}"][::100] == newest).all():
                wrong.append(newest)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    with CropWriter(tmp_path) as writer:
        for index in range(n_crops):
            writer.put(f"{index}", flat(index, 1100))  # 69 MiB in all: the map grows on the way
            writer.commit()
            committed = index
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    with CropWriter(tmp_path) as writer:
        writer.put("a", flat(1))
    (tmp_path / "shard-000" / "data.mdb").write_bytes(b"not LMDB" * 4096)
    with pytest.raises(CacheCorruptError, match=r"shard-000.*verify DATA --repair"):
        CropReader(tmp_path)["a"]


@pytest.mark.parametrize("damage", ["magic", "height"])
def test_a_damaged_crop_is_named(tmp_path: Path, damage: str) -> None:
    with CropWriter(tmp_path) as writer:
        writer.put("ann.jpg", flat(1))
    path = tmp_path / "shard-000" / "data.mdb"
    data = bytearray(path.read_bytes())
    # LMDB pages may also hold leftovers of other values in their unused part.
    for found in list(re.finditer(rb"crop\x01", data)):
        data[found.start() + (0 if damage == "magic" else 8)] = 0
    path.write_bytes(data)
    with pytest.raises(CacheCorruptError, match=r"ann\.jpg.*verify DATA --repair"):
        CropReader(tmp_path)["ann.jpg"]


def test_a_shard_that_is_just_being_made_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "shard-000").mkdir()
    (tmp_path / "shard-001").mkdir()
    (tmp_path / "shard-001" / "data.mdb").touch()
    with CropWriter(tmp_path, 2) as writer:
        writer.put("a", flat(1))
    reader = CropReader(tmp_path)
    assert (reader["a"] == 1).all() and len(reader) == 1


def test_a_batch_of_large_crops_is_written_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_BATCH_BYTES", 3 * 64 * 64 * 3)
    writer = CropWriter(tmp_path)
    for number in range(5):
        writer.put(f"{number}", flat(number, 64))
    assert len(CropReader(tmp_path)) == 3, "the fourth and fifth are in the open batch"
    writer.commit()
    assert (CropReader(tmp_path)["4"] == 4).all()
    writer.close()

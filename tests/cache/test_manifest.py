"""Manifests: later rows win, equal rows give equal bytes, torn parts are nothing."""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cropfirst.cache import CROP_SCHEMA, DETECTION_SCHEMA, Manifest
from cropfirst.core.errors import CacheCorruptError, CacheError


def new(folder: Path) -> Manifest:
    folder.mkdir(parents=True)
    return Manifest(folder, CROP_SCHEMA)


def crop_row(index: int, **changes: object) -> dict[str, Any]:
    return {
        "key": f"photos/{index:04d}.jpg",
        "split": "train",
        "group": f"{index // 7:06d}" if index % 5 else None,
        "status": ("detected", "retried", "sibling", "prior")[index % 4],
        "width": 384,
        "height": 512,
        "box": [index + 0.25, 1.5, 90.0, 100.0] if index % 3 else None,
        "prob": 0.125 * (index % 8),
        "n_faces": index % 3,
        "angle": 0.0,
        "crop_hash": f"{index:032x}",
        **changes,
    }


def test_nothing_written_reads_as_no_rows(tmp_path: Path) -> None:
    frame = Manifest(tmp_path / "none", CROP_SCHEMA).read()
    assert frame.height == 0
    assert frame.schema == pl.Schema(CROP_SCHEMA)
    assert not (tmp_path / "none").exists()


def test_rows_come_back_sorted_and_typed(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, CROP_SCHEMA)
    rows = [crop_row(index) for index in (5, 1, 3)]
    manifest.append(rows)
    frame = manifest.read()
    assert frame["key"].to_list() == ["photos/0001.jpg", "photos/0003.jpg", "photos/0005.jpg"]
    assert frame.schema == pl.Schema(CROP_SCHEMA)
    first = frame.row(0, named=True)
    assert first["box"] == [1.25, 1.5, 90.0, 100.0]
    assert first["landmarks"] is None and first["error"] is None
    assert frame.row(1, named=True)["box"] is None


def test_detection_rows_hold_any_number_of_faces(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, DETECTION_SCHEMA)
    boxes = np.arange(8, dtype=np.float32).reshape(2, 4)
    landmarks = np.arange(20, dtype=np.float32).reshape(2, 5, 2)
    faces = {"boxes": boxes, "probs": np.float32([0.5, 1]), "landmarks": landmarks}
    manifest.append(
        [
            {"key": "two.jpg", "mtime_ns": 2**62, "n_faces": np.int64(2), **faces},
            {"key": "none.jpg", "n_faces": 0, "boxes": [], "probs": [], "landmarks": []},
            {"key": "bad.jpg", "error_type": "DecodeError", "error": "not a photo"},
        ]
    )
    bad, none, two = manifest.read().rows(named=True)
    assert two["boxes"] == list(range(8)) and two["landmarks"] == list(range(20))
    assert two["probs"] == [0.5, 1.0] and two["mtime_ns"] == 2**62 and two["n_faces"] == 2
    assert none["boxes"] == [] and bad["boxes"] is None


def test_empty_batch_writes_nothing(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "m", CROP_SCHEMA)
    manifest.append([])
    assert not (tmp_path / "m").exists()


def test_last_row_of_a_key_wins_within_and_across_batches_and_after_compaction(
    tmp_path: Path,
) -> None:
    manifest = Manifest(tmp_path, CROP_SCHEMA)
    manifest.append([crop_row(1, status="prior"), crop_row(1, status="sibling"), crop_row(2)])
    assert manifest.read()["status"].to_list() == ["sibling", "sibling"]
    manifest.compact()
    manifest.append([crop_row(1, status="retried")])
    assert manifest.read()["status"].to_list() == ["retried", "sibling"]
    manifest.append([crop_row(1, status="detected")])
    assert manifest.compact()["status"].to_list() == ["detected", "sibling"]
    assert manifest.read()["status"].to_list() == ["detected", "sibling"]
    assert list(manifest.parts.iterdir()) == []


def test_tenth_part_is_newer_than_the_ninth(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, CROP_SCHEMA)
    for n_faces in range(12):
        manifest.append([crop_row(1, n_faces=n_faces)])
    assert manifest.read()["n_faces"].to_list() == [11]


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_equal_rows_compact_to_equal_bytes(tmp_path: Path, batch: int) -> None:
    rows = [crop_row(index) for index in range(60)]
    one = new(tmp_path / "one")
    one.append(rows)
    one.compact()
    other = new(tmp_path / "other")
    shuffled = random.Random(batch).sample(rows, len(rows))
    for start in range(0, len(rows), batch):
        other.append([{**row, "status": "prior"} for row in shuffled[start : start + 3]])
        other.append(shuffled[start : start + batch])
        if start % 3 == 0:
            other.compact()
    other.compact()
    assert other.path.read_bytes() == one.path.read_bytes()


def test_compacting_again_leaves_the_file_alone(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, CROP_SCHEMA)
    manifest.append([crop_row(index) for index in range(9)])
    manifest.compact()
    before = manifest.path.stat()
    assert manifest.compact().height == 9
    after = manifest.path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_compact_keeps_only_the_keys_asked_for(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, CROP_SCHEMA)
    manifest.append([crop_row(index) for index in range(4)])
    manifest.compact()
    keep = ["photos/0001.jpg", "photos/0003.jpg", "never seen"]
    assert manifest.compact(keep)["key"].to_list() == keep[:2]
    assert manifest.read()["key"].to_list() == keep[:2]
    assert manifest.compact(keep=[]).height == 0


def test_compact_of_nothing_still_leaves_a_manifest(tmp_path: Path) -> None:
    manifest = new(tmp_path / "m")
    assert manifest.compact().height == 0
    assert manifest.path.is_file()
    assert manifest.read().height == 0


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.none(),  # compact
            st.lists(st.tuples(st.sampled_from("abcdé😀"), st.integers(0, 99)), max_size=4),
        ),
        max_size=8,
    )
)
def test_behaves_as_a_dict_that_survives(batches: list[list[tuple[str, int]] | None]) -> None:
    expected = {}
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest(Path(folder), CROP_SCHEMA)
        for batch in batches:
            if batch is None:
                manifest.compact()
            else:
                manifest.append([{"key": key, "n_faces": n_faces} for key, n_faces in batch])
                expected.update(batch)
        rows = manifest.read().select("key", "n_faces").rows()
    assert rows == sorted(expected.items())


def test_torn_and_foreign_files_are_no_parts(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, CROP_SCHEMA)
    manifest.append([crop_row(1)])
    whole = (manifest.parts / "00000000.parquet").read_bytes()
    torn = manifest.parts / "00000001.parquet.tmp"
    torn.write_bytes(whole[: len(whole) // 2])
    (manifest.parts / ".nfs0001").write_bytes(b"?")
    (manifest.parts / "notes.parquet").write_bytes(b"?")
    assert manifest.read().height == 1
    manifest.append([crop_row(2)])
    assert torn.exists() and (manifest.parts / "00000002.parquet").exists()
    assert manifest.compact().height == 2
    assert sorted(path.name for path in manifest.parts.iterdir()) == [".nfs0001", "notes.parquet"]


@pytest.mark.parametrize("where", ["manifest.parquet", "parts/00000000.parquet"])
@pytest.mark.parametrize("damage", ["cut", "empty", "columns"])
def test_damaged_parquet_is_named(tmp_path: Path, where: str, damage: str) -> None:
    manifest = Manifest(tmp_path, CROP_SCHEMA)
    manifest.append([crop_row(index) for index in range(20)])
    if where == "manifest.parquet":
        manifest.compact()
    path = tmp_path / where
    if damage == "columns":
        pl.DataFrame({"key": ["a"]}).write_parquet(path)
    else:
        path.write_bytes(path.read_bytes()[:100] if damage == "cut" else b"")
    with pytest.raises(CacheCorruptError, match="verify DATA --repair") as caught:
        manifest.read()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"key": "a", "n_face": 1}, "unknown columns"),
        ({"split": "train"}, "needs a key"),
        ({"key": ""}, "needs a key"),
        ({"key": Path("a")}, "needs a key"),
        ({"key": "a", "n_faces": "many"}, "'n_faces' expects Int32"),
        ({"key": "a", "n_faces": 1.5}, "'n_faces' expects Int32"),
        ({"key": "a", "n_faces": 1 << 40}, "'n_faces' expects Int32"),
        ({"key": "a", "box": ["left"]}, "'box' expects List"),
        ({"key": "a", "box": 3.0}, "'box' expects List"),
        ({"key": "a", "status": 3}, "'status' expects String"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    manifest = new(tmp_path / "m")
    with pytest.raises(ValueError, match=message):
        manifest.append([crop_row(1), row])
    assert manifest.read().height == 0


def test_names_that_are_not_unicode(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, CROP_SCHEMA)
    with pytest.raises(CacheError, match="rename that file"):
        manifest.append([{"key": "caf\udce9.jpg"}])
    manifest.append([{"key": "ok.jpg", "error": "cannot read caf\udce9.jpg, né"}])
    assert manifest.read()["error"].to_list() == ["cannot read caf\\udce9.jpg, né"]


def test_keys_of_any_length_and_script(tmp_path: Path) -> None:
    keys = ["d/" * 3000 + "é.jpg", "写真/人.jpg", "e\u0301.jpg", "é.jpg", "[a]*?.jpg", "a b\n.jpg"]
    manifest = new(tmp_path / "set [1]*" / "a=b")
    manifest.append([{"key": key} for key in keys])
    manifest.compact()
    assert manifest.read()["key"].to_list() == sorted(keys)


def test_reading_beside_a_compaction_misses_no_row(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, CROP_SCHEMA)
    written = 0
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            at_least = written
            height = Manifest(tmp_path, CROP_SCHEMA).read().height
            if height < at_least:
                wrong.append((height, at_least))

    reader = threading.Thread(target=read)
    reader.start()
    for index in range(40):
        manifest.append([crop_row(index)])
        written = index + 1
        if index % 3 == 2:
            manifest.compact()
    done.set()
    reader.join()
    assert wrong == []


def test_a_folder_that_was_deleted_under_way_is_not_made_again(tmp_path: Path) -> None:
    manifest = new(tmp_path / "m")
    manifest.append([crop_row(1)])
    shutil.rmtree(tmp_path / "m")
    for write in (lambda: manifest.append([crop_row(2)]), manifest.compact):
        with pytest.raises(CacheError, match=str(tmp_path / "m")):
            write()
    assert list(tmp_path.iterdir()) == []

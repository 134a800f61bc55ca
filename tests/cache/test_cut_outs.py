"""The stored cut-outs: made once, found by photo and face, and made again when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from cropfirst.cache.cut_outs import CUT_OUTS, CutOutStore, cut_out_id
from cropfirst.core.errors import CacheCorruptError

ROW = {"content_hash": "a" * 32, "box": [1.0, 2.0, 3.0, 4.0], "landmarks": None, "angle": 0.0}


def test_what_is_put_is_found_again_also_by_another_store(tmp_path: Path) -> None:
    store = CutOutStore(tmp_path)
    assert store.get("a", bytes) is None and not store.folder.exists()
    store.put({})
    assert not store.folder.exists()
    store.put({"a": b"one", "b": b""})
    for each in (store, CutOutStore(tmp_path)):
        assert each.get("a", bytes) == b"one" == each.peek("a", bytes)
        assert each.get("b", bytes) == b"" and each.get("c", bytes) is None


def test_an_id_is_that_of_the_photo_and_the_face() -> None:
    assert cut_out_id(ROW) == cut_out_id({**ROW, "angle": 9.0, "key": "other"})
    changed = [{"content_hash": "b" * 32}, {"box": [1.0, 2.0, 3.0, 5.0]}, {"landmarks": [0.0] * 10}]
    assert len({cut_out_id(ROW), *(cut_out_id({**ROW, **each}) for each in changed)}) == 4


def test_a_damaged_or_foreign_value_counts_as_missing(tmp_path: Path) -> None:
    def refuse(data: memoryview) -> bytes:
        raise ValueError("of another version")

    store = CutOutStore(tmp_path)
    store.put({"a": b"pixels" * 40, "b": b"else"})
    assert store.get("b", refuse) is None and store.peek("b", refuse) is None
    data = bytearray((tmp_path / CUT_OUTS / "data.mdb").read_bytes())
    data[data.index(b"pixelspixels") + 8] ^= 1

    def copy(name: str, content: bytes) -> CutOutStore:
        """A store of other bytes; those of an open one must not change."""
        (tmp_path / name / CUT_OUTS).mkdir(parents=True)
        (tmp_path / name / CUT_OUTS / "data.mdb").write_bytes(content)
        return CutOutStore(tmp_path / name)

    flipped = copy("flipped", data)
    assert flipped.get("a", bytes) is None and flipped.get("b", bytes) == b"else"
    with pytest.raises(CacheCorruptError, match="--repair"):
        copy("cut", data[: len(data) // 2]).get("a", bytes)

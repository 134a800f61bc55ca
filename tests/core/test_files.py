"""Whole files or none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cropfirst.core.errors import CacheError
from cropfirst.core.files import make_folder, write_atomic, write_new


def test_write_atomic_replaces_and_leaves_no_tmp_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_write_new_never_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert write_new(path, b"one")
    assert not write_new(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_write_new_leaves_a_name_to_the_one_who_is_writing_it(tmp_path: Path) -> None:
    tmp = tmp_path / "a.parquet.tmp"
    tmp.write_bytes(b"half")
    assert not write_new(tmp_path / "a.parquet", b"two")
    assert list(tmp_path.iterdir()) == [tmp] and tmp.read_bytes() == b"half"


def test_of_many_writers_one_gets_the_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for _ in range(20):
        start = threading.Barrier(4)
        won: list[bytes] = []

        def write(name: bytes, start: threading.Barrier = start, won: list[bytes] = won) -> None:
            start.wait()
            if write_new(path, name):
                won.append(name)

        threads = [threading.Thread(target=write, args=(bytes([n]) * 9000,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [path.read_bytes()]
        path.unlink()


@pytest.mark.parametrize("write", [write_atomic, write_new])
def test_a_refusing_disk_names_the_file(
    tmp_path: Path, write: Callable[[Path, bytes], object]
) -> None:
    with pytest.raises(CacheError, match=r"cannot write .*gone/a\.json"):
        write(tmp_path / "gone" / "a.json", b"one")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="file/sub"):
        make_folder(tmp_path / "file" / "sub")

"""Every photo is listed once, whatever lies about."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets import open_dataset
from cropfirst.stage2_classify.datasets.listing import inside, list_photos


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def keys(root: Path, folder: str = "") -> list[str]:
    return [key for key, _ in list_photos(root, folder).photos]


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder with a subfolder that this process may not read, and a photo beside it."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    touch(root, "a.jpg", "locked/b.jpg")
    (root / "locked").chmod(0o000)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield root
    os.seteuid(user)
    (root / "locked").chmod(0o755)
    shutil.rmtree(root)


def test_photos_of_every_extension_sorted_hidden_ones_left_out(tmp_path: Path) -> None:
    wanted = ["a/1.JPG", "a/2.jpeg", "b.PNG", "b/c/d.webp", "e.jpg.chip.jpg", "z.TIFF"]
    touch(tmp_path, *wanted, "._b.PNG", ".hidden/x.jpg", "a/._1.JPG", "t.txt", "jpg", "n.csv")
    assert keys(tmp_path) == sorted(wanted)
    assert list_photos(tmp_path).problems == ()


def test_keys_stay_relative_to_the_root(tmp_path: Path) -> None:
    touch(tmp_path, "x/y/1.jpg", "z/2.jpg")
    assert keys(tmp_path, "x/y") == ["x/y/1.jpg"]


def test_symlink_loops_end_and_photos_keep_their_real_place(tmp_path: Path) -> None:
    touch(tmp_path, "z/deep/1.jpg")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    (tmp_path / "z/deep/up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    listing = list_photos(tmp_path)
    assert [key for key, _ in listing.photos] == ["z/deep/1.jpg"]
    assert sorted(problem.where for problem in listing.problems) == ["a", "z/deep/up"]


def test_links_out_of_the_folder_are_followed_and_dead_ones_stay(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.jpg", "data/0.jpg")
    (tmp_path / "data/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/dead.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "data/self.jpg").symlink_to(tmp_path / "data/self.jpg")
    assert keys(tmp_path / "data") == ["0.jpg", "dead.jpg", "link/1.jpg", "self.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes there")
def test_a_pipe_is_no_photo(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert keys(tmp_path) == ["1.jpg"]
    assert "pipe" in list_photos(tmp_path).problems[0].message


@pytest.mark.skipif(sys.platform == "win32", reason="modes mean something else there")
def test_a_folder_that_cannot_be_read_is_a_problem_not_a_crash(locked: Path) -> None:
    listing = list_photos(locked)
    assert [key for key, _ in listing.photos] == ["a.jpg"]
    assert listing.problems[0].where == "locked"
    assert "Permission denied" in listing.problems[0].message


def test_names_that_are_not_utf8_get_a_stable_key(tmp_path: Path) -> None:
    touch(tmp_path, "ünïcødé/사진.jpg")
    try:
        os.close(os.open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", os.O_CREAT))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    photos = open_dataset(tmp_path, layout="photos")
    assert [sample.key for sample in photos.samples] == [r"caf\udce9.jpg", "ünïcødé/사진.jpg"]
    assert all(sample.path.exists() for sample in photos.samples)
    assert photos.problems[0].where == r"caf\udce9.jpg"
    table = tmp_path / "keys.parquet"
    pl.DataFrame({"key": [sample.key for sample in photos.samples]}).write_parquet(table)
    assert pl.read_parquet(table)["key"].to_list() == [sample.key for sample in photos.samples]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("../x.jpg", "leaves"),
        ("a/../../x.jpg", "leaves"),
        ("/etc/passwd", "outside"),
        (r"C:\x.jpg", "outside"),
        ("", "no photo"),
        (".", "no photo"),
        ("a\0.jpg", "no photo"),
    ],
)
def test_a_path_that_leaves_the_root_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        inside(tmp_path, text, where="row 1")


def test_a_path_is_made_relative(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert inside(tmp_path, "./a//b/../x.jpg", where="") == "a/x.jpg"
    assert inside(tmp_path, str(tmp_path / "a/x.jpg"), where="") == "a/x.jpg"
    assert inside(tmp_path / "real", str(tmp_path / "link/x.jpg"), where="") == "x.jpg"
    assert inside(tmp_path, "..x.jpg", where="") == "..x.jpg"


def test_photos_elsewhere_come_in_by_a_link_alone(tmp_path: Path) -> None:
    """A table cannot reach out of its folder; whoever may link into that folder allows it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x.jpg").touch()
    (tmp_path / "data").mkdir()
    table = tmp_path / "data/labels.csv"
    table.write_text("path,label\n../elsewhere/x.jpg,a\n")
    with pytest.raises(DataError, match="leaves"):
        open_dataset(tmp_path / "data")
    (tmp_path / "data/linked").symlink_to(tmp_path / "elsewhere")
    table.write_text("path,label\nlinked/x.jpg,a\n")
    assert [sample.key for sample in open_dataset(tmp_path / "data").samples] == ["linked/x.jpg"]


@pytest.mark.slow
def test_twenty_thousand_photos_are_listed_fast(tmp_path: Path) -> None:
    for folder in range(200):
        (tmp_path / f"{folder:03d}").mkdir()
        for photo in range(100):
            os.close(os.open(tmp_path / f"{folder:03d}/{photo:03d}.jpg", os.O_CREAT))
    times = []
    for _ in range(3):
        start = time.process_time()
        assert len(list_photos(tmp_path).photos) == 20_000
        times.append(time.process_time() - start)
    assert min(times) < 0.5, times

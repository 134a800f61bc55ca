"""`mask`: a new data set of which some faces wear masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from cropfirst.stage1_detect.photos.read import read_photo

Ok = Callable[..., str]
Run = Callable[..., Any]


def test_bare_faces_get_masks_and_keep_their_labels(copied: Any, ok: Ok, tmp_path: Path) -> None:
    command = ("mask", copied.data, tmp_path / "masked", "--work", copied.work)
    shares = ("--worn", "0.5", "--incorrect", "0.5")
    said = ok(*command, *shares)
    table = pl.read_csv(tmp_path / "masked" / "labels.csv")
    bare = sorted((copied.data / "train").rglob("normal.*"))
    assert len(bare) == len(table) and f"{len(bare)} of {len(bare)} photos copied" in said
    assert set(table["mask"]) == {"wear", "incorrect"}
    assert table["gender"].to_list() == [p.split("/")[3].split("_")[1] for p in table["path"]]
    # A copy is a JPEG, with a suffix of its own where the photo is none.
    photos = {path: copied.data / path.removeprefix("photos/") for path in table["path"]}
    photos = {
        path: photo if photo.is_file() else photo.with_suffix("") for path, photo in photos.items()
    }
    for path, photo in photos.items():
        before = read_photo(photo).image
        after = read_photo(tmp_path / "masked" / path).image
        assert before.shape == after.shape
        # A mask that can be seen through changes its pixels by little.
        changed = (abs(before.astype(int) - after).max(axis=2) > 12).mean()
        assert 0.005 < changed < 0.4, f"{path}: {changed:.1%} of the pixels have changed"
    # Equal seeds give equal photos; a photo that stays bare is the same file.
    ok(*command[:2], tmp_path / "again", *command[3:], *shares)
    ok(*command[:2], tmp_path / "bare", *command[3:], "--worn", "0", "--incorrect", "0")
    for path, photo in photos.items():
        again = (tmp_path / "again" / path).read_bytes()
        assert again == (tmp_path / "masked" / path).read_bytes()
        is_same = (tmp_path / "bare" / path).read_bytes() == photo.read_bytes()
        assert is_same == (photo.suffix in {".jpg", ".jpeg"})
    assert "layout csv" in ok("eda", tmp_path / "masked", "--work", tmp_path / "new")


def test_a_folder_of_something_else_is_not_written_to(
    copied: Any, run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "full"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    said = run("mask", copied.data, out, "--work", copied.work)
    assert f"{out} is not empty: name a new folder" in said.error
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]

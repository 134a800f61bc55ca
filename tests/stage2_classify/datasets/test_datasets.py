"""Layouts are recognised; folders, utkface and photos open; what is wrong is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets import LAYOUTS, WANTS, open_dataset, open_files, recognise


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(root: Path, layout: str | None = None) -> list[tuple[str, str, object]]:
    return [
        (s.key, s.split, s.labels.get("label")) for s in open_dataset(root, layout=layout).samples
    ]


def test_one_folder_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "cats/1.jpg", "cats/deep/2.png", "dogs/1.jpg", "empty/notes.txt")
    assert recognise(tmp_path) == "folders"
    assert rows(tmp_path) == [
        ("cats/1.jpg", "train", "cats"),
        ("cats/deep/2.png", "train", "cats"),
        ("dogs/1.jpg", "train", "dogs"),
    ]


@pytest.mark.parametrize("name", ["eval", "val", "test", "Validation"])
def test_split_folders_above_the_classes(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", f"{name}/b/2.jpg", f"{name}/3.jpg")
    assert sorted(rows(tmp_path), key=lambda row: row[0].lower()) == sorted(
        [
            (f"{name}/3.jpg", "eval", None),
            (f"{name}/b/2.jpg", "eval", "b"),
            ("train/a/1.jpg", "train", "a"),
            ("train/b/1.jpg", "train", "b"),
        ],
        key=lambda row: row[0].lower(),
    )
    assert open_dataset(tmp_path).problems == ()


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    touch(tmp_path, "test/1.jpg", "control/1.jpg")
    assert rows(tmp_path) == [
        ("control/1.jpg", "train", "control"),
        ("test/1.jpg", "train", "test"),
    ]


def test_a_photo_in_no_class_stays_without_a_label(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "loose.jpg")
    photos = open_dataset(tmp_path)
    assert len(photos) == 3 and dict(photos.by_key()["loose.jpg"].labels) == {}
    assert [problem.where for problem in photos.problems] == ["loose.jpg"]


def test_one_folder_is_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.jpg", "2.jpg")
    assert recognise(tmp_path) == "photos"
    assert rows(tmp_path) == [("2.jpg", "eval", None), ("images/1.jpg", "eval", None)]


def test_utkface_reads_the_names_and_keeps_what_does_not_parse(tmp_path: Path) -> None:
    good = ["1_0_2_20161219140530307.jpg.chip.jpg", "part2/116_1_4_20170112213500903.jpg"]
    bad = [
        "39_1_20170116174525125.jpg.chip.jpg",
        "24_3_1_20170116174525125.jpg",
        "999_0_0_20170116.jpg",
    ]
    touch(tmp_path, *good, "25_0_0_20170116174525125.jpg", *bad[:2])
    assert recognise(tmp_path) == "utkface"
    touch(tmp_path, bad[2])
    photos = open_dataset(tmp_path, layout="utkface")
    by_key = photos.by_key()
    assert len(photos) == 6
    assert by_key[good[0]].labels == {"age": 1, "gender": "male", "race": "Asian"}
    assert by_key[good[1]].labels == {"age": 116, "gender": "female", "race": "Others"}
    assert all(dict(by_key[name].labels) == {} for name in bad[:2])
    assert dict(by_key[bad[2]].labels) == {"gender": "male", "race": "White"}, "no such age"
    assert sorted(problem.where for problem in photos.problems) == sorted([*bad[:2], "age"])
    assert {sample.split for sample in photos.samples} == {"train"}


def test_recognition_tries_the_surest_layout_first(tmp_path: Path) -> None:
    touch(tmp_path, "one/1.jpg", "two/2.jpg")
    assert recognise(tmp_path) == "folders"
    (tmp_path / "labels.csv").write_text("path\none/1.jpg\n")
    assert recognise(tmp_path) == "csv"
    touch(tmp_path, "fairface_label_val.csv")
    assert recognise(tmp_path) == "fairface"
    touch(tmp_path, "train/images/000001_male_Asian_20/normal.jpg")
    assert recognise(tmp_path) == "contest"


def test_no_photos_lists_the_layouts(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", "._1.jpg")
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    assert all(f"  {name}: {WANTS[name]}" in str(caught.value) for name in LAYOUTS)
    for name in ("folders", "photos", "utkface", "contest"):
        with pytest.raises(DataError, match=f"holds no photos in the layout '{name}'"):
            open_dataset(tmp_path, layout=name)


def test_a_wrong_place_or_layout_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg")
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(tmp_path / "nosuch")
    with pytest.raises(DataError, match="is a file: wanted a folder"):
        open_dataset(tmp_path / "1.jpg")
    with pytest.raises(DataError, match="unknown layout 'xyz'; the layouts are"):
        open_dataset(tmp_path, layout="xyz")
    with pytest.raises(DataError, match="did you mean 'folders'"):
        open_dataset(tmp_path, layout="folder")


def test_single_photos(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    photos = open_files([tmp_path / "b/2.jpg", tmp_path / "a/1.jpg", tmp_path / "a/../a/1.jpg"])
    assert photos.root == tmp_path
    assert [sample.key for sample in photos.samples] == ["a/1.jpg", "b/2.jpg"]
    assert [s.key for s in open_files([tmp_path / "gone.jpg"]).samples] == ["gone.jpg"]
    with pytest.raises(DataError, match="is a folder"):
        open_files([tmp_path])
    with pytest.raises(DataError, match="no photo is named"):
        open_files([])


def test_data_sets_are_opened_without_torch() -> None:
    code = (
        "import sys, cropfirst.stage2_classify.datasets, cropfirst.stage2_classify.labels.schema\n"
        "print([name for name in ('torch', 'cv2', 'sklearn', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_shared_photos_in_the_wild(shared_data: Path) -> None:
    photos = open_dataset(shared_data / "faces_in_the_wild")
    assert (photos.layout, len(photos), photos.problems) == ("photos", 853, ())

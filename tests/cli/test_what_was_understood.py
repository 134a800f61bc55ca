"""The commands describe a data set, and do not read their own results as part of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

Ok = Callable[..., str]
Run = Callable[..., Any]


@pytest.fixture
def folders(contest: Path, tmp_path: Path) -> Path:
    """Two classes, three photos."""
    photos = sorted((contest / "eval/images").glob("*.jpg"))
    for name, photo in zip(("a/1.jpg", "b/2.jpg", "b/3.jpg"), photos, strict=False):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, tmp_path / "photos" / name)
    return tmp_path / "photos"


def test_results_inside_the_data_set_are_not_photos_of_it(
    folders: Path, ok: Ok, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders)
    fast = ("--set", "crop.image_size=32", "--export", "exported")
    ok("detect", ".", *fast)
    again = ok("detect", ".", *fast)
    assert "layout folders, 3 train photos" in again
    assert "label label: b 2, a 1" in again and "work" not in again.split("label label")[1][:20]
    assert "note: exported: was made by cropfirst; left out" in again


@pytest.mark.parametrize("name", ["detect", "eda"])
def test_commands_open_with_what_was_understood(
    name: str, folders: Path, ok: Ok, tmp_path: Path
) -> None:
    (folders / "a/4.heif").write_bytes(b"\0\0\0\x18ftypmif1")
    (folders / "a/5.dng").touch()
    said = ok(name, folders, "--work", tmp_path / "work")
    assert "photos (layout recognised)" in said
    assert "label label: " in said
    assert "persons unknown: each photo counts as a person of its own" in said
    assert "not taken, though they look like images: " in said and "1 .dng" in said


def test_photos_with_several_faces_are_counted(
    folders: Path, ok: Ok, run: Run, portrait: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    both = np.hstack([portrait("normal", person=person) for person in (1, 2)])
    assert cv2.imwrite(str(folders / "b/pair.png"), both[..., ::-1])
    small = ("--set", "crop.image_size=32", "--device", "cpu")
    said = ok("detect", folders, "--work", tmp_path / "work", *small)
    assert "5 faces in all, photos with several faces: 1; " in said
    for name, flags in (("eda", ("--no-photos",)), ("train", ("--task", "label"))):
        said = run(name, folders, "--work", tmp_path / "work", *flags).text
        assert "photos with several faces: 1; each crop shows the main one" in said
    (folders / "b/pair.png").unlink()
    said = ok("eda", folders, "--work", tmp_path / "work", "--no-photos")
    assert "photos with several faces: none" in said, "those of the data set alone are counted"


def test_strict_stops_at_impossible_values(folders: Path, ok: Ok, run: Run, tmp_path: Path) -> None:
    (folders / "labels.csv").write_text("path,age\na/1.jpg,150\nb/2.jpg,40\n", "utf-8")
    said = run("detect", folders, "--work", tmp_path / "work", "--strict")
    assert "1 photos have values that are impossible" in said.error
    said = ok("detect", folders, "--work", tmp_path / "work")
    assert "1 photos have an age outside of 0 to 120 (150)" in said


def test_a_column_of_numbers_is_trained_on_where_it_is_asked_for(
    contest: Path, ok: Ok, run: Run, table: Any, detect_flags: Any, train_flags: Any, tmp_path: Path
) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    rows: list[tuple[object, ...]] = [("path", "split", "Smiling")]
    for index, photo in enumerate(sorted((contest / "train/images").glob("*/*.jpg"))[:10]):
        data.mkdir(exist_ok=True)
        shutil.copy(photo, data / f"{index}.jpg")
        rows.append((f"{index}.jpg", "train" if index < 8 else "eval", (-1, 1)[index % 2]))
    table(data / "labels.csv", rows)
    ok("detect", data, "--work", work, *detect_flags)
    said = run("train", data, "--work", work, "--task", "mask", "--no-pretrained")
    assert "column Smiling has 2 different numbers: -1 (5), 1 (5)" in said.error
    assert "--task Smiling" in said.error and "classes: ['-1', '1']" in said.error
    ok("eda", data, "--work", work, "--no-photos", "--schema", "contest",
       "--write-schema", tmp_path / "s.yaml")  # fmt: skip
    said = run("eda", data, "--work", work, "--write-schema", tmp_path / "s.yaml")
    assert "s.yaml exists already" in said.error
    given = (data, "--work", work, "--task", "Smiling")
    # Each job of a sweep opens the data set itself: it must come to the same schema.
    small = ("--set", "model.pretrained=false", "--set", "model.backbone=test_vit")
    small += ("--set", "folds.fold=0", "--backend", "sequential")
    ok("sweep", *given, *small, "--folds", "2", "--epochs", "1")
    assert "Smiling" in ok("train", *given, *train_flags, "--fold", "0")
    ok("predict", data, "--work", work, "--device", "cpu")
    said = ok("evaluate", data, "--work", work, "--predictions", work / "predict")
    assert "Smiling  macro F1" in said and "2 photos" in said


def test_results_beside_the_only_folder_change_nothing(
    folders: Path, ok: Ok, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders / "dataset").mkdir()
    for name in ("a", "b"):
        (folders / name).rename(folders / "dataset" / name)
    monkeypatch.chdir(folders)
    said = [ok("detect", ".", "--set", "crop.image_size=32") for _ in range(2)]
    for each in said:
        assert "layout folders, 3 train photos" in each and "label label: b 2, a 1" in each
        assert "the data set is in its only folder dataset/" in each and "not read" not in each

"""Data sets that are not what they should be: an error that says how to correct it, or a note."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

Ok = Callable[..., str]
Run = Callable[..., Any]
Flags = tuple[str, ...]


def _command(name: str, data: Path, work: Path) -> list[str | Path]:
    return [name, data, "--work", work, *(["--task", "mask"] if name == "train" else [])]


COMMANDS = ("detect", "train", "predict", "evaluate")


@pytest.fixture
def photo(contest: Path) -> Path:
    return contest / "eval/images/k.jpg"


@pytest.mark.parametrize("name", COMMANDS)
def test_data_that_does_not_exist(name: str, run: Run, tmp_path: Path) -> None:
    said = run(*_command(name, tmp_path / "nowhere", tmp_path / "work"))
    assert said.error.startswith(f"{tmp_path / 'nowhere'} does not exist: wanted a ")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("files", [[], ["notes.txt", ".hidden.jpg", "._a.png"]])
def test_data_without_a_photo(name: str, files: list[str], run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for file in files:
        (tmp_path / "data" / file).touch()
    said = run(*_command(name, tmp_path / "data", tmp_path / "work"))
    assert "holds no photos in any layout that is known" in said.error
    assert "train/images/{id}_{gender}_{race}_{age}" in said.error
    assert not (tmp_path / "work").exists()


def test_data_that_is_a_photo(photo: Path, trained: Any, run: Run, tmp_path: Path) -> None:
    for name in ("detect", "train", "evaluate"):
        said = run(*_command(name, photo, tmp_path / "work"))
        assert said.error.startswith(f"{photo} is a file: wanted a folder of photos")
    said = run("predict", photo, "--work", tmp_path / "work")
    assert "predicting single photos needs --runs DIR" in said.error
    said = run("predict", photo, trained.data, "--runs", trained.runs)
    assert f"{trained.data} is a folder: wanted photos" in said.error
    said = run("predict", photo, photo.with_name("z.jpg"), "--runs", trained.runs)
    assert said.error.startswith(f"{photo.with_name('z.jpg')} does not exist: wanted a data set")


def test_the_inside_of_a_contest_is_recognised(contest: Path, run: Run) -> None:
    said = run("detect", contest / "train/images")
    assert f"give its top folder, {contest}" in said.error


def test_a_folder_name_that_does_not_parse(
    contest: Path, ok: Ok, detect_flags: Flags, train_flags: Flags, tmp_path: Path
) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    shutil.copytree(contest, data)
    people = data / "train/images"
    (people / "000004_female_Drawn_45").rename(people / "number four")
    said = ok("detect", data, "--work", work, *detect_flags)
    assert "note: train/images/number four: is not called {id}_{gender}_{race}_{age}" in said
    assert "46 crops written" in said
    said = ok("train", data, "--work", work, "--task", "gender", *train_flags)
    assert "left out: 7 photos, no label for gender" in said
    said = ok("train", data, "--work", work, "--task", "mask", *train_flags)
    assert "left out" not in said
    oof = pl.read_parquet(work / "runs/mask-test_vit/oof.parquet")
    theirs = oof.filter(pl.col("key").str.contains("number four"))
    assert theirs.height == 7 and theirs["fold"].n_unique() == 1, "one person, one fold"


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (["ImageID,ans", "k.jpg,0", "k.jpg,0"], "'k.jpg' is there twice; one answer a photo"),
        (["image,ans", "k.jpg,0"], "info.csv has no column 'ImageID': its columns are image, ans"),
        (["ImageID,ans", "../../train/images/x.jpg,0"], "leaves "),
        (["ImageID,ans", ",0"], "row 1: ImageID is empty"),
    ],
)
def test_an_info_csv_that_asks_for_the_impossible(
    rows: list[str], wanted: str, contest: Path, run: Run, tmp_path: Path
) -> None:
    shutil.copytree(contest / "eval", tmp_path / "data/eval")
    (tmp_path / "data/eval/info.csv").write_text("\n".join(rows))
    said = run("detect", tmp_path / "data", "--work", tmp_path / "work")
    assert wanted in said.error and "info.csv" in said.error


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (
            ["path,split,group", "a.jpg,train,ann", "b.jpg,eval,ann"],
            "group 'ann' is in two splits: 'a.jpg' (train) and 'b.jpg' (eval)",
        ),
        (["path,split", "a.jpg,train", "a.jpg,train"], "'a.jpg' is in row 1 already"),
        (["path,split", "a.jpg,holdout"], "split must be one of train, training, trn, eval"),
        (["path", "../a.jpg"], "leaves "),
        (["path", "x/a.jpg", "x/b.jpg"], "none of the 2 photos that "),
        (["place,hat", "a.jpg,yes"], "has no column 'path': its columns are place, hat"),
    ],
)
@pytest.mark.parametrize("name", ["detect", "train"])
def test_a_table_with_a_mistake(
    rows: list[str], wanted: str, name: str, photo: Path, run: Run, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for copy in ("a.jpg", "b.jpg"):
        shutil.copy(photo, data / copy)
    (data / "labels.csv").write_text("\n".join(rows))
    said = run(*_command(name, data, tmp_path / "work"))
    assert wanted in said.error


def test_a_task_with_one_class(
    contest: Path, run: Run, ok: Ok, table: Any, detect_flags: Flags, tmp_path: Path
) -> None:
    rows: list[tuple[object, ...]] = [("path", "gender", "hat")]
    for index, folder in enumerate(sorted((contest / "train/images").iterdir())):
        shutil.copy(next(folder.glob("normal.*")), tmp_path / f"{index}.png")
        rows.append((f"{index}.png", "male", "yes"))
    table(tmp_path / "labels.csv", rows)
    work = tmp_path / "work"
    ok("detect", tmp_path, "--work", work, *detect_flags)
    said = run("train", tmp_path, "--work", work, "--task", "gender", "--no-pretrained")
    assert "task 'gender' has one class only: all 6 photos" in said.error
    assert "check the labels, or choose another --task" in said.error
    said = run("train", tmp_path, "--work", work, "--task", "hat", "--no-pretrained")
    assert "no task 'hat'" in said.error
    assert not (work / "runs").exists()


def test_photos_without_labels_cannot_be_trained_on(
    photo: Path, run: Run, ok: Ok, detect_flags: Flags, tmp_path: Path
) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    data.mkdir()
    shutil.copy(photo, data / "a.jpg")
    ok("detect", data, "--work", work, *detect_flags)
    said = run("train", data, "--work", work, "--task", "mask", "--no-pretrained")
    assert "has no labels that make a task" in said.error and "--schema FILE" in said.error


def test_a_class_that_only_one_person_has(
    contest: Path, run: Run, ok: Ok, detect_flags: Flags, train_flags: Flags, tmp_path: Path
) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    for name in ("000001_male_Drawn_22", "000003_male_Drawn_40", "000002_female_Drawn_25"):
        shutil.copytree(contest / "train/images" / name, data / "train/images" / name)
    ok("detect", data, "--work", work, *detect_flags)
    said = run("train", data, "--work", work, "--task", "gender", *train_flags)
    assert "only one class is left to train on" in said.error and "lower --folds" in said.error


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("key,group,field,was,value\n,000001,gendre,,female\n", "did you mean 'gender'?"),
        ("group,field,value\n000001,gender,male\n000001,gender,female\n", "contradict"),
        ("a,b\n1,2\n", "has no column 'field'"),
        ("group,field,value\n000001,gender,unclear\n", "unclear"),
    ],
)
def test_corrections_with_a_mistake(
    text: str, wanted: str, copied: Any, run: Run, train_flags: Flags, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.csv"
    rules.write_text(text)
    said = run(
        "train", copied.data, "--work", copied.work, "--task", "gender", *train_flags,
        "--corrections", rules,
    )  # fmt: skip
    assert wanted in said.error


def test_places_that_are_files(trained: Any, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for name in COMMANDS:
        said = run(*_command(name, trained.data, file))
        assert str(file) in said.error
    flags = ("--work", trained.work)
    said = run("detect", trained.data, "--cache", file, "--work", tmp_path / "work")
    assert f"{file} is a file: choose a folder for the cache" in said.error
    for name in ("predict", "evaluate"):
        said = run(name, trained.data, *flags, "--out", file)
        assert f"wanted a folder at {file}, and there is a file in the way" in said.error
    said = run("predict", trained.data, *flags, "--runs", file)
    assert f"no runs in {file}" in said.error
    said = run("train", trained.data, *flags, "--task", "mask", "--runs", file, "--no-pretrained")
    assert str(file) in said.error
    assert file.read_text() == "x"

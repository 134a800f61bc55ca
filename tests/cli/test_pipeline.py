"""Photos in, submission out, as a user goes: detect, train, predict, evaluate."""

from __future__ import annotations

import csv
import gc
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

Ok = Callable[..., str]
Flags = tuple[str, ...]
Table = Callable[[Path, Sequence[Sequence[object]]], None]


def _read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def _is_picture(path: Path) -> bool:
    image = cv2.imread(str(path))
    return image is not None and float(image.std()) > 1


def test_submission_has_the_rows_of_info_csv_in_their_order(
    trained: Any, ok: Ok, tmp_path: Path
) -> None:
    said = ok("predict", trained.data, "--work", trained.work, "--out", tmp_path)
    assert f"written: {tmp_path / 'submission.csv'}" in said
    rows = _read(tmp_path / "submission.csv")
    asked = _read(trained.data / "eval/info.csv")
    assert [row[0] for row in rows] == [row[0] for row in asked]
    assert rows[0] == ["ImageID", "ans"] and rows[1:] != sorted(rows[1:])
    table = pl.read_parquet(tmp_path / "predictions.parquet")
    assert sorted(table["key"]) == sorted(f"eval/images/{name}" for name, _ in asked[1:])
    codes = {row["image_id"]: row["code"] for row in table.iter_rows(named=True)}
    assert rows[1:] == [[name, str(codes[name])] for name, _ in asked[1:]]
    for row in table.iter_rows(named=True):
        assert row["status"] == "detected" and row["members"] == 2
        assert 0 <= row["code"] < 18
        for task in ("mask", "gender", "age"):
            assert sum(row[f"{task}_probs"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_all_kinds_of_runs_vote_together(
    copied: Any, ok: Ok, train_flags: Flags, tmp_path: Path
) -> None:
    for task in ("mask", "gender", "age", "class18"):
        said = ok("train", copied.data, "--work", copied.work, "--task", task, *train_flags)
        assert f"run: {copied.runs / f'{task}-test_vit'}" in said
    said = ok("predict", copied.data, "--work", copied.work)
    assert "10 members" in said
    assert len(_read(copied.work / "predict/submission.csv")) == 1 + 4
    said = ok("evaluate", copied.data, "--work", copied.work)
    report = json.loads((copied.work / "evaluate/evaluation.json").read_text())
    assert {each["task"] for each in report["reports"]} == {"mask", "gender", "age", "class18"}
    for task in ("mask", "gender", "age", "class18"):
        assert _is_picture(copied.work / f"evaluate/confusion_{task}.png")


def test_a_finished_run_is_not_trained_again(trained: Any, ok: Ok, train_flags: Flags) -> None:
    weights = sorted(trained.runs.rglob("*.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    said = ok(
        "train", trained.data, "--work", trained.work, "--task", "mask,gender,age", *train_flags
    )
    assert "finished already: nothing to train" in said
    assert before and [path.stat().st_mtime_ns for path in weights] == before


def test_evaluate_out_of_fold_and_against_answers(
    trained: Any, ok: Ok, table: Table, tmp_path: Path
) -> None:
    said = ok("evaluate", trained.data, "--work", trained.work, "--out", tmp_path / "oof")
    assert "Out-of-fold scores" in said and "macro F1" in said
    report = json.loads((tmp_path / "oof/evaluation.json").read_text())
    mask = next(each for each in report["reports"] if each["task"] == "mask")
    assert mask["n_photos"] == 42 and 0 <= mask["macro_f1"] <= 1

    ok("predict", trained.data, "--work", trained.work, "--out", tmp_path / "predict")
    answers = _read(tmp_path / "predict/submission.csv")
    answers[1][1] = str((int(answers[1][1]) + 6) % 18)  # another mask: 3 of 4 stay right
    table(tmp_path / "answers.csv", [answers[0], *reversed(answers[1:])])
    said = ok(
        "evaluate", trained.data, "--work", trained.work, "--out", tmp_path / "right",
        "--answers", tmp_path / "answers.csv",
        "--predictions", tmp_path / "predict/predictions.parquet",
    )  # fmt: skip
    report = json.loads((tmp_path / "right/evaluation.json").read_text())
    accuracy = {each["task"]: each["accuracy"] for each in report["reports"]}
    assert accuracy == {"mask": 0.75, "gender": 1.0, "age": 1.0, "class18": 0.75}
    for task in accuracy:
        assert _is_picture(tmp_path / f"right/confusion_{task}.png")


def test_single_photos_get_the_answers_of_the_data_set_path(
    trained: Any, ok: Ok, tmp_path: Path
) -> None:
    ok("predict", trained.data, "--work", trained.work, "--out", tmp_path / "all")
    whole = pl.read_parquet(tmp_path / "all/predictions.parquet")
    photos = [trained.data / "eval/images" / name for name in ("x.jpg", "b.png")]
    said = ok("predict", *photos, "--runs", trained.runs, "--out", tmp_path / "two")
    assert "b.png" in said and "x.jpg" in said and f"predictions: {tmp_path / 'two'}" in said
    alone = pl.read_parquet(tmp_path / "two/predictions.parquet")
    assert alone["key"].to_list() == ["b.png", "x.jpg"]
    for row in alone.iter_rows(named=True):
        same = whole.filter(pl.col("image_id") == row["key"]).row(0, named=True)
        assert row["status"] == same["status"] == "detected"
        assert row["code"] == same["code"]
        for task in ("mask", "gender", "age"):
            np.testing.assert_allclose(row[f"{task}_probs"], same[f"{task}_probs"], atol=1e-5)
            assert f"{row[f'{task}_pred']} (" in said


def test_one_photo_needs_no_output_folder(
    trained: Any, ok: Ok, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = ok("predict", trained.data / "eval/images/k.jpg", "--runs", trained.runs)
    assert "k.jpg" in said and "detected" in said
    assert list(tmp_path.iterdir()) == []


def test_a_photo_of_several_people_is_said_to_be_one(
    trained: Any, ok: Ok, portrait: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    both = np.hstack([portrait("normal", person=0), portrait("normal", person=1)])
    assert cv2.imwrite(str(tmp_path / "both.png"), both[..., ::-1])
    alone = trained.data / "eval/images/b.png"
    said = " ".join(ok("predict", tmp_path / "both.png", alone, "--runs", trained.runs).split())
    assert "both.png: 2 faces were found, and the prediction is for the main one alone" in said
    assert "--all-faces predicts each of them" in said
    assert "b.png: 1 faces" not in said and said.count("faces were found") == 1
    data, work = tmp_path / "data", tmp_path / "work"
    data.mkdir()
    shutil.copy(tmp_path / "both.png", data)
    shutil.copy(alone, data)
    ok("detect", data, "--work", work, "--set", "crop.image_size=32", "--device", "cpu")
    said = ok("predict", data, "--work", work, "--runs", trained.runs)
    assert "1 photos show several faces: the prediction is for the main face" in said


def test_all_faces_of_single_photos_get_a_row_each(
    trained: Any, ok: Ok, run: Any, portrait: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    both = np.hstack([portrait("normal", person=0), portrait("mask1", person=1)])
    assert cv2.imwrite(str(tmp_path / "both.png"), both[..., ::-1])
    assert cv2.imwrite(str(tmp_path / "wall.png"), np.full_like(both, 180))
    (tmp_path / "text.jpg").write_text("no photo")
    photos = [tmp_path / name for name in ("both.png", "wall.png", "text.jpg")]
    given = (*photos, trained.data / "eval/images/b.png", "--runs", trained.runs, "--device", "cpu")
    ok("predict", *given, "--out", tmp_path / "main")
    said = ok("predict", *given, "--out", tmp_path / "all", "--all-faces")
    assert "for the main one alone" not in said and "text.jpg: NotAnImage" in said
    main = pl.read_parquet(tmp_path / "main/predictions.parquet")
    rows = pl.read_parquet(tmp_path / "all/predictions.parquet")
    assert not (tmp_path / "all/submission.csv").exists()
    named = [(Path(key).name, face) for key, face in rows.select("key", "face").rows()]
    assert sorted(named) == [
        ("b.png", 1), ("both.png", 1), ("both.png", 2), ("text.jpg", 0), ("wall.png", 0)
    ]  # fmt: skip
    assert set(rows["key"]) == set(main["key"])
    faces = rows.filter(pl.col("key").str.ends_with("both.png"))
    left, right = sorted(faces["box"].to_list())
    middle = both.shape[1] / 2
    assert 0 < left[0] < left[2] < middle + 5 and middle - 5 < right[0] < right[2]
    for text in ("2", f"{round(right[0])},{round(right[1])} -"):
        assert text in said
    for row in main.iter_rows(named=True):
        same = rows.filter(pl.col("key") == row["key"])["mask_probs"].to_list()
        assert min(np.abs(np.subtract(each, row["mask_probs"])).max() for each in same) < 1e-5
    assert faces["mask_probs"][0].to_list() != faces["mask_probs"][1].to_list()
    said = run("evaluate", trained.data, "--work", trained.work, "--predictions", tmp_path / "all")
    assert "has a row per face (predict --all-faces)" in said.error
    said = run("predict", trained.data, "--work", trained.work, "--all-faces")
    assert "a submission have one row per photo" in said.error


def test_all_faces_need_crops_of_one_detector(trained: Any, run: Any, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(trained.runs, runs)
    for path in runs.glob("*/fold*/best_f1/meta.json"):
        meta = json.loads(path.read_text("utf-8"))
        meta["crop_set"]["config"]["detection"]["detector"]["min_face_size"] = 20
        meta["crop_set"]["fingerprint"] = "0" * 16
        path.write_text(json.dumps(meta), "utf-8")
    given = ("predict", trained.data / "eval/images/b.png", "--all-faces", "--device", "cpu")
    said = run(*given, "--runs", trained.runs, "--runs", runs)
    assert "needs runs whose crops were made with the same detector" in said.error


def _csv_set(root: Path, source: Path, table: Table) -> None:
    """Twelve photos of six people with a column of words, two to predict."""
    rows: list[tuple[object, ...]] = [("path", "split", "group", "hat")]
    for index, folder in enumerate(sorted((source / "train/images").iterdir())):
        for photo in sorted(folder.glob("mask[12].*")):
            name = f"photos/{index}-{photo.name}"
            (root / "photos").mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, root / name)
            rows.append((name, "train", f"p{index}", "yes" if index % 2 else "no"))
    for name in ("x.jpg", "a.jpg"):
        shutil.copy(source / "eval/images" / name, root / "photos" / name)
        rows.append((f"photos/{name}", "eval", "", ""))
    table(root / "labels.csv", rows)


def _folder_set(root: Path, source: Path, _: Table) -> None:
    """One folder a class."""
    for kind in ("mask1", "normal"):
        (root / kind).mkdir(parents=True)
        for index, folder in enumerate(sorted((source / "train/images").iterdir())):
            photo = next(folder.glob(f"{kind}.*"))
            shutil.copy(photo, root / kind / f"{index}{photo.suffix}")


def _fairface_set(root: Path, source: Path, table: Table) -> None:
    """FairFace's two tables; ages are ranges."""
    header = ("file", "age", "gender", "race", "service_test")
    ages, rows = ("20-29", "30-39", "more than 70"), {"train": [header], "val": [header]}
    for index, folder in enumerate(sorted((source / "train/images").iterdir())):
        for kind, split in (("mask1", "train"), ("normal", "train"), ("mask5", "val")):
            photo, name = next(folder.glob(f"{kind}.*")), f"{split}/{index}-{kind}.jpg"
            (root / split).mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, root / name)
            gender = "Male" if index % 2 else "Female"
            rows[split].append((name, ages[index % 3], gender, "White", "True"))
    for split, lines in rows.items():
        table(root / f"fairface_label_{split}.csv", lines)


@pytest.mark.parametrize(
    ("layout", "make", "task", "predicted"),
    [
        ("csv", _csv_set, "hat", ["photos/a.jpg", "photos/x.jpg"]),
        ("folders", _folder_set, "label", [f"{k}/{i}" for k in ("mask1", "normal") for i in "012"]),
        ("fairface", _fairface_set, "gender,age", [f"val/{i}-mask5.jpg" for i in range(6)]),
    ],
)
@pytest.mark.slow
def test_other_layouts_go_all_the_way(
    layout: str, make: Callable[..., None], task: str, predicted: list[str], contest: Path,
    ok: Ok, table: Table, detect_flags: Flags, train_flags: Flags, tmp_path: Path,
) -> None:  # fmt: skip
    root, work = tmp_path / "data", tmp_path / "work"
    root.mkdir()
    make(root, contest, table)
    said = ok("detect", root, "--work", work, *detect_flags)
    assert f"layout {layout}" in said
    ok("train", root, "--work", work, "--task", task, *train_flags)
    ok("predict", root, "--work", work)
    rows = _read(work / "predict/submission.csv")
    assert rows[0] == ["path", *task.split(",")]
    keys = [row[0] for row in rows[1:]]
    assert all(any(key.startswith(name) for key in keys) for name in predicted)
    assert len(keys) == len(set(keys)) == (12 if layout == "folders" else len(predicted))
    ok("evaluate", root, "--work", work)
    report = json.loads((work / "evaluate/evaluation.json").read_text())
    assert [each["task"] for each in report["reports"]] == task.split(",")


def test_a_second_detect_finds_all_unchanged(copied: Any, ok: Ok, detect_flags: Flags) -> None:
    before = copied.crops().manifest.path.read_bytes()
    said = ok("detect", copied.data, "--work", copied.work, *detect_flags)
    assert "none was processed again; 0 crops written" in said
    assert copied.crops().manifest.path.read_bytes() == before


def test_detect_collects_garbage_as_before_once_it_ends(
    copied: Any, ok: Ok, detect_flags: Flags
) -> None:
    before = gc.get_threshold()
    ok("detect", copied.data, "--work", copied.work, *detect_flags)
    assert gc.get_threshold() == before


def test_another_crop_setting_cuts_anew_without_detecting(
    copied: Any, ok: Ok, detect_flags: Flags
) -> None:
    said = ok("detect", copied.data, "--work", copied.work, *detect_flags, "--background", "box")
    assert "none was processed again" in said and "46 crops written" in said
    assert copied.crops("box").verify() == [] and copied.crops("ellipse").verify() == []


def test_export_writes_every_crop_to_look_at(
    copied: Any, ok: Ok, detect_flags: Flags, tmp_path: Path
) -> None:
    out = tmp_path / "png"
    said = ok("detect", copied.data, "--work", copied.work, *detect_flags, "--export", out)
    assert f"exported 46 crops to {out}" in said
    crops = copied.crops().reader()
    exported = sorted(out.rglob("*.png"))
    assert len(exported) == 46
    for path in exported:
        key = path.relative_to(out).as_posix().removesuffix(".png")
        assert (cv2.imread(str(path))[..., ::-1] == crops[key]).all(), key


def test_detect_leaves_contact_sheets(trained: Any) -> None:
    name = trained.crops().name
    assert _is_picture(trained.work / f"detect/{name}.png")
    assert (trained.work / f"detect/{name}-not-detected.png").is_file()


def test_corrections_say_how_many_photos_they_changed(
    copied: Any, ok: Ok, train_flags: Flags, table: Table, tmp_path: Path
) -> None:
    rules = tmp_path / "mine.csv"
    table(
        rules,
        [
            ("key", "group", "field", "was", "value"),
            ("", "000001", "gender", "male", "female"),
            ("train/images/000002_female_Drawn_25/normal.jpg", "", "mask", "normal", "wear"),
            ("", "000003", "gender", "female", "male"),  # is male already: matches nothing
        ],
    )
    said = ok(
        "train", copied.data, "--work", copied.work, "--task", "gender", *train_flags,
        "--corrections", rules,
    )  # fmt: skip
    assert f"corrections {rules}: 8 photos changed by 2 of 3 rules" in said
    assert "1 of 3 corrections match no photo" in said
    oof = pl.read_parquet(copied.runs / "gender-test_vit/oof.parquet")
    codes = dict(oof.filter(pl.col("group") == "000001").select("key", "gender_target").iter_rows())
    assert set(codes.values()) == {1}, "the out-of-fold table holds the corrected label"


def test_results_go_below_work_by_default(
    contest: Path, ok: Ok, detect_flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ok("detect", contest, *detect_flags)
    assert (tmp_path / "work/drawn/cache/cache.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_help_of_every_command_names_its_options(ok: Ok) -> None:
    for command in ("detect", "train", "predict", "evaluate"):
        said = ok(command, "--help")
        assert "Usage:" in said and "--work DIR" in said

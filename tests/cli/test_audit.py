"""`audit` on a small drawn data set: from runs to tables and pictures."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from PIL import Image

from cropfirst.cache import Cache
from cropfirst.stage2_classify.audit import answers
from cropfirst.stage2_classify.commands.audit import open_photo_reader
from cropfirst.stage2_classify.drawn.portrait import Shot, draw_portrait, random_person
from cropfirst.stage2_classify.runs.parquet import read_parquet, write_parquet

Ok = Callable[..., str]
VARIANTS = {
    "original", "only_bg_b", "only_bg_t", "only_fg", "mixed_same", "mixed_rand", "mixed_next",
}  # fmt: skip


@pytest.fixture(scope="module")
def audited(trained: Any, ok: Ok, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The output of the one audit, and its folder. Not to be changed."""
    out = tmp_path_factory.mktemp("audit")
    said = ok("audit", trained.runs, "--out", out, "--limit", "0", "--device", "cpu")
    return said, out


def test_the_audit_has_every_variant_of_every_task(audited: tuple[str, Path]) -> None:
    said, out = audited
    flat = " ".join(said.split())
    data = json.loads((out / "audit.json").read_text())
    assert (data["format"], data["kind"]) == (1, "audit")
    assert [row["task"] for row in data["runs"]] == ["mask", "gender", "age"]
    for row in data["runs"]:
        assert set(row["variants"]) == VARIANTS
        assert row["n_people"] == 6 and row["n_photos"] == 42
        assert row["background"] == "ellipse" and row["backbone"] == "test_vit"
        assert -1 <= row["bg_gap_low"] <= row["bg_gap"] <= row["bg_gap_high"] <= 1
        assert 0 <= row["cam_inside_low"] <= row["cam_inside"] <= row["cam_inside_high"] <= 1
        assert 0 <= row["out_of_fold_macro_f1"] <= 1 and row["seconds"] > 0
        # One epoch on six people teaches nothing, so nothing is certified.
        assert (row["verdict"], row["verdict_cause"]) == ("cannot tell", "at chance")
        assert f"{row['name']}: cannot tell, since {row['verdict_reason']}" in flat
        assert row["chance"]["is_better"] is False and row["chance"]["n_people"] == 6
        share = {"mask": 5 / 7, "gender": 1 / 2, "age": 1 / 3}[row["task"]]
        classes = {"mask": 3, "gender": 2, "age": 3}[row["task"]]
        majority_f1 = pytest.approx(2 * share / (1 + share) / classes)
        original = row["variants"]["original"]
        assert original["majority_accuracy"] == pytest.approx(share)
        assert row["out_of_fold_majority_macro_f1"] == majority_f1
        assert original["majority_macro_f1"] == majority_f1
        assert row["out_of_fold_majority_accuracy"] == pytest.approx(share)
    assert [row["task"] for row in data["probe"]] == ["mask", "gender", "age"]
    for picture in data["pictures"]:
        image = cv2.imread(str(out / picture["file"]))
        assert image is not None and image.std() > 1 and picture["title"] and picture["caption"]
    assert {"gaps.png", "variants-gender.png", "crops-age.png"} <= {p.name for p in out.iterdir()}
    table = pl.read_parquet(out / "audit.parquet")
    assert table.height == 3 * 7 and set(table["variant"]) == VARIANTS
    assert set(table.columns) >= {"majority_accuracy", "majority_macro_f1"}
    assert "gender: accuracy in %" in said and "background alone tells age" in said
    rows = [line.split("│")[1].strip() for line in said.splitlines() if line.startswith("│")]
    assert rows[:2] == ["BG-Gap, points", "verdict"]
    assert {"majority, macro F1", "majority"} <= set(rows)
    assert "cannot tell: at chance" in said and "71.4" in said


def test_originals_are_answered_as_in_training_out_of_fold(
    trained: Any, audited: tuple[str, Path]
) -> None:
    """Composites go the way of the crops, and each photo to the fold that has not seen it."""
    oof = pl.read_parquet(next(trained.runs.glob("*/oof.parquet")))
    answers = pl.concat([pl.read_parquet(p) for p in (audited[1] / "answers").glob("*.parquet")])
    for task in ("mask", "gender", "age"):
        said = answers.filter((pl.col("task") == task) & (pl.col("variant") == "original"))
        both = said.join(oof, on="key")
        assert both.height == oof.height == 42
        known = [int(np.argmax(probs)) for probs in both[f"{task}_probs"]]
        assert both["pred"].to_list() == known


def test_a_second_audit_goes_on_where_the_first_was(
    trained: Any, audited: tuple[str, Path], ok: Ok, tmp_path: Path
) -> None:
    shutil.copytree(audited[1], tmp_path / "out")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/answers").iterdir()}
    ok("audit", trained.runs, "--out", tmp_path / "out", "--limit", "0", "--device", "cpu")
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/answers").iterdir()}
    assert before and before == after
    one, two = (
        json.loads((out / "audit.json").read_text())["runs"]
        for out in (audited[1], tmp_path / "out")
    )
    assert all(a | {"seconds": 0} == b | {"seconds": 0} for a, b in zip(one, two, strict=True))


def test_a_changed_photo_is_audited_again_also_as_the_background_of_others(
    copied: Any, ok: Ok, detect_flags: tuple[str, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(answers, "MOST_IN_BLOCK", 1)

    def audit(out: Path) -> set[str]:
        ok("audit", copied.runs, "--out", out, "--limit", "14", "--device", "cpu")
        return {path.name for path in (out / "answers").iterdir()}

    data = tmp_path / "data"
    shutil.copytree(copied.data, data)
    head = copied.cache / "cache.json"
    head.write_text(json.dumps(json.loads(head.read_text()) | {"data_root": str(data)}))
    before = audit(tmp_path / "out")
    keys = [pl.read_parquet(tmp_path / "out/answers" / name)["key"][0] for name in before]
    photo = data / min(keys)  # not the first file: its name is a hash of the weights too
    image = cv2.imread(str(photo))
    image[:8] = 255 - image[:8]
    cv2.imwrite(str(photo), image)
    ok("detect", data, "--work", copied.work, *detect_flags)
    after = audit(tmp_path / "out")
    redone = len(after - before)
    assert len(before) == len(after) == 14 and 2 < redone < 14, redone


def test_a_model_that_reads_the_background_is_found_out(
    ok: Ok, detect_flags: tuple[str, ...], tmp_path: Path
) -> None:
    """One drawn face on all photos: nothing but the wall behind it tells the class."""
    face = random_person(np.random.default_rng(0), name="all", gender="male", age=30)
    for number in range(8):
        gender, wall = (("male", 5), ("female", 2))[number % 2]
        folder = tmp_path / "data/train/images" / f"{number + 1:06d}_{gender}_Drawn_30"
        folder.mkdir(parents=True)
        for kind in ("normal", "mask1"):
            rng = np.random.default_rng([number, len(kind)])
            image = draw_portrait(face, Shot(kind, wall), rng, (144, 192)).image
            assert cv2.imwrite(str(folder / f"{kind}.jpg"), image[..., ::-1])
    work, data = tmp_path / "work", tmp_path / "data"
    ok("detect", data, "--work", work, "--background", "photo", *detect_flags)
    small = (
        "--no-pretrained",
        "--backbone",
        "test_vit",
        "--set",
        "data.image_size=32",
        "--set",
        "data.augment=none",
    )
    more = ("--folds", "2", "--epochs", "5", "--set", "optim.lr=5e-3", "--device", "cpu")
    ok("train", data, "--work", work, "--task", "gender", *small, *more)
    ok("audit", work / "runs", "--out", tmp_path / "out", "--device", "cpu", "--limit", "0")
    found = json.loads((tmp_path / "out/audit.json").read_text())
    (row,), (probe,) = found["runs"], found["probe"]
    accuracy = {name: scores["accuracy"] for name, scores in row["variants"].items()}
    assert min(accuracy[name] for name in ("original", "only_bg_b", "only_bg_t")) > 0.8
    assert accuracy["mixed_same"] > 0.8 and accuracy["mixed_next"] < 0.2
    # BG-Gap is above 0 for such a model: the same class's background helps, a random one does not.
    assert row["bg_gap"] == pytest.approx(accuracy["mixed_same"] - accuracy["mixed_rand"])
    assert row["bg_gap"] >= row["bg_gap_low"] > 0 and row["bg_gap_detected"] > 0
    assert row["verdict"] == "uses the background" and not row["verdict_reason"]
    assert row["chance"]["is_better"] and row["chance_mixed_same"]["is_better"]
    # The background alone is enough, and the most frequent of two equal classes is not.
    assert probe["macro_f1"] > 0.8 and probe["majority_macro_f1"] == pytest.approx(1 / 3)
    # The face takes a small part of a whole photo, and the model does not look at it.
    assert row["cam_inside"] < 0.5 and 0.03 < row["cam_area"] < 0.25


@pytest.mark.parametrize("background", ["ellipse", "segment", "photo", "mean_box"])
def test_a_photo_left_as_it_is_is_cut_as_its_crop_was(
    trained: Any, ok: Ok, detect_flags: tuple[str, ...], tmp_path: Path, background: str
) -> None:
    shutil.copytree(trained.cache, tmp_path / "work/cache")
    flags = ("--background", background, "--set", "crop.align=true")
    ok("detect", trained.data, "--work", tmp_path / "work", *flags, *detect_flags)
    cache = Cache.open(tmp_path / "work/cache")
    name = next(n for n in cache.crop_sets() if cache.find(n).config["crop"]["align"])
    crops = cache.find(name)
    assert crops.config["crop"]["background"] == background
    photos, reader = open_photo_reader(cache), crops.reader()
    for row in crops.manifest.read().to_dicts()[::9]:
        photo = photos.read(row)
        assert photo is not None
        crop = photos.crop(photo, row, crops.config["crop"])
        difference = np.abs(crop.astype(int) - reader[row["key"]]).max()
        assert difference <= 1, f"{row['key']}: {difference}"


def test_photos_are_opened_again_by_their_paths_and_with_the_limits_of_detect(
    ok: Ok, detect_flags: tuple[str, ...], tmp_path: Path
) -> None:
    """Walls of one colour, in more scans than the default allows, under names that are no keys."""
    wall, scans = Image.new("RGB", (144, 192), (250, 20, 20)), b"\xff\xda" * 150
    (tmp_path / "data").mkdir()
    for name in ("벽.jpg", os.fsdecode(b"wall\xff.jpg")):
        wall.save(tmp_path / "data" / name, progressive=True, comment=scans)
    flags = ("--work", tmp_path / "work")
    limit = ("--set", "decode.max_scans=400")
    assert "2 crops written" in ok("detect", tmp_path / "data", *flags, *detect_flags, *limit)
    cache = Cache.open(tmp_path / "work/cache")
    (tmp_path / "data/벽.jpg").rename(tmp_path / "data" / unicodedata.normalize("NFD", "벽.jpg"))
    reader = open_photo_reader(cache)
    for row in cache.find().manifest.read().to_dicts():
        photo = reader.read(row)
        assert row["status"] == "prior" and photo is not None and photo.shape == (192, 144, 3)
    (sheet,) = (tmp_path / "work/detect").glob("*-not-detected.png")
    pixels = cv2.imread(str(sheet)).reshape(-1, 3).astype(int)
    assert (np.abs(pixels - (20, 20, 250)).max(1) < 12).sum() > 1000, "the sheet shows the photo"
    ok("eda", tmp_path / "data", *flags)
    about = json.loads((tmp_path / "work/eda/eda.json").read_text())
    assert about["brightness"]["median"] == pytest.approx(90, abs=9)


def test_bad_audits_say_what_is_wrong(copied: Any, run: Callable[..., Any], tmp_path: Path) -> None:
    def error(*arguments: str | Path) -> str:
        return " ".join(run("audit", *arguments, "--out", tmp_path / "out").error.split())

    assert "no such folder" in error(copied.runs / "none", "--work", copied.work)
    assert "no run in" in error(copied.work / "cache", "--work", copied.work)
    assert "no folder above" in error(tmp_path)
    assert "no such folder" in error(tmp_path / "none")
    folder = next(copied.runs.iterdir())
    # The photos are gone: keys lead nowhere.
    head = copied.cache / "cache.json"
    about = json.loads(head.read_text())
    head.write_text(json.dumps(about | {"data_root": str(tmp_path)}))
    assert "42 of 42 photos are gone or changed" in error(folder)
    head.write_text(json.dumps(about))
    (folder / "fold1/best_f1").rename(folder / "fold1/other")
    assert "no checkpoint" in error(folder)
    (folder / "oof.parquet").unlink()
    assert "no out-of-fold predictions" in error(folder)


def test_photos_that_are_gone_are_left_out_and_a_single_person_is_refused(
    copied: Any, ok: Ok, run: Callable[..., Any], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(copied.data, data)
    keys = sorted(path for path in (data / "train/images").rglob("*") if path.is_file())
    keys[0].unlink()
    keys[1].write_bytes(keys[2].read_bytes())
    # Of a network that sees a crop as one patch, nobody can say where it looks.
    train = ("--task", "mask", "--no-pretrained", "--backbone", "test_vit", "--folds", "2")
    more = ("--epochs", "1", "--device", "cpu", "--set", "data.image_size=16", "--name", "patch")
    ok("train", copied.data, "--work", tmp_path / "other", "--cache", copied.cache, *train, *more)
    head = copied.cache / "cache.json"
    head.write_text(json.dumps(json.loads(head.read_text()) | {"data_root": str(data)}))
    out = tmp_path / "out"
    said = ok("audit", tmp_path / "other/runs/patch", "--cache", copied.cache, "--out", out)
    assert "2 photos were left out" in said and "Grad-CAM needs spatial features" in said
    (row,) = json.loads((out / "audit.json").read_text())["runs"]
    assert row["n_photos"] == 40 and row["cam_inside"] is None and row["bg_gap"] is not None
    folder = next(copied.runs.iterdir())
    table = read_parquet(folder / "oof.parquet")
    write_parquet(folder / "oof.parquet", table.with_columns(group=pl.lit("one")))
    error = run("audit", folder, "--out", out).error
    assert "the runs know 1 person" in " ".join(error.split())

"""Predict a data set from the cache: the right answer on the right row, for every photo."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from cropfirst.configs import load_config
from cropfirst.core.errors import CacheMismatchError, CacheMissingError, DataError, TrainError
from cropfirst.core.fingerprint import content_hash
from cropfirst.stage1_detect.config import CropConfig, DetectConfig, DetectorConfig, RetryStep
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.evaluate.evaluate import evaluate_oof
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.predict.predict import predict
from cropfirst.stage2_classify.predict.predictor import Member, Predictor
from cropfirst.stage2_classify.runs.crop_sets import detect_command
from cropfirst.stage2_classify.train.train import train

Save = Callable[..., Path]
MakePhotos = Callable[..., PhotoSet]

KEYS = [f"eval/images/{name}.jpg" for name in ("e", "b", "a", "d", "c")]
STATUSES = dict(zip(KEYS, ["detected", "retried", "sibling", "unreadable", "prior"], strict=True))


def _contest(make_photos: MakePhotos, keys: list[str] = KEYS) -> PhotoSet:
    """Photos whose submission rows are in no order."""
    rows = tuple((Path(key).name, key) for key in keys)
    return make_photos([*keys, "train/images/t/normal.jpg"], submission=rows, splits={
        "train/images/t/normal.jpg": "train"
    })  # fmt: skip


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_an_earlier_submission_is_kept_beside_its_runs(
    save_member: Save, make_crops: Any, make_photos: MakePhotos, tmp_path: Path
) -> None:
    keys = ["x.jpg", "y.jpg"]
    crops = make_crops(dict.fromkeys(keys, "detected"))
    photos = make_photos(keys, layout="csv", splits=dict.fromkeys(keys, "train"))
    one, two = (save_member(task, crops, tasks=[task]) for task in ("mask", "gender"))
    (one / "metrics.json").write_text('{"tasks": {"mask": {"macro_f1": 0.51239}}}')
    out = tmp_path / "out"
    out.mkdir()
    (out / "submission.csv").write_text("path,mask\nby,hand\n")

    def made(*runs: Path) -> Any:
        return predict(photos, make_crops.cache, runs, out_dir=out, device="cpu")

    def listed() -> list[tuple[str, str, str]]:
        with (out / "submissions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert all(row["hash"] == content_hash((out / row["file"]).read_bytes()) for row in rows), (
            "each row is of its file"
        )
        return [(row["file"], row["runs"], row["scores"]) for row in rows]

    first = made(one)
    answers = first.submission.read_bytes()
    assert first.earlier == out / "submission-1.csv"
    assert first.earlier.read_text() == "path,mask\nby,hand\n"
    assert made(one).earlier is None, "the same answers are not kept twice"
    assert made(two).earlier == out / "submission-2.csv"
    assert (out / "submission-2.csv").read_bytes() == answers
    assert made(one).earlier == out / "submission-3.csv"
    assert made(two).earlier == out / "submission-2.csv", "it is there already"
    assert listed() == [
        ("submission-1.csv", "", ""),
        ("submission-2.csv", str(one), "mask: mask 0.5124"),
        ("submission-3.csv", str(two), "gender: unknown"),
        ("submission.csv", str(two), "gender: unknown"),
    ]


@pytest.fixture
def three_runs(save_member: Save, make_crops: Any) -> list[Path]:
    """mask in two folds, gender, age; the class priors all differ."""
    crops = make_crops(STATUSES)
    priors = {"mask": [0.1, 0.2, 0.7], "gender": [0.3, 0.7], "age": [0.2, 0.5, 0.3]}
    save_member("mask", crops, tasks=["mask"], fold=1, prior={"mask": [0.2, 0.7, 0.1]})
    return [save_member(task, crops, tasks=[task], prior={task: priors[task]}) for task in priors]


def test_submission_has_exactly_the_rows_asked_for(
    three_runs: list[Path], make_crops: Any, make_photos: MakePhotos, tmp_path: Path
) -> None:
    done = predict(
        _contest(make_photos), make_crops.cache, three_runs, out_dir=tmp_path / "out", device="cpu"
    )
    rows = _rows(done.submission)
    assert rows[0] == ["ImageID", "ans"]
    assert [row[0] for row in rows[1:]] == ["e.jpg", "b.jpg", "a.jpg", "d.jpg", "c.jpg"]
    table = pl.read_parquet(done.path)
    assert table["key"].to_list() == sorted(KEYS)
    codes = dict(table.select("image_id", "code").iter_rows())
    assert rows[1:] == [[image_id, str(codes[image_id])] for image_id, _ in rows[1:]]
    assert done.n_photos == 5 and done.n_members == 4
    assert list((tmp_path / "out").iterdir()) != [] and not list(tmp_path.glob("out/*.tmp"))


def test_every_row_is_its_own_photos(
    three_runs: list[Path],
    make_crops: Any,
    make_photos: MakePhotos,
    schema: LabelSchema,
    tmp_path: Path,
) -> None:
    done = predict(
        _contest(make_photos), make_crops.cache, three_runs, out_dir=tmp_path, device="cpu",
        batch_size=2,
    )  # fmt: skip
    predictor = Predictor(three_runs, device="cpu")
    for row in pl.read_parquet(done.path).iter_rows(named=True):
        assert row["status"] == STATUSES[row["key"]]
        if row["status"] == "unreadable":
            continue
        (alone,) = predictor.predict_crops([make_crops.crop(row["key"])])
        assert row["code"] == alone.code
        assert row["members"] == 4
        for task in schema.task_names:
            np.testing.assert_allclose(row[f"{task}_probs"], alone.probs[task], atol=1e-5)
            assert row[f"{task}_pred"] == alone.labels[task]


def test_a_photo_without_a_crop_gets_the_class_prior(
    three_runs: list[Path],
    make_crops: Any,
    make_photos: MakePhotos,
    schema: LabelSchema,
    tmp_path: Path,
) -> None:
    photos = _contest(make_photos)
    done = predict(photos, make_crops.cache, three_runs, out_dir=tmp_path, device="cpu")
    row = pl.read_parquet(done.path).filter(pl.col("status") == "unreadable").row(0, named=True)
    np.testing.assert_allclose(row["mask_probs"], [0.15, 0.45, 0.4], atol=1e-6)  # of two folds
    np.testing.assert_allclose(row["age_probs"], [0.2, 0.5, 0.3], atol=1e-6)
    assert row["code"] == schema.combine({"mask": 1, "gender": 1, "age": 1})
    assert row["members"] == 0
    assert done.statuses == {
        s: 1 for s in ("detected", "retried", "sibling", "prior", "unreadable")
    }
    assert ["d.jpg", str(row["code"])] in _rows(done.submission)


def test_a_photo_that_detect_has_not_seen_is_named_and_counted(
    three_runs: list[Path], make_crops: Any, make_photos: MakePhotos, tmp_path: Path
) -> None:
    console = Console(file=io.StringIO(), width=200)
    photos = _contest(make_photos, [*KEYS, "eval/images/new.jpg"])
    done = predict(
        photos, make_crops.cache, three_runs, out_dir=tmp_path, device="cpu", console=console
    )
    assert done.statuses["missing"] == 1
    assert [row[0] for row in _rows(done.submission)][-1] == "new.jpg"
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 photos are not in the crop set" in said and "cropfirst detect DATA" in said
    assert str(done.submission) in said


def test_each_member_reads_the_crops_it_was_trained_on(
    save_member: Save, make_crops: Any, make_photos: MakePhotos, tmp_path: Path
) -> None:
    keys = ["x.jpg", "y.jpg"]
    small = make_crops(dict.fromkeys(keys, "detected"))
    large = make_crops({"x.jpg": "prior", "y.jpg": "unreadable"}, size=48)
    one = save_member("one", small, tasks=["mask"])
    two = save_member("two", large, tasks=["mask"], image_size=48)
    done = predict(make_photos(keys), make_crops.cache, [one, two], out_dir=tmp_path, device="cpu")
    table = pl.read_parquet(done.path)
    first = Member.load(one / "fold0/best_f1").predict_crops([make_crops.crop(key) for key in keys])
    second = Member.load(two / "fold0/best_f1").predict_crops([make_crops.crop("x.jpg", size=48)])
    got = np.array(table["mask_probs"].to_list())
    np.testing.assert_allclose(got[0], (first["mask"][0] + second["mask"][0]) / 2, atol=1e-5)
    np.testing.assert_allclose(got[1], first["mask"][1], atol=1e-5)
    assert table["members"].to_list() == [2, 1]
    assert table["status"].to_list() == ["prior", "unreadable"]  # the worse of the two


def test_a_missing_crop_set_names_the_command(
    three_runs: list[Path], make_crops: Any, make_photos: MakePhotos, tmp_path: Path
) -> None:
    crops = make_crops.cache.find()
    crops.folder.rename(crops.folder.with_name("box-64-00000000"))
    with pytest.raises(CacheMismatchError) as caught:
        predict(_contest(make_photos), make_crops.cache, three_runs, out_dir=tmp_path, device="cpu")
    assert crops.name in str(caught.value) and "box-64-00000000" in str(caught.value)
    assert "cropfirst detect DATA" in str(caught.value)
    assert "--set crop.image_size=32" in str(caught.value)
    assert not (tmp_path / "submission.csv").exists()


def test_all_missing_crop_sets_are_named_at_once(
    save_member: Save, make_crops: Any, make_photos: MakePhotos, tmp_path: Path
) -> None:
    sets = [make_crops({"x.jpg": "detected"}, size=size) for size in (32, 48)]
    runs = [save_member(crops.name, crops, tasks=["mask"]) for crops in sets]
    for crops in sets:
        crops.folder.rename(tmp_path / crops.name)
    with pytest.raises(CacheMismatchError) as caught:
        predict(make_photos(["x.jpg"]), make_crops.cache, runs, out_dir=tmp_path, device="cpu")
    for crops, size in zip(sets, (32, 48), strict=True):
        assert crops.name in str(caught.value)
        assert f"--set crop.image_size={size}" in str(caught.value)


def test_crops_of_another_config_under_the_same_name_are_refused(
    three_runs: list[Path], make_crops: Any, make_photos: MakePhotos, tmp_path: Path
) -> None:
    config = make_crops.cache.find().folder / "config.json"
    config.write_text(config.read_text().replace('"margin": 0.1', '"margin": 0.4'))
    with pytest.raises(CacheMismatchError, match=r"another config.*delete"):
        predict(_contest(make_photos), make_crops.cache, three_runs, out_dir=tmp_path, device="cpu")


@pytest.mark.parametrize("with_defaults", [False, True])
def test_the_command_makes_the_same_crops(with_defaults: bool) -> None:
    retry = (RetryStep(name="it's", scale=1.5),)
    config = DetectConfig(
        detector=DetectorConfig(min_face_size=24),
        retry=retry,
        crop=CropConfig(background="mean_box", align=True),
    ).crop_key("hash")
    defaults = DetectConfig().crop_key("hash") if with_defaults else None
    words = shlex.split(detect_command(config, defaults=defaults))
    assert words[:3] == ["cropfirst", "detect", "DATA"]
    overrides = [word for word in words[3:] if word != "--set"]
    assert load_config(DetectConfig, overrides=overrides).crop_key("hash") == config
    if with_defaults:
        names = [word.partition("=")[0] for word in overrides]
        assert names == ["detector.min_face_size", "retry", "crop.background", "crop.align"]


def test_the_command_asks_for_other_weights() -> None:
    config, defaults = (DetectConfig().crop_key(weights) for weights in ("one", "two"))
    assert detect_command(config, defaults=config) == "cropfirst detect DATA"
    wanted = "cropfirst detect DATA --weights FILE"
    assert detect_command(config, defaults=defaults) == wanted
    named = {**defaults, "weights": {"one": "reference"}}
    assert detect_command(config, defaults=named) == wanted.replace("FILE", "reference")


def test_crops_of_other_photos_are_refused(
    three_runs: list[Path], make_crops: Any, make_photos: MakePhotos, tmp_path: Path
) -> None:
    with pytest.raises(CacheMissingError, match=r"cropfirst detect"):
        predict(
            make_photos(["other.jpg"]), make_crops.cache, three_runs, out_dir=tmp_path, device="cpu"
        )


def test_a_missing_task_is_named_after_the_table_is_written(
    three_runs: list[Path], make_crops: Any, make_photos: MakePhotos, tmp_path: Path
) -> None:
    (tmp_path / "submission.csv").write_text("ImageID,ans\nold.jpg,0\n")
    with pytest.raises(TrainError) as caught:
        predict(
            _contest(make_photos), make_crops.cache, three_runs[:1], out_dir=tmp_path, device="cpu"
        )
    assert "`cropfirst train DATA --task gender`" in str(caught.value)
    assert "`cropfirst train DATA --task age`" in str(caught.value)
    assert "earlier predict" in str(caught.value)
    table = pl.read_parquet(tmp_path / "predictions.parquet")
    assert table.height == 5 and "mask_pred" in table.columns and "code" not in table.columns


def test_without_rows_asked_for_every_photo_gets_its_classes(
    save_member: Save, make_crops: Any, make_photos: MakePhotos, tmp_path: Path
) -> None:
    keys = ["a, b.jpg", "ü.png"]
    crops = make_crops(dict.fromkeys(keys, "detected"))
    run = save_member("two", crops, tasks=["age", "mask"])
    photos = make_photos(keys, layout="csv", splits=dict.fromkeys(keys, "train"))
    console = Console(file=io.StringIO(), width=200)
    done = predict(photos, make_crops.cache, [run], out_dir=tmp_path, device="cpu", console=console)
    table = pl.read_parquet(done.path)
    expected = table.select("key", "mask_pred", "age_pred").rows()
    assert [tuple(row) for row in _rows(done.submission)] == [("path", "mask", "age"), *expected]
    assert table["split"].to_list() == ["train", "train"] and table["image_id"].null_count() == 2
    assert sum(done.counts["mask"].values()) == 2
    assert "there is no eval split" in console.file.getvalue()  # type: ignore[attr-defined]


def test_members_of_the_combined_code_make_a_submission(
    save_member: Save, make_crops: Any, make_photos: MakePhotos, schema: LabelSchema, tmp_path: Path
) -> None:
    prior = [0.0] * 18
    prior[11] = 1.0
    run = save_member("code", make_crops(STATUSES), tasks=["class18"], prior={"class18": prior})
    done = predict(_contest(make_photos), make_crops.cache, [run], out_dir=tmp_path, device="cpu")
    for row in pl.read_parquet(done.path).iter_rows(named=True):
        assert row["code"] == int(np.argmax(row["class18_probs"]))
        parts = schema.split_code(row["code"])
        assert all(row[f"{t}_pred"] == schema.task(t).classes[c] for t, c in parts.items())
        assert row["code"] == 11 or row["status"] != "unreadable"


def test_unfinished_folds_are_said(
    three_runs: list[Path], save_member: Save, make_crops: Any, make_photos: MakePhotos,
    tmp_path: Path,
) -> None:  # fmt: skip
    crops = make_crops.cache.find()
    save_member("age", crops, tasks=["age"], fold=1, finished=False)
    console = Console(file=io.StringIO(), width=200)
    done = predict(
        _contest(make_photos), make_crops.cache, three_runs, out_dir=tmp_path, device="cpu",
        console=console,
    )  # fmt: skip
    assert [path.name for path in done.unfinished] == ["fold1"] and done.n_members == 4
    assert "left out: 1 folds" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_row_of_the_submission_without_a_photo_is_refused(
    three_runs: list[Path], make_crops: Any, make_photos: MakePhotos, tmp_path: Path
) -> None:
    photos = make_photos(KEYS, submission=(("z.jpg", "eval/images/z.jpg"),))
    with pytest.raises(DataError, match=r"eval/images/z.jpg"):
        predict(photos, make_crops.cache, three_runs, out_dir=tmp_path, device="cpu")


def test_what_train_writes_is_what_predict_and_evaluate_read(
    make_crops: Any, make_photos: MakePhotos, schema: LabelSchema, tmp_path: Path
) -> None:
    """Each fold's out-of-fold rows are what its checkpoint says of those crops from the cache."""
    keys = [f"p{person}/{shot}.jpg" for person in range(6) for shot in range(2)]
    crops = make_crops({key: "prior" if key == keys[3] else "detected" for key in keys})
    photos = make_photos(
        keys,
        layout="csv",
        splits=dict.fromkeys(keys, "train"),
        labels={key: {"mask": ("wear", "normal")[row % 2]} for row, key in enumerate(keys)},
    )
    config = TrainConfig.model_validate(
        {
            "task": "mask",
            "model": {"backbone": "test_vit", "pretrained": False},
            "data": {"batch_size": 4},
            "optim": {"epochs": 1, "warmup_epochs": 0},
            "folds": {"n_folds": 2},
            "device": "cpu",
        }
    )
    run = train(photos, schema, crops, config, runs_dir=tmp_path / "runs").run_dir
    oof = pl.read_parquet(run / "oof.parquet")
    for fold in (0, 1):
        one = predict(
            photos, make_crops.cache, [run / f"fold{fold}"], out_dir=tmp_path / "out", device="cpu"
        )
        said = dict(pl.read_parquet(one.path).select("key", "mask_probs").iter_rows())
        rows = oof.filter(pl.col("fold") == fold)
        assert rows.height > 0
        for key, probs in rows.select("key", "mask_probs").iter_rows():
            np.testing.assert_allclose(said[key], probs, atol=1e-5)
    (report,) = evaluate_oof([tmp_path / "runs"], out_dir=tmp_path / "scores").reports
    assert report.n_photos == len(keys) and len(report.statuses) == 2

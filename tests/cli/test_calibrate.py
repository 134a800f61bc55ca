"""`calibrate`, and `predict --alpha` with what it wrote: on a small run of drawn people."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from cropfirst.stage2_classify.runs.parquet import read_parquet

Run = Callable[..., Any]
Ok = Callable[..., str]


@pytest.fixture
def knowing(copied: Any, predict_oof: Callable[..., None]) -> Any:
    """The trained set, whose run knows the masks of its six people out of fold."""
    (run,) = copied.runs.iterdir()
    table = read_parquet(run / "oof.parquet")
    predict_oof(run, "mask", table["mask_target"].to_numpy(), surely=0.8)
    return copied


def test_sets_from_calibrate_to_predict(knowing: Any, run: Run, ok: Ok, contest: Any) -> None:
    (folder,) = knowing.runs.iterdir()
    said = run("calibrate", folder).error
    assert "--alpha 0.1 needs at least 9 people of every class: mask has wear 6" in said
    assert "0.143 or more" in said
    said = ok("calibrate", folder, "--alpha", "0.2", "--alpha", "0.3")
    assert "gender is not calibrated" in said and "age is not calibrated" in said
    assert "error rate 0.2" in said and "error rate 0.3" in said and "mask: incorrect" in said
    assert "out of fold, so the error rate is approximate" in said
    path = knowing.work / "ensemble/ensemble.json"
    assert f"written: {path}" in said
    stored = json.loads(path.read_text())["calibration"]
    assert stored["alpha"] == 0.2 and set(stored["tasks"]) == {"mask"}

    common = ("--work", knowing.work, "--device", "cpu")
    said = ok("predict", contest, *common, "--alpha", "0.2")
    assert "mask, possible at 0.2" in said and "gender, age have no sets" in said
    table = pl.read_parquet(knowing.work / "predict/predictions.parquet")
    assert table["mask_possible"].dtype == pl.List(pl.String) and table.height == 4
    names = {name for row in table["mask_possible"].to_list() for name in row}
    assert names <= {"wear", "incorrect", "normal"}
    assert "gender_possible" not in table.columns
    assert "0.1 needs more people" in run("predict", contest, *common, "--alpha", "0.1").error
    assert "--alpha needs a calibration" in run(
        "predict", contest, *common, "--alpha", "0.2", "--ensemble", "none"
    ).error  # fmt: skip
    assert "--alpha" in run("predict", contest, *common, "--alpha", "1").text

    # Single photos vote as the data set's do, and find the file beside the runs.
    photo = contest / "eval/images/k.jpg"
    said = ok("predict", photo, "--runs", folder, "--device", "cpu", "--alpha", "0.2")
    assert "possible:" in said and "weights: as in" in said and str(path) in said
    said = ok("predict", photo, "--runs", folder, "--device", "cpu", "--ensemble", "none")
    assert "possible:" not in said and "weigh the same" in said


def test_the_training_people_do_not_calibrate_as_others(
    knowing: Any, run: Run, contest: Any
) -> None:
    (folder,) = knowing.runs.iterdir()
    said = run("calibrate", folder, "--data", contest, "--cache", knowing.cache)
    assert "left out: 42 photos of people that a run was trained on" in said.text
    assert "none of the photos in" in said.error  # the eval photos have no labels
    assert not (knowing.work / "ensemble").exists()
    assert "say where with --ensemble" in run("calibrate", folder, contest).text

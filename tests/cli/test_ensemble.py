"""`ensemble`, and `predict` with what it wrote: on two small runs of drawn people."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from cropfirst.cache import Cache
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.predict.ensemble_file import choose_ensemble
from cropfirst.stage2_classify.predict.predictor import Member, Predictor
from cropfirst.stage2_classify.predict.repredict_oof import repredict_oof
from cropfirst.stage2_classify.predict.tta import build_tta
from cropfirst.stage2_classify.runs.checkpoint import load_checkpoint, model_state
from cropfirst.stage2_classify.runs.oof_predictions import read_oof_runs
from cropfirst.stage2_classify.runs.soup import mean_state, soup_of_fold

Run = Callable[..., Any]
Ok = Callable[..., str]


@pytest.fixture(scope="module")
def two_runs(
    trained: Any, tmp_path_factory: pytest.TempPathFactory, ok: Ok, train_flags: tuple[str, ...]
) -> Any:
    """The trained set with a second run, of age alone. Not to be changed."""
    work = tmp_path_factory.mktemp("two") / "work"
    shutil.copytree(trained.work, work)
    ok("train", trained.data, "--work", work, "--task", "age", "--name", "age", *train_flags)
    return type(trained)(trained.data, work)


@pytest.fixture(scope="module")
def built(two_runs: Any, ok: Ok) -> tuple[Any, str]:
    """The set with an ensemble of everything there is to try, and what was said."""
    said = ok(
        "ensemble", two_runs.data, "--work", two_runs.work, "--tta", "flip,scale",
        "--soup", "epochs,folds", "--route", "age=mask", "--device", "cpu",
    )  # fmt: skip
    return two_runs, said


def test_every_step_is_judged_and_written(built: tuple[Any, str]) -> None:
    work, said = built
    data = json.loads((work.work / "ensemble/ensemble.json").read_text())
    assert set(data["tasks"]) == {"mask", "gender", "age"}
    steps = {(step["task"], step["name"]) for step in data["steps"]}
    for name in ("equal", "greedy", "route", "thresholds"):
        assert ("age", name) in steps
    for name in ("soup", "views flip,scale", "chosen"):
        assert all((task, name) in steps for task in ("mask", "gender", "age"))
    assert ("class18", "chosen") in steps
    for step in data["steps"]:
        if step["name"] == "chosen":
            assert step["gain"]["low"] <= step["gain"]["value"] <= step["gain"]["high"]
    assert set(data["runs"]) == {"age", "mask+gender+age-test_vit"}
    assert "no out-of-fold score" in said and "written: " in said
    # The soup of all folds is a checkpoint like any other.
    Member.load(work.runs / "age" / "soup" / "folds")


def test_predict_votes_as_written_and_says_so(
    built: tuple[Any, str], ok: Ok, tmp_path: Path
) -> None:
    work, _ = built
    said = ok("predict", work.data, "--work", work.work, "--out", tmp_path / "a", "--device", "cpu")
    assert "weights: as in" in said and "ensemble.json" in said
    alike = ok(
        "predict", work.data, "--work", work.work, "--out", tmp_path / "b", "--device", "cpu",
        "--ensemble", "none",
    )  # fmt: skip
    assert "weigh the same" in alike and "weights: as in" not in alike
    one, two = (pl.read_parquet(tmp_path / name / "predictions.parquet") for name in "ab")
    assert one["key"].to_list() == two["key"].to_list()
    ages = [np.stack(table["age_probs"].to_list()) for table in (one, two)]
    assert not np.allclose(ages[0], ages[1])
    # What is loaded for single photos gives the same answers.
    predictor = Predictor([work.runs], device="cpu", ensemble=work.work / "ensemble/ensemble.json")
    crops = work.crops().reader()
    answers = predictor.predict_crops([crops[key] for key in one["key"]])
    assert [a.labels["age"] for a in answers] == one["age_pred"].to_list()
    np.testing.assert_allclose(np.stack([a.probs["age"] for a in answers]), ages[0], atol=1e-5)
    assert one["age_prob"][0] == pytest.approx(
        max(one["age_probs"][0]) if not predictor.ensemble.plan.tasks["age"].offsets
        else one["age_prob"][0]
    )  # fmt: skip


def test_an_ensemble_of_other_runs_is_left_aside_or_refused(
    built: tuple[Any, str], run: Run, ok: Ok, tmp_path: Path
) -> None:
    work, _ = built
    file = work.work / "ensemble/ensemble.json"
    only = work.runs / "age"
    found = choose_ensemble([only], default=file)
    assert found.plan is None and "is not used" in found.note and "made with" in found.note
    with pytest.raises(TrainError, match=r"is not for these runs: it was made with .*test_vit too"):
        choose_ensemble([only], ensemble=file)
    with pytest.raises(TrainError, match="it is for --checkpoint"):
        choose_ensemble([work.runs], ensemble=file, checkpoint="best_loss")
    text = run("predict", work.data, "--work", work.work, "--ensemble", tmp_path / "no.json").error
    assert "there is no ensemble in" in text
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({**json.loads(file.read_text()), "tasks": {"age": {}}}))
    assert (
        "is damaged or was edited"
        in run("predict", work.data, "--work", work.work, "--ensemble", bad).error
    )
    bad.write_text(json.dumps({"kind": "audit", "format": 1}))
    assert (
        "wanted 'ensemble'"
        in run("predict", work.data, "--work", work.work, "--ensemble", bad).error
    )


def test_out_of_fold_predictions_are_made_again_as_they_were(two_runs: Any, tmp_path: Path) -> None:
    _, oofs, _ = read_oof_runs([two_runs.runs])
    cache, cpu = Cache.open(two_runs.cache), torch.device("cpu")
    for oof in oofs:
        again = repredict_oof(oof, cache, out_dir=tmp_path, device=cpu)
        for task, table in oof.probs.items():
            np.testing.assert_allclose(again.probs[task], table, atol=2e-5)
        flipped = repredict_oof(oof, cache, out_dir=tmp_path, tta=("flip",), device=cpu)
        assert not np.allclose(flipped.probs["age"], oof.probs["age"], atol=1e-4)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("oof.parquet")}
    assert len(before) == 4
    repredict_oof(oofs[0], cache, out_dir=tmp_path, device=cpu)  # found again, not made again
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("oof.parquet")} == before


def test_a_soup_is_the_mean_of_its_checkpoints(copied: Any) -> None:
    fold = next(copied.runs.glob("*/fold0"))
    model, meta = load_checkpoint(fold / "last", "cpu")
    state = {key: value + 1.0 for key, value in model_state(model).items()}
    mixed = mean_state([model_state(model), state])
    key = next(iter(state))
    torch.testing.assert_close(mixed[key], model_state(model)[key] + 0.5)
    soup = soup_of_fold(fold)
    stamp = (soup / "meta.json").stat().st_mtime_ns
    assert soup_of_fold(fold) == soup and (soup / "meta.json").stat().st_mtime_ns == stamp
    # One epoch was trained: its four checkpoints are one.
    _, about = load_checkpoint(soup, "cpu")
    assert about["soup_of"] == [meta["weights_hash"]]
    torch.testing.assert_close(model_state(load_checkpoint(soup, "cpu")[0]), model_state(model))


def test_a_soup_that_was_not_made_is_asked_for(trained: Any, run: Run) -> None:
    said = run("predict", trained.data, "--work", trained.work, "--checkpoint", "soup").error
    assert "no soup of a fold there; run cropfirst ensemble DATA --soup epochs first" in said


def test_transforms_show_the_same_crop() -> None:
    crops = torch.arange(2 * 8 * 8 * 3, dtype=torch.uint8).reshape(2, 8, 8, 3)
    plain, mirrored = build_tta(("flip",))
    assert torch.equal(plain(crops), crops)
    assert torch.equal(mirrored(crops)[:, :, 0], crops[:, :, -1])
    transforms = build_tta(("flip", "scale"))
    assert len(transforms) == 6
    assert all(transform(crops).shape == crops.shape for transform in transforms)
    even = torch.full((1, 8, 8, 3), 77, dtype=torch.uint8)
    for transform in transforms:  # nothing comes in from outside but the edge
        torch.testing.assert_close(transform(even).float(), even.float())


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (
            ("--steps", "magic"),
            "--steps takes equal, hard, greedy, route, temperature, thresholds, got",
        ),
        (("--tta", "spin"), "--tta takes flip, scale"),
        (("--soup", "onion"), "--soup takes epochs, folds"),
        (("--route", "age"), "needs TASK=BY"),
        (("--steps", "route"), "add --route TASK=BY"),
        (("--route", "age=shoes"), "the runs do not vote on shoes"),
        (("--route", "age=age"), "must be another task"),
    ],
)
def test_what_cannot_be_tried_is_refused(
    flags: tuple[str, ...], wanted: str, trained: Any, run: Run
) -> None:
    assert wanted in run("ensemble", trained.data, "--work", trained.work, *flags).error


def test_a_run_without_out_of_fold_predictions_is_named(copied: Any, run: Run) -> None:
    for path in copied.runs.rglob("oof.parquet"):
        path.unlink()
    said = run("ensemble", copied.data, "--work", copied.work).error
    assert "no out-of-fold predictions" in said and "has no finished fold" in said


def test_out_of_fold_predictions_of_one_person_are_not_enough(copied: Any, run: Run) -> None:
    path = next(copied.runs.glob("*/oof.parquet"))
    table = pl.read_parquet(path)
    person = table["group"][0]
    table.filter(pl.col("group") == person).write_parquet(path)
    assert "are of 1 person" in run("ensemble", copied.data, "--work", copied.work).error


def test_a_fold_alone_is_refused_with_its_run(trained: Any, run: Run) -> None:
    fold = next(trained.runs.glob("*/fold0"))
    said = run("ensemble", trained.data, "--work", trained.work, "--runs", fold).error
    assert "is a fold: name its run" in said

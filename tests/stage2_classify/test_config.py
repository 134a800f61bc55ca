"""The training config: defaults, and errors in the words of the command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import cropfirst.stage2_classify
from cropfirst.cache import CropSet
from cropfirst.configs import Config, ConfigError, load_config
from cropfirst.configs.options import find_field
from cropfirst.core.device import resolve_amp, resolve_device
from cropfirst.core.errors import DeviceError, TrainError
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.train.prepare import run_name


def load(*overrides: str) -> TrainConfig:
    return load_config(TrainConfig, overrides=["task=mask", *overrides])


def test_defaults_name_the_run_by_task_and_backbone() -> None:
    assert load().run_name == "mask-convnext_tiny"
    assert load("task=mask, gender").tasks == ("mask", "gender")
    assert load("task=mask, gender").run_name == "mask+gender-convnext_tiny"
    assert load("name=mine").run_name == "mine"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.learning_rate=1", "unknown setting 'optim.learning_rate'"),
        ("batch_size=4", "did you mean 'data.batch_size'"),
        ("task=mask,mask", "different names with commas"),
        ("name=../elsewhere", "--name expects a plain folder name"),
        ("folds.n_folds=1", "greater than or equal to 2"),
        ("folds.fold=5", "--fold counts from 0 and must be below --folds, got 5 of 5"),
        ("optim.warmup_epochs=10", "must be less than optim.epochs, got 10 and 10"),
        ("data.augment=stronger", "'randaugment' or 'strong'"),
        ("data.mix.kind=vertical_flip", "'cutmix' or 'half_cutmix'"),
        ("data.mix.half=[0.6, 0.4]", "data.mix.half expects 0 < low <= high < 1, got 0.6 and 0.4"),
        ("optim.freeze_epochs=10", "must be less than optim.epochs, got 10 and 10"),
        ("device=gpu", "device"),
    ],
)
def test_bad_settings_are_explained(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(override)
    assert message in str(caught.value)


def test_a_device_that_is_not_there_is_an_error() -> None:
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(DeviceError, match=r"--device cuda:9"):
        resolve_device("cuda:9")
    with pytest.raises(DeviceError, match="expects auto, cpu, cuda"):
        resolve_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_asked_for_and_absent_is_an_error_with_a_way_out() -> None:
    with pytest.raises(DeviceError, match=r"--device cuda was asked for but .*--device cpu"):
        resolve_device("cuda")


def test_mixed_precision_on_the_cpu() -> None:
    cpu = torch.device("cpu")
    assert resolve_amp("auto", cpu) is None
    assert resolve_amp("bf16", cpu) is torch.bfloat16
    with pytest.raises(TrainError, match="fp16 needs a GPU"):
        resolve_amp("fp16", cpu)


def test_runs_on_other_crops_than_the_default_have_their_own_folder(tmp_path: Path) -> None:
    for background, name in (("ellipse", "mask-convnext_tiny"), ("box", "mask-convnext_tiny-box")):
        crops = CropSet(f"{background}-224-0123abcd", tmp_path, {})
        assert run_name(load(), crops) == name
        assert run_name(load("name=mine"), crops) == "mine"


def texts_of(path: Path) -> Iterator[str]:
    """The texts of a module, docstrings too, with "{}" for what is filled in."""
    inside: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and id(node) not in inside:
            yield str(node.value)


def advised_settings() -> dict[str, set[str]]:
    """Setting -> values that texts name as `section.key=value`."""
    sections = [name for name, value in load() if isinstance(value, Config)]
    pattern = re.compile(rf"\b((?:{'|'.join(sections)})\.[a-z_.]+)=([^\s,;)\"]*)")
    found: dict[str, set[str]] = {}
    root = Path(cropfirst.stage2_classify.__file__).parent
    for path in sorted([*root.rglob("*.py"), root.parent / "core/device.py"]):
        for text in texts_of(path):
            for key, value in pattern.findall(text):
                found.setdefault(key, set()).add(value.rstrip(":."))
    return found


def test_every_setting_that_a_message_advises_loads() -> None:
    advised = advised_settings()
    assert {"none", "device"} <= advised["data.preload"] and "off" in advised["optim.amp"]
    for key, values in advised.items():
        find_field(TrainConfig, key)
        for value in values:
            is_space = re.match(r"(log|int|float):", value)  # of --space
            if "{}" not in value and not value.isupper() and not is_space:
                load(f"{key}={value}")

"""The training config: defaults, and errors in the words of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cropfirst.cache import CropSet
from cropfirst.configs import ConfigError, load_config
from cropfirst.core.device import resolve_amp, resolve_device
from cropfirst.core.errors import DeviceError, TrainError
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.train.train import run_name


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

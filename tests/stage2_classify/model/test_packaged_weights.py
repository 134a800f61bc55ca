"""ImageNet weights from Python packages: that they are what they say, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.model.backbones import build_backbone
from cropfirst.stage2_classify.model.models import build_classifier
from cropfirst.stage2_classify.model.packaged_weights import (
    PACKAGES,
    installed_package,
    load_packaged_weights,
)
from cropfirst.stage2_classify.model.weights import create_pretrained

LITE0 = "tf_efficientnet_lite0"
PALACE = 698
"""ImageNet's class of scikit-learn's sample photo china.jpg, which shows a temple."""


def test_a_backbone_with_packaged_weights_recognises_a_palace() -> None:
    photo = load_sample_images().images[0]
    crop = torch.from_numpy(cv2.resize(photo[:, 106:533], (224, 224), interpolation=3))
    for name, package in PACKAGES.items():
        path = package.find()
        assert path is not None, f"{package.name} is in the extras `offline` and `dev`"
        model = build_classifier(name, {"any": 2}, image_size=224, pretrained=True).eval()
        assert model.mean.flatten().tolist() == model.std.flatten().tolist() == [0.5] * 3
        classifier = torch.load(path, weights_only=True)
        with torch.inference_mode():
            features = model.backbone(model.prepare(crop[None]))
            scores = features @ classifier["_fc.weight"].T + classifier["_fc.bias"]
        assert int(scores.argmax()) == PALACE, name


def test_a_package_of_other_bytes_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = PACKAGES[LITE0]
    path = package.find()
    assert path is not None
    copy = tmp_path / path.parent.parent.name
    shutil.copytree(path.parent.parent, copy)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    (copy / package.file).write_bytes(data)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TrainError, match=r"SHA-256 is .*wanted 579344.*--force-reinstall.*lite0"):
        build_backbone(LITE0, image_size=64, pretrained=True)
    (copy / package.file).unlink()
    with pytest.raises(TrainError, match=r"has no readable .*lite0.*--force-reinstall"):
        build_backbone(LITE0, image_size=64, pretrained=True)


def test_a_timm_that_renames_or_reorders_layers_is_noticed() -> None:
    package = installed_package(f"{LITE0}.in1k")
    assert package is not None
    renamed: Any = build_backbone(LITE0, image_size=64)
    renamed.stem = renamed.conv_stem
    del renamed.conv_stem
    with pytest.raises(TrainError, match=r"do not fit tf_eff.* 2 of 294 .* conv_stem\.weight"):
        load_packaged_weights(renamed, LITE0, package)
    longer: Any = build_backbone(LITE0, image_size=64)
    longer.blocks.append(nn.Sequential(nn.Conv2d(320, 320, 1)))
    with pytest.raises(TrainError, match=r"blocks\.7\.0\.weight \(wanted .*, got none\)"):
        load_packaged_weights(longer, LITE0, package)
    assert installed_package("tf_efficientnet_lite3") is None


def test_a_full_disk_is_named_with_the_folder_of_the_download() -> None:
    def create(**_: Any) -> nn.Module:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"weights")
        raise AssertionError("/dev/full has space")

    with pytest.raises(TrainError, match=r"no space left for .*'any'.*hub.*HF_HOME"):
        create_pretrained("any", create, published={"url": "https://nowhere.invalid"})

"""Packed weights: a backbone and heads in half precision, as they ship."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cropfirst.configs import load_config
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import SHIPPED, TrainConfig
from cropfirst.stage2_classify.model.models import build_classifier
from cropfirst.stage2_classify.model.shipped_weights import (
    load_packed_heads,
    pack_weights,
    weights_path,
)
from cropfirst.stage2_classify.model.weights import load_backbone_weights

CLASSES = {"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]}


def build(**heads: int) -> torch.nn.Module:
    return build_classifier("test_resnet", heads, image_size=32).eval()


def test_packed_weights_answer_as_the_model_that_was_packed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    old, new = build(gender=2, age=3), build(age=3, gender=2, hat=2)
    pack_weights(old, CLASSES, tmp_path / "packed.safetensors")
    names = {**CLASSES, "hat": ["no", "yes"]}
    load_backbone_weights(new.backbone, tmp_path / "packed.safetensors")
    assert load_packed_heads(new, tmp_path / "packed.safetensors", class_names=names) == (
        "age",
        "gender",
    )
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        wanted, got = old.probs(old(images)), new.probs(new(images))
    for task, probs in wanted.items():
        torch.testing.assert_close(got[task], probs, atol=5e-3, rtol=0)
    # Classes of other names or in another order are other outputs.
    turned = {**names, "gender": ["female", "male"]}
    assert load_packed_heads(new, tmp_path / "packed.safetensors", class_names=turned) == ("age",)


def test_values_beyond_half_precision_are_not_packed(tmp_path: Path) -> None:
    model = build(gender=2)
    next(model.backbone.parameters()).data[0] = 1e6
    with pytest.raises(TrainError, match="beyond float16"):
        pack_weights(model, {"gender": ["a", "b"]}, tmp_path / "packed.safetensors")
    assert not (tmp_path / "packed.safetensors").exists()


def test_shipped_weights_fit_the_backbone_that_they_set() -> None:
    for name, backbone in SHIPPED.items():
        config = load_config(TrainConfig, values={"task": "gender", "model.weights": name})
        assert config.model.backbone == backbone
        model = build_classifier(backbone, {"gender": 2, "age": 3}, image_size=64)
        report = load_backbone_weights(model.backbone, weights_path(name))
        assert not report.missing and not report.unexpected
        loaded = load_packed_heads(model, weights_path(name), class_names=CLASSES)
        assert loaded == ("gender", "age")
        assert weights_path(name).stat().st_size < 8e6
    other = load_config(
        TrainConfig, values={"task": "age", "model.weights": "faces", "model.backbone": "resnet18"}
    )
    assert other.model.backbone == "resnet18"

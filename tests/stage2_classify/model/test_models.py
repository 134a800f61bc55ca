"""Backbones of every family at small sizes, heads, and weights from files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.model.backbones import check_backbone
from cropfirst.stage2_classify.model.models import build_classifier
from cropfirst.stage2_classify.model.weights import load_backbone_weights

SWIN: dict[str, Any] = {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
SWIN_NAME = "swin_tiny_patch4_window7_224"


def crops(n: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, size, size, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("name", "size", "kwargs"),
    [
        ("test_convnext", 48, {}),
        ("test_vit", 48, {}),
        ("test_efficientnet", 33, {}),
        ("test_resnet", 32, {}),
        ("test_maxvit", 64, {}),
        ("mobilenetv3_small_050", 32, {}),
        (SWIN_NAME, 64, SWIN),
        (SWIN_NAME, 40, SWIN),
    ],
)
def test_a_backbone_gives_logits_of_every_task(
    name: str, size: int, kwargs: dict[str, Any]
) -> None:
    model = build_classifier(name, {"mask": 3, "age": 4}, image_size=size, kwargs=kwargs).eval()
    out = model(model.prepare(crops(2, size)))
    assert {task: tuple(logits.shape) for task, logits in out.items()} == {
        "mask": (2, 3),
        "age": (2, 4),
    }


def test_heads_keep_their_order_and_take_any_name() -> None:
    heads = {"type": 2, "keys": 3, "hair.colour": 4}
    model = build_classifier("test_resnet", heads, image_size=32).eval()
    out = model(model.prepare(crops(2, 32)))
    assert list(out) == ["type", "keys", "hair.colour"]
    assert [logits.shape[1] for logits in out.values()] == [2, 3, 4]


def test_prepare_normalises_like_the_backbone_was_published() -> None:
    model = build_classifier("resnet18", {"mask": 3}, image_size=32)
    images = crops(2, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    want = ((images / 255.0 - mean) / std).permute(0, 3, 1, 2)
    got = model.prepare(images)
    assert got.dtype == torch.float32
    assert (got - want).abs().max() < 1e-6
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_prepare_brightens_each_crop_by_its_own_line_and_keeps_to_the_room() -> None:
    model = build_classifier("resnet18", {"mask": 3}, image_size=32)
    images = crops(3, 32)
    lights = torch.tensor([[1.0, 0.0], [1.2, -20.0], [0.8, 51.0]])
    room = torch.full((5 * 32 * 32 * 3,), 7.0)
    factor, summand = lights[:, :, None, None, None].unbind(1)
    want = model.prepare(images.float() * factor + summand)
    got = model.prepare(images, lights=lights, buffer=room)
    assert (got - want).abs().max() < 1e-5
    assert torch.equal(got[0], model.prepare(images)[0])
    assert got.data_ptr() == room.data_ptr()
    assert (room[got.numel() :] == 7).all()
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_layouts_agree() -> None:
    model = build_classifier("test_convnext", {"mask": 3}, image_size=32).eval()
    images = crops(2, 32)
    fast = model(model.prepare(images))["mask"]
    model.set_channels_last(False)
    assert model.prepare(images).is_contiguous()
    plain = model(model.prepare(images))["mask"]
    assert (fast - plain).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnext_tny", r"no backbone 'convnext_tny'; did you mean convnext_tiny"),
        ("swin", r"no backbone 'swin'"),
        ("resnet18.nonsense", r"no weights tag .*resnet18\.a1_in1k"),
        ("hf-hub:someone/model", "no backbone"),
    ],
)
def test_an_unknown_name_says_which_come_near(name: str, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        check_backbone(name)


def test_known_names_and_tags_pass() -> None:
    check_backbone("convnext_tiny")
    check_backbone("convnext_tiny.in12k")


def test_a_size_that_the_backbone_refuses_is_said() -> None:
    with pytest.raises(TrainError, match=r"'test_maxvit' refuses 70x70 crops.*data\.image_size"):
        build_classifier("test_maxvit", {"mask": 3}, image_size=70)
    with pytest.raises(TrainError, match=r"refuses 40x40 .* divisible by patch size"):
        build_classifier("test_vit", {"mask": 3}, image_size=40)


def test_an_argument_that_the_backbone_has_not_is_said() -> None:
    with pytest.raises(TrainError, match=r"cannot be built.*window_size"):
        build_classifier("test_resnet", {"mask": 3}, image_size=32, kwargs={"window_size": 7})


@pytest.mark.parametrize("key", ["checkpoint_path", "pretrained_cfg", "num_classes", "img_size"])
def test_kwargs_cannot_name_files_or_what_is_ours(key: str) -> None:
    with pytest.raises(TrainError, match=rf"not {key}"):
        build_classifier("test_resnet", {"mask": 3}, image_size=32, kwargs={key: "x"})


def test_weights_of_a_file_are_loaded_and_reported(tmp_path: Path) -> None:
    source = build_classifier("test_resnet", {"mask": 3}, image_size=32)
    state = {key: value + 1 for key, value in source.backbone.state_dict().items()}
    dropped = next(iter(state))
    kept = {key: value for key, value in state.items() if key != dropped}
    save_file({**kept, "head.fc.weight": torch.zeros(2, 2)}, tmp_path / "w.safetensors")
    model = build_classifier("test_resnet", {"mask": 3}, image_size=32)
    report = load_backbone_weights(model.backbone, tmp_path / "w.safetensors")
    assert report.missing == (dropped,)
    assert report.unexpected == ("head.fc.weight",)
    assert set(report.matched) == set(kept)
    loaded = model.backbone.state_dict()
    assert all(torch.equal(loaded[key], kept[key]) for key in kept)


def test_weights_of_our_own_checkpoint_lose_their_prefix(tmp_path: Path) -> None:
    source = build_classifier("test_resnet", {"mask": 3}, image_size=32)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    model = build_classifier("test_resnet", {"gender": 2}, image_size=32)
    report = load_backbone_weights(model.backbone, tmp_path / "w.safetensors")
    assert (report.missing, report.unexpected) == ((), ())


@pytest.mark.parametrize(("name", "kwargs"), [("test_vit", {}), (SWIN_NAME, SWIN)])
def test_weights_of_another_image_size_are_adapted(
    tmp_path: Path, name: str, kwargs: dict[str, Any]
) -> None:
    source = build_classifier(name, {"mask": 3}, image_size=64, kwargs=kwargs)
    save_file(source.backbone.state_dict(), tmp_path / "w.safetensors")
    model = build_classifier(name, {"mask": 3}, image_size=96, kwargs=kwargs)
    report = load_backbone_weights(model.backbone, tmp_path / "w.safetensors")
    assert (report.missing, report.unexpected) == ((), ())


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(build_classifier("resnet18", {"m": 2}, image_size=32).backbone.state_dict(), path)
    model = build_classifier("test_resnet", {"mask": 3}, image_size=32)
    with pytest.raises(TrainError, match=r"another architecture: .* wanted \(.*\), got \(.*\)"):
        load_backbone_weights(model.backbone, path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(TrainError, match="holds nothing of this backbone"):
        load_backbone_weights(model.backbone, path)


def test_weights_that_are_no_safetensors_are_refused(tmp_path: Path) -> None:
    model = build_classifier("test_resnet", {"mask": 3}, image_size=32)
    torch.save(model.backbone.state_dict(), tmp_path / "w.pth")
    with pytest.raises(TrainError, match=r"expects a safetensors file, .*w\.pth is none"):
        load_backbone_weights(model.backbone, tmp_path / "w.pth")
    with pytest.raises(TrainError, match="there is no file"):
        load_backbone_weights(model.backbone, tmp_path / "absent.safetensors")


PRETRAINED = """
import os
from cropfirst.stage2_classify.model.models import build_classifier

try:
    build_classifier("test_resnet", {"mask": 3}, image_size=32, pretrained=True)
except Exception as error:
    print(type(error).__name__, " ".join(str(error).split()))
os.rename("published", "hub")
model = build_classifier("test_resnet", {"mask": 3}, image_size=32, pretrained=True)
weight = model.backbone.conv1[0].weight
print(float(weight.min()), float(weight.max()))
"""
"""Builds a model first without weights, then with those in Hugging Face's cache."""


@pytest.mark.slow
def test_without_a_network_pretrained_weights_come_from_a_cache_or_an_error_says_what_to_do(
    tmp_path: Path,
) -> None:
    repo = tmp_path / "published" / "models--timm--test_resnet.r160_in1k"
    (repo / "snapshots" / "0").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0")
    import timm

    published = timm.create_model("test_resnet").state_dict()
    published["conv1.0.weight"] = torch.full_like(published["conv1.0.weight"], 0.25)
    save_file(published, repo / "snapshots" / "0" / "model.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", PRETRAINED], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}, timeout=250,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    message, weights = done.stdout.splitlines()
    assert message.startswith("HubError")
    for way_out in ("--no-pretrained", "--weights FILE", "HF_HOME"):
        assert way_out in message
    assert weights == "0.25 0.25"

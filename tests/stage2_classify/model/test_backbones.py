"""Backbones of every family, small and from scratch: a step of training, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.model.backbones import TwoBackbones, build_backbone, check_backbone
from cropfirst.stage2_classify.model.models import build_classifier

SWIN: dict[str, Any] = {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
CONV: dict[str, Any] = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
VIT: dict[str, Any] = {"embed_dim": 48, "depth": 2, "num_heads": 3}
FAMILIES: list[tuple[str, int, dict[str, Any]]] = [
    ("swin_tiny_patch4_window7_224", 64, SWIN),
    ("swinv2_tiny_window8_256", 64, SWIN),
    ("convnext_atto", 32, CONV),
    ("convnextv2_atto", 32, CONV),
    ("efficientnet_b0", 32, {}),
    ("tf_efficientnetv2_b0", 32, {}),
    ("resnet10t", 32, {}),
    ("resnext50_32x4d", 32, {"layers": [1, 1, 1, 1]}),
    ("mnasnet_small", 32, {}),
    ("densenet121", 32, {"growth_rate": 8, "block_config": [2, 2, 2, 2]}),
    ("vit_tiny_patch16_224", 32, VIT),
    ("inception_resnet_v2", 80, {}),
    ("inception_resnet_v1", 80, {}),
]


@pytest.mark.parametrize(("name", "size", "kwargs"), FAMILIES, ids=[f[0] for f in FAMILIES])
def test_a_backbone_of_the_family_takes_a_step(
    name: str, size: int, kwargs: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    model = build_classifier(name, {"mask": 3, "age": 4}, image_size=size, kwargs=kwargs)
    crops = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
    outputs = model.train()(model.prepare(crops))
    assert {task: tuple(table.shape) for task, table in outputs.items()} == {
        "mask": (2, 3),
        "age": (2, 4),
    }
    sum(nn.functional.cross_entropy(t, torch.tensor([0, 1])) for t in outputs.values()).backward()  # type: ignore[union-attr]
    silent = [n for n, p in model.backbone.named_parameters() if p.grad is None]
    assert not silent, f"no gradient reaches {silent[:5]}"


def test_the_face_network_gives_facenets_embedding_before_its_norm() -> None:
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    body = build_backbone("inception_resnet_v1", image_size=80).eval()
    theirs = InceptionResnetV1().eval()
    theirs.load_state_dict(body.state_dict())
    images = torch.randn(2, 3, 80, 80)
    with torch.inference_mode():
        torch.testing.assert_close(nn.functional.normalize(body(images)), theirs(images))
    # (pixel - 127.5) / 128, facenet-pytorch's own normalisation.
    model = build_classifier("inception_resnet_v1", {"m": 2}, image_size=80)
    crops = torch.randint(0, 256, (1, 80, 80, 3), dtype=torch.uint8)
    want = ((crops.float() - 127.5) / 128).permute(0, 3, 1, 2)
    torch.testing.assert_close(model.prepare(crops), want, atol=1e-5, rtol=0)


def test_the_face_network_says_what_it_is_not() -> None:
    check_backbone("inception_resnet_v1.casia-webface")
    with pytest.raises(TrainError, match="has no weights tag 'imagenet': it has vggface2, casia"):
        check_backbone("inception_resnet_v1.imagenet")
    with pytest.raises(TrainError, match=r"takes no model\.kwargs or drop_path_rate, got dep"):
        build_backbone("inception_resnet_v1", image_size=80, kwargs={"depth": 3})
    with pytest.raises(TrainError, match=r"refuses 48x48 crops.*data\.image_size"):
        build_classifier("inception_resnet_v1", {"m": 2}, image_size=48)


def test_the_face_networks_weights_come_from_torchs_cache_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No such proxy: the release cannot be reached, whatever network the machine has.
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def build() -> Any:
        return build_classifier("inception_resnet_v1", {"m": 2}, image_size=80, pretrained=True)

    with pytest.raises(TrainError, match="TORCH_HOME") as caught:
        build()
    assert "--no-pretrained" in str(caught.value)
    state = build_backbone("inception_resnet_v1", image_size=80).state_dict()
    state["last_bn.weight"].fill_(0.25)
    (tmp_path / "hub/checkpoints").mkdir(parents=True, exist_ok=True)
    released = {**state, "logits.weight": torch.zeros(8631, 512), "logits.bias": torch.zeros(8631)}
    torch.save(released, tmp_path / "hub/checkpoints/20180402-114759-vggface2.pt")
    assert set(build().backbone.last_bn.weight.tolist()) == {0.25}


def test_two_backbones_see_the_same_image_each_as_it_was_published() -> None:
    torch.manual_seed(0)
    first = build_backbone("test_resnet", image_size=32)
    second = build_backbone("test_vit", image_size=32)
    second.pretrained_cfg = {**second.pretrained_cfg, "mean": (0.1, 0.2, 0.3), "std": (0.4,) * 3}
    both = TwoBackbones(first, second).eval()
    pixels = torch.rand(2, 3, 32, 32)

    def normalised(body: Any) -> torch.Tensor:
        mean, std = (torch.tensor(body.pretrained_cfg[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
        return (pixels - mean) / std

    with torch.inference_mode():
        got = both(normalised(first))
        want = torch.cat([body(normalised(body)) for body in (first, second)], dim=1)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_a_classifier_on_two_backbones_learns_from_both() -> None:
    model = build_classifier(
        "test_resnet", {"m": 2}, image_size=32, second={"backbone": "test_vit", "kwargs": {}}
    )
    outputs = model(model.prepare(torch.zeros(2, 32, 32, 3, dtype=torch.uint8)))
    outputs["m"].sum().backward()
    assert isinstance(model.backbone, TwoBackbones)
    for body in model.backbone.bodies:
        assert any(p.grad is not None for p in body.parameters())
    assert {name.split(".")[1] for name in model.backbone.no_weight_decay()} == {"1"}
    with pytest.raises(TrainError, match="no backbone 'test_vti'"):
        build_classifier("test_resnet", {"m": 2}, image_size=32, second={"backbone": "test_vti"})

"""Grad-CAM: finds where the answer comes from, on every kind of backbone; refuses the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cropfirst.stage2_classify.audit.cam import NoMapError, TaskCam, find_layer, mass_inside
from cropfirst.stage2_classify.model.models import build_classifier

SWIN = {"window_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2]}


def test_mass_inside_counts_parts_of_pixels_and_knows_empty_maps() -> None:
    maps = np.ones((3, 8, 8), np.float32)
    maps[1] = 0
    maps[2, :, 4:] = 0
    boxes = np.array([[0, 0, 4, 4], [0, 0, 8, 8], [0, 0, 2.5, 8]], np.float32)
    shares = mass_inside(maps, boxes)
    assert shares[0] == pytest.approx(0.25) and np.isnan(shares[1])
    assert shares[2] == pytest.approx(2.5 / 4)


@pytest.mark.parametrize(
    ("backbone", "kwargs", "side"),
    [
        ("resnet10t", None, 8),
        ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}, 8),
        ("swin_tiny_patch4_window7_224", SWIN, 8),
        ("vit_tiny_patch16_224", {"patch_size": 8, "embed_dim": 48, "depth": 2}, 8),
    ],
    ids=["cnn", "convnext", "swin", "vit"],
)
def test_maps_of_all_kinds_of_backbones(
    backbone: str, kwargs: dict[str, object] | None, side: int
) -> None:
    torch.manual_seed(0)
    model = build_classifier(backbone, {"a": 3, "b": 2}, image_size=64, kwargs=kwargs).eval()
    assert find_layer(model.backbone, 64).side == side
    crops = torch.randint(0, 255, (3, 64, 64, 3), dtype=torch.uint8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    maps = TaskCam(model, "b").maps(crops)
    assert maps.shape == (3, 64, 64) and np.isfinite(maps).all()
    assert maps.min() >= 0 and maps.max() == pytest.approx(1, abs=1e-3)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_map_lies_where_the_answer_comes_from() -> None:
    """A network made by hand, whose class 1 is how red the crop is: the map is the red patch."""

    class Red(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.feature_info = [{"num_chs": 3, "module": "pool"}]
            self.pretrained_cfg = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
            self.pool = nn.AvgPool2d(8)
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.pool(images * self.scale).mean((2, 3))

    model = build_classifier("resnet10t", {"red": 2}, image_size=64).eval()
    model.backbone = Red()
    model.mean.zero_()
    model.std.fill_(1)
    head = nn.Linear(3, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.0, 0, 0], [9.0, -9, -9]]))
        head.bias.zero_()
    model.heads[0].hidden, model.heads[0].out = nn.Sequential(), head
    crops = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    crops[0, 16:32, 40:56, 0] = 255
    maps = TaskCam(model, "red").maps(crops)
    inside = mass_inside(maps, np.array([[36, 12, 60, 36]], np.float32))
    assert inside[0] > 0.95


def test_a_backbone_without_spatial_features_is_refused_and_named() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.feature_info = [{"num_chs": 4, "module": "line"}]
            self.line = nn.Linear(3, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.line(images.mean((2, 3)))

    with pytest.raises(NoMapError, match=r"Flat has none .*\(tried line\)"):
        find_layer(Flat(), 32)

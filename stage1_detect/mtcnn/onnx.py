"""The three networks as ONNX files, for a bundle. Knows weights; knows nothing of boxes."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from cropfirst.core.onnx_export import to_onnx
from cropfirst.stage1_detect.mtcnn.cascade import CascadeRules
from cropfirst.stage1_detect.mtcnn.engines.joined import (
    ONET_ASKS,
    ONET_SHARE,
    RNET_ASKS,
    RNET_OVERLAP,
)
from cropfirst.stage1_detect.mtcnn.nets.modules import (
    JOINED,
    JOINED_PARTS,
    SHIPPED,
    load_nets,
)


class _Net(nn.Module):
    """A network whose score is one logit, the difference of the two."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        scores, *rest = self.net(x)
        flat = [each.flatten(1) if each.ndim == 3 else each for each in rest]
        return (scores[:, 1] - scores[:, 0], *flat)


class _Joined(nn.Module):
    """The hardened and the reference's R- or O-Net as one: see engines/joined.py."""

    def __init__(self, hardened: nn.Module, reference: nn.Module, *, is_onet: bool) -> None:
        super().__init__()
        self.hardened, self.reference, self.is_onet = _Net(hardened), _Net(reference), is_onet

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        mine, theirs = self.hardened(x), self.reference(x)
        least, most = ONET_ASKS if self.is_onet else RNET_ASKS
        asked = (mine[0] > least) & (mine[0] < most)
        if not self.is_onet:
            return torch.where(asked, torch.maximum(mine[0], theirs[0]), mine[0]), mine[1]
        mean = ONET_SHARE * mine[0] + (1 - ONET_SHARE) * theirs[0]
        surer = (asked & (theirs[0] > mine[0]))[:, None]
        boxes, landmarks = (
            torch.where(surer, *each) for each in zip(theirs[1:], mine[1:], strict=True)
        )
        return torch.where(asked, mean, mine[0]), boxes, landmarks


def rnet_overlap(weights: str) -> float:
    """Return the IoU from which on a better candidate of R-Net removes another one."""
    return RNET_OVERLAP if weights == JOINED else CascadeRules().rnet_overlap


def detector_files(weights: str) -> dict[str, bytes]:
    """Return the ONNX files of a detector by name: `localiser.onnx` only for the weights `joined`.

    The networks of this package are converted once in a process, since it takes seconds.

    Args:
        weights: `reference`, `masked`, `joined` or a .safetensors file.

    Raises:
        DetectError: no such weights.
        BundleError: a network cannot be written as ONNX.
    """
    return dict(_convert_shipped(weights) if weights in SHIPPED else _convert(weights))


def _convert(weights: str) -> dict[str, bytes]:
    if weights == JOINED:
        (pnet, *mine), (_, *theirs) = (load_nets(name) for name in JOINED_PARTS)
        rnet, onet = (
            _Joined(one, two, is_onet=at == 1)
            for at, (one, two) in enumerate(zip(mine, theirs, strict=True))
        )
        windows = {"rnet": rnet, "onet": onet, "localiser": _Net(theirs[1])}
    else:
        pnet, *own = load_nets(weights)
        windows = {"rnet": _Net(own[0]), "onet": _Net(own[1])}
    files = {
        "pnet.onnx": to_onnx(
            _Net(pnet).eval(), (3, 40, 51),
            input_name="image", output_names=("logit", "offsets"),
            free={2: "height", 3: "width"}, smallest={2: 12, 3: 12},
        )
    }  # fmt: skip
    for name, module in windows.items():
        side = 24 if name == "rnet" else 48
        outputs = ("logit", "offsets") if name == "rnet" else ("logit", "offsets", "landmarks")
        files[f"{name}.onnx"] = to_onnx(
            module.eval(), (3, side, side),
            input_name="windows", output_names=outputs, free={},
        )  # fmt: skip
    return files


_convert_shipped = cache(_convert)

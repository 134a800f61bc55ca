"""The three nets' weights, rearranged so that any engine runs them fast and on canvases.

Same function, other arithmetic, exact but for the last bits of a float:
- For canvases, P-Net's first PReLU moves behind the pooling, where there are four times fewer
  pixels. Where a slope is negative, the largest output of a window may come from its smallest
  input: such channels get a twin of opposite sign, whose pooled value is the (negated) minimum.
  With the PReLU gone from before the pool, a fourth input channel can push what lies outside a
  photo out of every maximum, which is what the pool's rounding up (ceil_mode) does at a photo's
  own edge.
- The heads are one layer, and the face score is one logit, the difference of the two.
- Dense layers are convolutions over what is left of the picture, in the picture's own order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_OUTSIDE = np.float32(-1e4)
"""Weight of the channel that marks a canvas's gaps; outputs are of the order of 1."""
Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Conv:
    """A convolution, the slopes of the PReLU behind it, and the pool behind that."""

    weight: np.ndarray
    """(out, in, height, width) float32."""
    bias: np.ndarray
    """(out,) float32."""
    slope: np.ndarray | None = None
    """(out,) float32; None = no PReLU."""
    pool: int = 0
    """Side of the max pool, stride 2, rounding up; 0 = none."""


@dataclass(frozen=True)
class FoldedPNet:
    """x -> first -> y; max(y, twins(y)) -> PReLU(slope) -> rest."""

    first: Conv
    twins: np.ndarray
    """(C, C) float32: what each pooled channel is compared with."""
    slope: np.ndarray
    """(C,) float32: slopes over 1, which no maximum can express; 1 elsewhere."""
    rest: tuple[Conv, ...]
    plain: tuple[Conv, ...]
    """The same four layers as they were trained, for who does without canvases."""


@dataclass(frozen=True)
class FoldedNets:
    """All three; outputs are the face logit, four box offsets and (O-Net) ten landmark numbers."""

    pnet: FoldedPNet
    rnet: tuple[Conv, ...]
    onet: tuple[Conv, ...]


def fold(tensors: Tensors) -> FoldedNets:
    """Rearrange weights by facenet-pytorch's names, `pnet.conv1.weight` and so on."""
    p, r, o = (_part(tensors, prefix) for prefix in ("pnet.", "rnet.", "onet."))
    return FoldedNets(
        pnet=_fold_pnet(p),
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


def _fold_pnet(p: Tensors) -> FoldedPNet:
    slope = p["prelu1.weight"]
    falling = np.flatnonzero(slope < 0)
    weight = np.concatenate([p["conv1.weight"], -p["conv1.weight"][falling]])
    bias = np.concatenate([p["conv1.bias"], -p["conv1.bias"][falling]])
    outside = np.full_like(weight[:, :1], _OUTSIDE)
    count, channels = len(slope), len(weight)
    twins = np.zeros((channels, channels), dtype=np.float32)
    # PReLU(x) is max(x, slope * x) up to a slope of 1, on the pooled minimum where it falls.
    twins[np.arange(count), np.arange(count)] = np.clip(slope, 0, 1)
    twins[falling, count + np.arange(len(falling))] = -slope[falling]
    twins[falling, falling] = 0
    after = np.ones(channels, dtype=np.float32)
    after[:count] = np.maximum(slope, 1)
    second = np.zeros((p["conv2.weight"].shape[0], channels, 3, 3), dtype=np.float32)
    second[:, :count] = p["conv2.weight"]
    third, heads = _conv(p, "conv3", "prelu3"), _heads(p, ("conv4_1", "conv4_2"))
    return FoldedPNet(
        first=Conv(np.concatenate([weight, outside], axis=1), bias, pool=2),
        twins=twins,
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

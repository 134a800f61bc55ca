"""The engine whose networks are compiled by Numba for the CPU that they run on (`kernels`).

It does half of the multiplications of other engines: Winograd's tiles where a layer is 3x3 and
wide, no canvases around P-Net's levels, and offsets of hits only. No shape needs compiling, so a
batch of any size costs what it holds.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cropfirst.core.faces.pyramid import WINDOW
from cropfirst.stage1_detect.mtcnn.engines.numba import kernels
from cropfirst.stage1_detect.mtcnn.engines.numba.area import RawPhotos
from cropfirst.stage1_detect.mtcnn.engines.numba.kernels import (
    CHUNK,
    DENSE,
    FIRST,
    IM2COL,
    PNET_WIDTH,
    POOL,
    WINOGRAD,
    PackedConv,
    Scratch,
    Steps,
)
from cropfirst.stage1_detect.mtcnn.engines.numba.llvm import group_of
from cropfirst.stage1_detect.mtcnn.engines.numba.vectors import LANES
from cropfirst.stage1_detect.mtcnn.engines.numba.winograd import WINOGRAD_3, WINOGRAD_4, Winograd
from cropfirst.stage1_detect.mtcnn.nets.fused_weights import Conv, FusedNets
from cropfirst.stage1_detect.mtcnn.pyramid.levels import Tile, pack_position

_WIDEST = 64
"""Largest number of channels of a Winograd layer."""


@dataclass(frozen=True)
class _Net:
    """The arguments of `kernels.run_net` for R- or O-Net, and the size of its buffers."""

    size: int
    """Side of its input in pixels."""
    at_once: int
    """Number of crops at once: few enough for the core's cache, enough to read the weights of dense
    layers seldom."""
    outputs: int
    """Number of outputs per crop."""
    steps: Steps
    tiles: tuple[Winograd | None, ...]
    """Winograd form of each convolution; None = a plain one."""
    buffers: tuple[int, int]
    """Number of floats per crop of the largest activations in `Scratch.one` and `two`."""


_RNET = _Net(
    24, 16, 5,
    np.array([
        (FIRST, 3, 24, 11, 3), (WINOGRAD, 0, 11, 9, 32), (POOL, 3, 9, 4, 48),
        (IM2COL, 0, 4, 3, 48), (DENSE, 0, 3, 3, 192), (DENSE, 0, 3, 1, 576),
        (DENSE, 0, 1, 1, 128),
    ]),
    (None, WINOGRAD_3, None, None, None),
    (9 * 9 * 48, 11 * 11 * 32),
)  # fmt: skip
_ONET = _Net(
    48, 6, 15,
    np.array([
        (FIRST, 3, 48, 23, 3), (WINOGRAD, 0, 23, 21, 32), (POOL, 3, 21, 10, 64),
        (WINOGRAD, 0, 10, 8, 64), (POOL, 2, 8, 4, 64), (IM2COL, 0, 4, 3, 64),
        (DENSE, 0, 3, 3, 256), (DENSE, 0, 3, 1, 1152), (DENSE, 0, 1, 1, 256),
    ]),
    (None, WINOGRAD_3, WINOGRAD_4, None, None, None),
    (21 * 21 * 64, 23 * 23 * 32),
)  # fmt: skip


class NumbaEngine:
    """The networks on one core. Any number of threads may call at once, each with own buffers."""

    name = "numba"
    device = torch.device("cpu")
    group_pixels = 150_000
    """See `Engine`. About the pixels of one photo, so that P-Net finds its levels in the cache."""

    def __init__(self, nets: FusedNets) -> None:
        first, second, third, heads = nets.pnet.plain
        self._pnet = (_layer(first), _layer(second, WINOGRAD_4), _layer(third, WINOGRAD_4))
        self._heads = _aligned(heads.weight)
        self._heads_bias = heads.bias
        self._rnet, self._onet = (
            tuple(map(_layer, layers, net.tiles))
            for layers, net in ((nets.rnet, _RNET), (nets.onet, _ONET))
        )
        # Tuples of one length, so that `run_net` is compiled once.
        self._rnet += self._rnet[-1:]
        self._own = threading.local()

    def run_pnet(
        self, images: Any, strips: Sequence[Tile], min_logit: float
    ) -> tuple[Tensor, Tensor]:
        """See `Engine`."""
        assert isinstance(images, RawPhotos)
        shapes = np.array([(s.height, s.width, s.rows, s.cols) for s in strips], dtype=np.int64)
        hits, where = self._run_strips(images.resize_strips_rgb(strips), shapes, min_logit)
        ids = np.array([(s.level.photo, s.level.index, s.row, s.col) for s in strips])
        photo, level, row, col = ids[where[:, 0]].T
        positions = pack_position(photo, level, row + where[:, 1], col + where[:, 2])
        return torch.from_numpy(hits), torch.from_numpy(positions)

    def run_pnet_on_windows(self, windows: Tensor) -> Tensor:
        """See `Engine`."""
        shapes = np.tile(np.array([WINDOW, WINDOW, 1, 1], dtype=np.int64), (len(windows), 1))
        pixels = np.ascontiguousarray(windows.numpy()).reshape(-1)
        return torch.from_numpy(self._run_strips(pixels, shapes, -np.inf)[0])

    def run_rnet(self, crops: Tensor) -> Tensor:
        """See `Engine`."""
        return self._run_net(_RNET, self._rnet, crops)

    def run_onet(self, crops: Tensor) -> Tensor:
        """See `Engine`."""
        return self._run_net(_ONET, self._onet, crops)

    def _run_strips(
        self, pixels: np.ndarray, shapes: np.ndarray, min_logit: float
    ) -> tuple[np.ndarray, np.ndarray]:
        widest, outputs = int(shapes[:, 1].max()), int((shapes[:, 2] * shapes[:, 3]).sum())
        line = (widest // 2 + 8) * 16
        rows = 2 * (widest - 1) * 16 + CHUNK * 16 * PNET_WIDTH
        hits, where = np.empty((outputs, 5), np.float32), np.empty((outputs, 3), np.int32)
        count = kernels.run_pnet(
            pixels, shapes, self._pnet, 2, self._heads, self._heads_bias, min_logit,
            self._scratch(rows, 6 * line, 6 * line), hits, where,
        )  # fmt: skip
        return hits[:count], where[:count]

    def _run_net(self, net: _Net, layers: tuple[PackedConv, ...], crops: Tensor) -> Tensor:
        at_once = min(net.at_once, max(1, len(crops)))
        one, two = (at_once * each for each in net.buffers)
        scratch = self._scratch(3 * (net.size - 1) * 32, one, two)
        pixels = np.ascontiguousarray(crops.numpy()).reshape(-1)
        out = np.empty((len(crops), 16), dtype=np.float32)
        kernels.run_net(pixels, net.size, at_once, net.steps, layers, scratch, out.reshape(-1))
        return torch.from_numpy(out[:, : net.outputs].copy())

    def _scratch(self, *sizes: int) -> Scratch:
        """Return this thread's buffers, with `rows`, `one` and `two` of at least these sizes."""
        scratch = getattr(self._own, "scratch", None)
        have = (0, 0, 0) if scratch is None else tuple(
            len(each) for each in (scratch.rows, scratch.one, scratch.two)
        )  # fmt: skip
        if scratch is None or any(a < b for a, b in zip(have, sizes, strict=True)):
            rows, one, two = (_buffer(max(each)) for each in zip(have, sizes, strict=True))
            tiles = WINOGRAD_4.input_side**2 * CHUNK * _WIDEST
            zeros = _buffer(_WIDEST)
            scratch = Scratch(zeros, rows, _buffer(tiles), _buffer(tiles), one, two)
            self._own.scratch = scratch
        return scratch


def _layer(conv: Conv, tiles: Winograd | None = None) -> PackedConv:
    results, inputs, rows, _ = conv.weight.shape
    channels, pixel = _padded(results), inputs if inputs == 3 else _padded(inputs)
    group = group_of(channels)
    if tiles is not None:
        weight, rows = tiles.transform_weights(conv.weight), 1
    else:
        weight = conv.weight.transpose(2, 3, 1, 0).reshape(1, -1, results)
        # Windows are end to end, except for a photo's own rows.
        rows = rows if inputs == 3 else 1
    values, count, _ = weight.shape
    wide = np.zeros((values, count, channels), dtype=np.float32)
    wide[:, :, :results] = weight
    bias, slope = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    bias[:results] = conv.bias
    if conv.slope is not None:
        slope[:results] = conv.slope
    return PackedConv(
        weight=_aligned(wide.reshape(values, count, -1, group * LANES).transpose(0, 2, 1, 3)),
        bias=_aligned(bias),
        slope=_aligned(slope),
        side=tiles.side if tiles else 0,
        rows=rows,
        inputs=count // rows,
        pixel=pixel,
        channels=channels,
        group=group,
    )


def _padded(channels: int) -> int:
    return -(-channels // 16) * 16


def _buffer(count: int) -> np.ndarray:
    """Return (count,) float32 zeros that begin at a cache line."""
    memory = np.zeros(count + 16, dtype=np.float32)
    start = -(memory.ctypes.data // 4) % 16
    return memory[start : start + count]


def _aligned(values: np.ndarray) -> np.ndarray:
    """Return a flat copy that begins at a cache line."""
    out = _buffer(values.size)
    out[:] = values.reshape(-1)
    return out

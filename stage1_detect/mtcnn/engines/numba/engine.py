"""The nets compiled by Numba for the very CPU that they run on (`kernels`), nothing in between.

Half of the multiplications that other engines do are left out: Winograd's tiles where a layer is
3x3 and wide, no canvases around P-Net's levels, offsets of hits alone. No shape is ever compiled
anew, so batches of any size cost what they hold.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cropfirst.stage1_detect.mtcnn.engines.numba import kernels
from cropfirst.stage1_detect.mtcnn.engines.numba.area import RawPhotos
from cropfirst.stage1_detect.mtcnn.engines.numba.kernels import (
    CHUNK,
    DENSE,
    FIRST,
    PATCHES,
    PNET_WIDTH,
    POOL,
    WINOGRAD,
    Layer,
    Scratch,
    Steps,
)
from cropfirst.stage1_detect.mtcnn.engines.numba.llvm import group_of
from cropfirst.stage1_detect.mtcnn.engines.numba.vectors import LANES
from cropfirst.stage1_detect.mtcnn.engines.numba.winograd import TILES_OF_3, TILES_OF_4, Winograd
from cropfirst.stage1_detect.mtcnn.nets.fused_weights import Conv, FoldedNets
from cropfirst.stage1_detect.mtcnn.pyramid.canvas import CELL, Piece, pack_place

_WIDEST = 64
"""Channels of a Winograd layer."""


@dataclass(frozen=True)
class _Net:
    """R- or O-Net: what `kernels.look` is told, and how much room it needs."""

    size: int
    """Side of its pictures in pixels."""
    at_once: int
    """Pictures: few enough for the core's cache, enough to read dense layers' weights seldom."""
    outputs: int
    steps: Steps
    tiles: tuple[Winograd | None, ...]
    """Of each layer."""
    buffers: tuple[int, int]
    """Floats a picture of the largest pictures in `Scratch.one` and `two`."""


_RNET = _Net(
    24, 16, 5,
    np.array([
        (FIRST, 3, 24, 11, 3), (WINOGRAD, 0, 11, 9, 32), (POOL, 3, 9, 4, 48),
        (PATCHES, 0, 4, 3, 48), (DENSE, 0, 3, 3, 192), (DENSE, 0, 3, 1, 576),
        (DENSE, 0, 1, 1, 128),
    ]),
    (None, TILES_OF_3, None, None, None),
    (9 * 9 * 48, 11 * 11 * 32),
)  # fmt: skip
_ONET = _Net(
    48, 6, 15,
    np.array([
        (FIRST, 3, 48, 23, 3), (WINOGRAD, 0, 23, 21, 32), (POOL, 3, 21, 10, 64),
        (WINOGRAD, 0, 10, 8, 64), (POOL, 2, 8, 4, 64), (PATCHES, 0, 4, 3, 64),
        (DENSE, 0, 3, 3, 256), (DENSE, 0, 3, 1, 1152), (DENSE, 0, 1, 1, 256),
    ]),
    (None, TILES_OF_3, TILES_OF_4, None, None, None),
    (21 * 21 * 64, 23 * 23 * 32),
)  # fmt: skip


class NumbaEngine:
    """The nets in this thread. Any number of threads may call at once, each with its buffers."""

    name = "numba"
    device = torch.device("cpu")
    group_pixels = 150_000
    """See `engines.Engine`: about a photo's, so that its levels are still near when P-Net comes."""

    def __init__(self, nets: FoldedNets) -> None:
        first, second, third, heads = nets.pnet.plain
        self._pnet = (_layer(first), _layer(second, TILES_OF_4), _layer(third, TILES_OF_4))
        self._heads = _aligned(heads.weight)
        self._heads_bias = heads.bias
        self._rnet, self._onet = (
            tuple(map(_layer, layers, net.tiles))
            for layers, net in ((nets.rnet, _RNET), (nets.onet, _ONET))
        )
        # One length of tuple: `look` is compiled once.
        self._rnet += self._rnet[-1:]
        self._own = threading.local()

    def scan(self, images: Any, strips: Sequence[Piece], least: float) -> tuple[Tensor, Tensor]:
        """See `engines.Engine`."""
        assert isinstance(images, RawPhotos)
        shapes = np.array([(s.height, s.width, s.rows, s.cols) for s in strips], dtype=np.int64)
        hits, where = self._scan(images.draw_rows(strips), shapes, least)
        ids = np.array([(s.level.photo, s.level.index, s.row, s.col) for s in strips])
        photo, level, row, col = ids[where[:, 0]].T
        places = pack_place(photo, level, row + where[:, 1], col + where[:, 2])
        return torch.from_numpy(hits), torch.from_numpy(places)

    def cells(self, pictures: Tensor) -> Tensor:
        """See `engines.Engine`."""
        shapes = np.tile(np.array([CELL, CELL, 1, 1], dtype=np.int64), (len(pictures), 1))
        pixels = np.ascontiguousarray(pictures.numpy()).reshape(-1)
        return torch.from_numpy(self._scan(pixels, shapes, -np.inf)[0])

    def refine(self, crops: Tensor) -> Tensor:
        """See `engines.Engine`."""
        return self._look(_RNET, self._rnet, crops)

    def decide(self, crops: Tensor) -> Tensor:
        """See `engines.Engine`."""
        return self._look(_ONET, self._onet, crops)

    def _scan(
        self, pixels: np.ndarray, shapes: np.ndarray, least: float
    ) -> tuple[np.ndarray, np.ndarray]:
        widest, cells = int(shapes[:, 1].max()), int((shapes[:, 2] * shapes[:, 3]).sum())
        line = (widest // 2 + 8) * 16
        rows = 2 * (widest - 1) * 16 + CHUNK * 16 * PNET_WIDTH
        hits, where = np.empty((cells, 5), np.float32), np.empty((cells, 3), np.int32)
        count = kernels.scan(
            pixels, shapes, self._pnet, 2, self._heads, self._heads_bias, least,
            self._scratch(rows, 6 * line, 6 * line), hits, where,
        )  # fmt: skip
        return hits[:count], where[:count]

    def _look(self, net: _Net, layers: tuple[Layer, ...], crops: Tensor) -> Tensor:
        at_once = min(net.at_once, max(1, len(crops)))
        one, two = (at_once * each for each in net.buffers)
        scratch = self._scratch(3 * (net.size - 1) * 32, one, two)
        pixels = np.ascontiguousarray(crops.numpy()).reshape(-1)
        out = np.empty((len(crops), 16), dtype=np.float32)
        kernels.look(pixels, net.size, at_once, net.steps, layers, scratch, out.reshape(-1))
        return torch.from_numpy(out[:, : net.outputs].copy())

    def _scratch(self, *sizes: int) -> Scratch:
        """This thread's buffers, `rows`, `one` and `two` at least so large."""
        scratch = getattr(self._own, "scratch", None)
        have = (0, 0, 0) if scratch is None else tuple(
            len(each) for each in (scratch.rows, scratch.one, scratch.two)
        )  # fmt: skip
        if scratch is None or any(a < b for a, b in zip(have, sizes, strict=True)):
            rows, one, two = (_buffer(max(each)) for each in zip(have, sizes, strict=True))
            tiles = TILES_OF_4.reach**2 * CHUNK * _WIDEST
            zeros = _buffer(_WIDEST)
            scratch = Scratch(zeros, rows, _buffer(tiles), _buffer(tiles), one, two)
            self._own.scratch = scratch
        return scratch


def _layer(conv: Conv, tiles: Winograd | None = None) -> Layer:
    results, inputs, rows, _ = conv.weight.shape
    channels, pixel = _padded(results), inputs if inputs == 3 else _padded(inputs)
    group = group_of(channels)
    if tiles is not None:
        weight, rows = tiles.weights(conv.weight), 1
    else:
        weight = conv.weight.transpose(2, 3, 1, 0).reshape(1, -1, results)
        # Windows lie end to end but for a photo's own rows.
        rows = rows if inputs == 3 else 1
    values, count, _ = weight.shape
    wide = np.zeros((values, count, channels), dtype=np.float32)
    wide[:, :, :results] = weight
    bias, slope = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    bias[:results] = conv.bias
    if conv.slope is not None:
        slope[:results] = conv.slope
    return Layer(
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
    """(count,) float32 zeros that begin where a cache line does."""
    memory = np.zeros(count + 16, dtype=np.float32)
    start = -(memory.ctypes.data // 4) % 16
    return memory[start : start + count]


def _aligned(values: np.ndarray) -> np.ndarray:
    """Flat, beginning where a cache line does."""
    out = _buffer(values.size)
    out[:] = values.reshape(-1)
    return out

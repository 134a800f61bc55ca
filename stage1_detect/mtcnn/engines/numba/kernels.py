"""The nets' layers on one core, compiled by Numba for this processor from `instructions`.

Pictures are flat float32, channels last; channels are padded with zeros to a multiple of 16, but
for a photo's three. Steps and places count floats. Buffers are the caller's (`Scratch`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cropfirst.stage1_detect.mtcnn.engines.numba.jit import compiled
from cropfirst.stage1_detect.mtcnn.engines.numba.llvm import (
    GROUPS,
    make_dots,
    make_gather_tile,
    make_largest,
    make_multiply,
    make_spread_tile,
)
from cropfirst.stage1_detect.mtcnn.engines.numba.vectors import LANES
from cropfirst.stage1_detect.mtcnn.engines.numba.winograd import TILES_OF_3, TILES_OF_4

CHUNK = 24
"""Tiles that are spread, multiplied and gathered at once: they stay in the core's cache."""
PNET_WIDTH = 32
"""Channels of P-Net's last layer before its heads."""
FIRST, WINOGRAD, POOL, PATCHES, DENSE = range(5)
"""Kinds of `Steps`."""
_LOWEST = np.float32(-3e38)

# One or two groups: where there is one, the first branch takes all.
_FIRST_GROUP = GROUPS[0]
_multiply_first, _multiply_last = make_multiply(GROUPS[0]), make_multiply(GROUPS[-1])
_spread_3, _spread_4 = make_spread_tile(TILES_OF_3), make_spread_tile(TILES_OF_4)
_gather_3, _gather_4 = make_gather_tile(TILES_OF_3), make_gather_tile(TILES_OF_4)
_largest_2, _largest_3 = make_largest(2), make_largest(3)
_dots = make_dots(PNET_WIDTH)


class Layer(NamedTuple):
    """A layer's numbers as they are read."""

    weight: np.ndarray
    """Flat: value of a Winograd tile (or one), group of results, input, result."""
    bias: np.ndarray
    """(channels,)"""
    slope: np.ndarray
    """(channels,), of the PReLU behind; 1 where there is none."""
    side: int
    """Of a Winograd tile's results; 0 = no tiles."""
    rows: int
    """Rows of inputs that a result is the sum of."""
    inputs: int
    """In such a row; of one pixel, for Winograd."""
    pixel: int
    """Inputs that lie in a pixel, padding included."""
    channels: int
    """Results, a multiple of 16."""
    group: int
    """`instructions.group_of(channels)`"""


class Scratch(NamedTuple):
    """Buffers of one thread, reused."""

    zeros: np.ndarray
    rows: np.ndarray
    """A first layer's rows before its pool, P-Net's last layer."""
    values: np.ndarray
    sums: np.ndarray
    """Winograd tiles before and after their weights."""
    one: np.ndarray
    two: np.ndarray
    """Pictures between layers."""


@compiled
def _fill(value: float, out: np.ndarray) -> None:
    for i in range(len(out)):
        out[i] = value


@compiled
def _copy(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(x)):
        out[i] = x[i]


# Calls below pass no literal numbers: Numba would compile the function anew for each.


@compiled
def _multiply(
    layer: Layer, pixels: int,
    x: np.ndarray, value_step: int, pixel_step: int, row_step: int,
    bias: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """Results of `pixels` pixels, or of each value of `pixels` tiles."""
    inputs = layer.rows * layer.inputs
    activate, weight_step = layer.side == 0, inputs * layer.channels
    values = (layer.side + 2) ** 2 if layer.side else 1
    out_value_step = pixels * layer.channels
    for channel in range(0, layer.channels, layer.group * LANES):
        weight_at = channel * inputs
        if layer.group == _FIRST_GROUP:
            _multiply_first(
                values, pixels, x, value_step, pixel_step, row_step, layer.rows,
                layer.inputs, layer.weight, weight_at, weight_step, bias, activate, layer.slope,
                channel, out, out_value_step, layer.channels,
            )  # fmt: skip
        else:
            _multiply_last(
                values, pixels, x, value_step, pixel_step, row_step, layer.rows,
                layer.inputs, layer.weight, weight_at, weight_step, bias, activate, layer.slope,
                channel, out, out_value_step, layer.channels,
            )  # fmt: skip


@compiled
def _winograd(
    layer: Layer, scratch: Scratch,
    x: np.ndarray, picture: int, row: int, tiles: int, across: int, down: int,
    out: np.ndarray, out_picture: int, out_row: int,
) -> None:  # fmt: skip
    """A 3x3 convolution of `tiles` tiles, `across` in a row and `down` rows in a picture."""
    values, sums = scratch.values, scratch.sums
    side, pixel, channels = layer.side, layer.pixel, layer.channels
    parts = -(-tiles // CHUNK)
    done = 0
    for part in range(parts):
        here = tiles * (part + 1) // parts - done
        for i in range(here):
            y, left = (done + i) // across, (done + i) % across * side * pixel
            at = y // down * picture + y % down * side * row + left
            for c in range(0, pixel, LANES):
                to = i * pixel + c
                if side == 3:
                    _spread_3(x, at + c, row, pixel, values, to, here * pixel)
                else:
                    _spread_4(x, at + c, row, pixel, values, to, here * pixel)
        _multiply(layer, here, values, here * pixel, pixel, pixel, scratch.zeros, sums)
        for i in range(here):
            y, left = (done + i) // across, (done + i) % across * side * channels
            to = y // down * out_picture + y % down * side * out_row + left
            for c in range(0, channels, LANES):
                at, step = i * channels + c, here * channels
                if side == 3:
                    _gather_3(
                        sums, at, step, layer.bias, layer.slope, c, out, to + c, out_row, channels
                    )
                else:
                    _gather_4(
                        sums, at, step, layer.bias, layer.slope, c, out, to + c, out_row, channels
                    )
        done += here


@compiled
def _first_layer(
    pool: int, layer: Layer, rows: np.ndarray,
    x: np.ndarray, height: int, width: int, first: int, last: int, out: np.ndarray, out_row: int,
) -> None:  # fmt: skip
    """Rows first..last of a photo's 3x3 convolution, behind its max pool of that side, stride 2,
    rounding up."""
    channels, pixel = layer.channels, layer.pixel
    tall, wide = height - 2, width - 2
    # Past a photo's edge the pool sees what never is the largest.
    line = (wide + 1) * channels
    for slot in range(pool):
        _fill(_LOWEST, rows[slot * line + wide * channels : (slot + 1) * line])
    known = 2 * first
    for row in range(first, last):
        while known < 2 * row + pool:
            fresh = rows[known % pool * line : known % pool * line + wide * channels]
            if known < tall:
                row_step = width * pixel
                _multiply(
                    layer, wide, x[known * row_step :], pixel, pixel, row_step, layer.bias, fresh
                )
            else:
                _fill(_LOWEST, fresh)
            known += 1
        one, two = (2 * row) % pool * line, (2 * row + 1) % pool * line
        three = (2 * row + 2) % pool * line
        to = (row - first) * out_row
        for at in range(0, wide * channels, 2 * channels):
            for c in range(at, at + channels, LANES):
                if pool == 2:
                    _largest_2(rows, one + c, two + c, two + c, channels, out, to)
                else:
                    _largest_3(rows, one + c, two + c, three + c, channels, out, to)
                to += LANES


@compiled
def _pool(
    side: int, channels: int, x: np.ndarray, pictures: int, size: int, pooled: int, out: np.ndarray
) -> None:
    """Max pools of that side, stride 2, of square pictures that they fill."""
    row, to = size * channels, 0
    for picture in range(pictures):
        for y in range(pooled):
            start = (picture * size + 2 * y) * row
            for at in range(start, start + 2 * pooled * channels, 2 * channels):
                for c in range(at, at + channels, LANES):
                    if side == 2:
                        _largest_2(x, c, c + row, c + row, channels, out, to)
                    else:
                        _largest_3(x, c, c + row, c + 2 * row, channels, out, to)
                    to += LANES


@compiled
def _patches(channels: int, x: np.ndarray, pictures: int, size: int, out: np.ndarray) -> None:
    """All windows of 2x2 of square pictures, end to end."""
    to, count = 0, 2 * channels
    for picture in range(pictures):
        for y in range(size - 1):
            for left in range(size - 1):
                for row in range(2):
                    at = ((picture * size + y + row) * size + left) * channels
                    _copy(x[at : at + count], out[to : to + count])
                    to += count


Steps = np.ndarray
"""(n, 5) int64, a row a step from one buffer to the other: kind, side of the pool, side of the
picture before and after it, channels before it. `FIRST`, `WINOGRAD` and `DENSE` take the next layer
each; a dense layer answers once a pixel after it."""


@compiled
def look(
    crops: np.ndarray, size: int, at_once: int, steps: Steps, layers: tuple[Layer, ...],
    scratch: Scratch, out: np.ndarray,
) -> None:  # fmt: skip
    """R- or O-Net. (N * size * size * 3,) -> (N * 16,), `at_once` pictures at once."""
    x, y = scratch.one, scratch.two
    picture = size * size * 3
    total = len(crops) // picture
    for begin in range(0, total, at_once):
        n = min(at_once, total - begin)
        number = 0
        for kind, side, before, after, channels in steps:
            layer = layers[number]
            line, out_line = before * channels, after * layer.channels
            if kind == FIRST:
                for i in range(n):
                    crop = crops[(begin + i) * picture : (begin + i + 1) * picture]
                    to = i * after * out_line
                    start = i - i
                    _first_layer(
                        side, layer, scratch.rows, crop, size, size, start, after, y[to:], out_line
                    )
            elif kind == WINOGRAD:
                tiles = after // layer.side
                _winograd(
                    layer, scratch, x, before * line, line, n * tiles * tiles, tiles, tiles,
                    y, after * out_line, out_line,
                )  # fmt: skip
            elif kind == POOL:
                _pool(side, channels, x, n, before, after, y)
            elif kind == PATCHES:
                _patches(channels, x, n, before, y)
            else:
                rows = n * after * after
                _multiply(layer, rows, x, channels, layer.inputs, channels, layer.bias, y)
            if kind in (FIRST, WINOGRAD, DENSE):
                number += 1
            x, y = y, x
        _copy(x[: n * 16], out[begin * 16 :])
        x, y = scratch.one, scratch.two


@compiled
def _take_hits(
    cells: np.ndarray, count: int, heads: np.ndarray, bias: np.ndarray, low: float,
    logits: np.ndarray, strip: int, row: int, left: int,
    hits: np.ndarray, where: np.ndarray, found: int,
) -> int:  # fmt: skip
    """Those of `count` cells in a row whose logit, its bias left out, is above `low`."""
    for first in range(0, count, LANES):
        _dots(cells, first * PNET_WIDTH, PNET_WIDTH, heads, logits, 0)
        above = 0
        for k in range(LANES):
            above += logits[k] > low
        if not above:
            continue
        for k in range(min(LANES, count - first)):
            if logits[k] <= low:
                continue
            hits[found, 0] = logits[k] + bias[0]
            for head in range(1, 5):
                total = bias[head]
                for c in range(PNET_WIDTH):
                    total += cells[(first + k) * PNET_WIDTH + c] * heads[head * PNET_WIDTH + c]
                hits[found, head] = total
            where[found, 0], where[found, 1], where[found, 2] = strip, row, left + first + k
            found += 1
    return found


@compiled
def scan(
    pixels: np.ndarray, strips: np.ndarray, layers: tuple[Layer, ...], pool: int,
    heads: np.ndarray, bias: np.ndarray, least: float,
    scratch: Scratch, hits: np.ndarray, where: np.ndarray,
) -> int:  # fmt: skip
    """P-Net: cells of strips of levels whose logit is above `least`.

    Args:
        pixels: strips end to end, row by row, three floats a pixel.
        strips: (n, 4) int64 height, width, rows and columns of cells.
        layers: the three convolutions.
        pool: side of the pool.
        heads: (5 * 32,) float32, logit and offsets.
        bias: (5,) float32, theirs.
        hits: (cells, 5) float32, filled from the start: logit, offsets.
        where: (cells, 3) int32, filled from the start: strip, row, column.

    Returns:
        How many were filled.
    """
    pooled, middle, logits = scratch.one, scratch.two, np.empty(LANES, np.float32)
    last, last_line = scratch.rows[-CHUNK * 16 * PNET_WIDTH :], CHUNK * 4 * PNET_WIDTH
    low = np.float32(least - bias[0])
    start = found = 0
    for number in range(len(strips)):
        height, width, rows, columns = strips[number]
        photo = pixels[start : start + height * width * 3]
        start += height * width * 3
        across = -(-columns // 4)
        # Rows behind the pool, as wide as tiles reach, and behind the second layer.
        line, middle_line = (4 * across + 6) * 16, (4 * across + 4) * 16
        _fill(0.0, pooled[: 6 * line])
        _fill(0.0, middle[: 2 * middle_line])
        for step in range(-(-(rows + 2) // 4)):
            kept = 0
            if step:
                kept = 2
                _copy(pooled[4 * line : 6 * line], pooled)
                _copy(middle[4 * middle_line : 6 * middle_line], middle)
            first, end = 4 * step + kept, min(4 * step + 6, rows + 4)
            if end > first:
                _first_layer(
                    pool, layers[0], scratch.rows, photo, height, width, first, end,
                    pooled[kept * line :], line,
                )  # fmt: skip
            _fill(0.0, pooled[(max(end, first) - 4 * step) * line : 6 * line])
            tiles = across + 1
            _winograd(
                layers[1], scratch, pooled, line, line, tiles, tiles, tiles,
                middle[2 * middle_line :], line, middle_line,
            )  # fmt: skip
            for left in range(0, across, CHUNK):
                tiles = min(CHUNK, across - left)
                _winograd(
                    layers[2], scratch, middle[left * 64 :], line, middle_line, tiles, tiles, tiles,
                    last, line, last_line,
                )  # fmt: skip
                # These results begin two rows above those of the second layer.
                for i in range(max(0, 2 - 4 * step), min(4, rows + 2 - 4 * step)):
                    seen = min(4 * tiles, columns - 4 * left)
                    found = _take_hits(
                        last[i * last_line :], seen, heads, bias, low, logits,
                        number, 4 * step - 2 + i, 4 * left, hits, where, found,
                    )  # fmt: skip
    return found

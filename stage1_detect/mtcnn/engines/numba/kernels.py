"""The networks' layers on one core, compiled by Numba for this processor from the parts in `llvm`.

Images are flat float32, channels last; channels are padded with zeros to a multiple of 16, except
for a photo's three. Steps and indices count floats. The caller owns the buffers (`Scratch`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cropfirst.stage1_detect.mtcnn.engines.numba.jit import compiled
from cropfirst.stage1_detect.mtcnn.engines.numba.llvm import (
    GROUPS,
    make_dots,
    make_input_transform,
    make_maximum,
    make_multiply,
    make_output_transform,
)
from cropfirst.stage1_detect.mtcnn.engines.numba.vectors import LANES
from cropfirst.stage1_detect.mtcnn.engines.numba.winograd import WINOGRAD_3, WINOGRAD_4

CHUNK = 24
"""Number of Winograd tiles that are transformed and multiplied at once: they stay in the core's
cache."""
PNET_WIDTH = 32
"""Number of channels of P-Net's last layer before its heads."""
FIRST, WINOGRAD, POOL, IM2COL, DENSE = range(5)
"""Kinds of `Steps`."""
_LOWEST = np.float32(-3e38)

# One or two groups: where there is one, the first branch takes all.
_FIRST_GROUP = GROUPS[0]
_multiply_first, _multiply_last = make_multiply(GROUPS[0]), make_multiply(GROUPS[-1])
_input_transform_3, _input_transform_4 = (
    make_input_transform(WINOGRAD_3),
    make_input_transform(WINOGRAD_4),
)
_output_transform_3, _output_transform_4 = (
    make_output_transform(WINOGRAD_3),
    make_output_transform(WINOGRAD_4),
)
_maximum_2, _maximum_3 = make_maximum(2), make_maximum(3)
_dots = make_dots(PNET_WIDTH)


class PackedConv(NamedTuple):
    """The weights of a convolution in the order in which the kernels read them."""

    weight: np.ndarray
    """Flat float32: value of a Winograd tile (or one), group of results, input, result."""
    bias: np.ndarray
    """(channels,) float32."""
    slope: np.ndarray
    """(channels,) float32 slopes of the PReLU; 1 where there is none."""
    side: int
    """Side of a Winograd tile's results; 0 = no tiles."""
    rows: int
    """Number of rows of inputs that a result sums."""
    inputs: int
    """Number of inputs in such a row; in a pixel, for Winograd."""
    pixel: int
    """Number of floats of an input pixel, padding included."""
    channels: int
    """Number of results, a multiple of 16."""
    group: int
    """`llvm.group_of(channels)`."""


class Scratch(NamedTuple):
    """The buffers of one thread, reused from call to call."""

    zeros: np.ndarray
    rows: np.ndarray
    """Rows of a first layer before its pool; P-Net's last layer."""
    values: np.ndarray
    sums: np.ndarray
    """Winograd tiles before and after the multiplication."""
    one: np.ndarray
    two: np.ndarray
    """Images between layers."""


@compiled
def _fill(value: float, out: np.ndarray) -> None:
    for i in range(len(out)):
        out[i] = value


@compiled
def _copy(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(x)):
        out[i] = x[i]


# Calls below pass no literal numbers: Numba would compile the function again for each.


@compiled
def _multiply(
    layer: PackedConv, pixels: int,
    x: np.ndarray, value_step: int, pixel_step: int, row_step: int,
    bias: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """Compute the results of `pixels` pixels, or of each value of `pixels` tiles."""
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
    layer: PackedConv, scratch: Scratch,
    x: np.ndarray, image: int, row: int, tiles: int, across: int, down: int,
    out: np.ndarray, out_image: int, out_row: int,
) -> None:  # fmt: skip
    """Apply a 3x3 convolution to `tiles` tiles, `across` in a row and `down` rows in an image."""
    values, sums = scratch.values, scratch.sums
    side, pixel, channels = layer.side, layer.pixel, layer.channels
    parts = -(-tiles // CHUNK)
    done = 0
    for part in range(parts):
        here = tiles * (part + 1) // parts - done
        for i in range(here):
            y, left = (done + i) // across, (done + i) % across * side * pixel
            at = y // down * image + y % down * side * row + left
            for c in range(0, pixel, LANES):
                to = i * pixel + c
                if side == 3:
                    _input_transform_3(x, at + c, row, pixel, values, to, here * pixel)
                else:
                    _input_transform_4(x, at + c, row, pixel, values, to, here * pixel)
        _multiply(layer, here, values, here * pixel, pixel, pixel, scratch.zeros, sums)
        for i in range(here):
            y, left = (done + i) // across, (done + i) % across * side * channels
            to = y // down * out_image + y % down * side * out_row + left
            for c in range(0, channels, LANES):
                at, step = i * channels + c, here * channels
                if side == 3:
                    _output_transform_3(
                        sums, at, step, layer.bias, layer.slope, c, out, to + c, out_row, channels
                    )
                else:
                    _output_transform_4(
                        sums, at, step, layer.bias, layer.slope, c, out, to + c, out_row, channels
                    )
        done += here


@compiled
def _first_layer(
    pool: int, layer: PackedConv, rows: np.ndarray,
    x: np.ndarray, height: int, width: int, first: int, last: int, out: np.ndarray, out_row: int,
) -> None:  # fmt: skip
    """Compute rows first..last of a photo's 3x3 convolution and its max pool.

    The pool has that side and stride 2, and rounds up.
    """
    channels, pixel = layer.channels, layer.pixel
    tall, wide = height - 2, width - 2
    # Past a photo's edge the pool sees a value that is never the maximum.
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
                    _maximum_2(rows, one + c, two + c, two + c, channels, out, to)
                else:
                    _maximum_3(rows, one + c, two + c, three + c, channels, out, to)
                to += LANES


@compiled
def _pool(
    side: int, channels: int, x: np.ndarray, images: int, size: int, pooled: int, out: np.ndarray
) -> None:
    """Apply a max pool of that side, stride 2, to square images that its windows fill."""
    row, to = size * channels, 0
    for image in range(images):
        for y in range(pooled):
            start = (image * size + 2 * y) * row
            for at in range(start, start + 2 * pooled * channels, 2 * channels):
                for c in range(at, at + channels, LANES):
                    if side == 2:
                        _maximum_2(x, c, c + row, c + row, channels, out, to)
                    else:
                        _maximum_3(x, c, c + row, c + 2 * row, channels, out, to)
                    to += LANES


@compiled
def _im2col(channels: int, x: np.ndarray, images: int, size: int, out: np.ndarray) -> None:
    """Write all 2x2 windows of square images end to end."""
    to, count = 0, 2 * channels
    for image in range(images):
        for y in range(size - 1):
            for left in range(size - 1):
                for row in range(2):
                    at = ((image * size + y + row) * size + left) * channels
                    _copy(x[at : at + count], out[to : to + count])
                    to += count


Steps = np.ndarray
"""(n, 5) int64, one row per step from one buffer to the other: kind, side of the pool, side of the
image before and after it, channels before it. `FIRST`, `WINOGRAD` and `DENSE` take the next layer
each; a dense layer gives one result per pixel after it."""


@compiled
def run_net(
    crops: np.ndarray, size: int, at_once: int, steps: Steps, layers: tuple[PackedConv, ...],
    scratch: Scratch, out: np.ndarray,
) -> None:  # fmt: skip
    """Run R- or O-Net, `at_once` crops at once. (N * size * size * 3,) -> (N * 16,)."""
    x, y = scratch.one, scratch.two
    image = size * size * 3
    total = len(crops) // image
    for begin in range(0, total, at_once):
        n = min(at_once, total - begin)
        number = 0
        for kind, side, before, after, channels in steps:
            layer = layers[number]
            line, out_line = before * channels, after * layer.channels
            if kind == FIRST:
                for i in range(n):
                    crop = crops[(begin + i) * image : (begin + i + 1) * image]
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
            elif kind == IM2COL:
                _im2col(channels, x, n, before, y)
            else:
                rows = n * after * after
                _multiply(layer, rows, x, channels, layer.inputs, channels, layer.bias, y)
            if kind in (FIRST, WINOGRAD, DENSE):
                number += 1
            x, y = y, x
        _copy(x[: n * 16], out[begin * 16 :])
        x, y = scratch.one, scratch.two


@compiled
def _collect_hits(
    outputs: np.ndarray, count: int, heads: np.ndarray, bias: np.ndarray, low: float,
    logits: np.ndarray, strip: int, row: int, left: int,
    hits: np.ndarray, where: np.ndarray, found: int,
) -> int:  # fmt: skip
    """Collect those of `count` outputs in a row whose logit, without its bias, is above `low`."""
    for first in range(0, count, LANES):
        _dots(outputs, first * PNET_WIDTH, PNET_WIDTH, heads, logits, 0)
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
                    total += outputs[(first + k) * PNET_WIDTH + c] * heads[head * PNET_WIDTH + c]
                hits[found, head] = total
            where[found, 0], where[found, 1], where[found, 2] = strip, row, left + first + k
            found += 1
    return found


@compiled
def run_pnet(
    pixels: np.ndarray, strips: np.ndarray, layers: tuple[PackedConv, ...], pool: int,
    heads: np.ndarray, bias: np.ndarray, min_logit: float,
    scratch: Scratch, hits: np.ndarray, where: np.ndarray,
) -> int:  # fmt: skip
    """Run P-Net, and collect the outputs of strips of levels whose logit is above `min_logit`.

    Args:
        pixels: strips end to end, row by row, three floats per pixel.
        strips: (n, 4) int64 height and width in pixels, rows and columns of outputs.
        layers: the three convolutions.
        pool: side of the pool.
        heads: (5 * 32,) float32, logit and offsets.
        bias: (5,) float32 biases of the heads.
        hits: (outputs, 5) float32, filled from the start: logit, offsets.
        where: (outputs, 3) int32, filled from the start: strip, row, column.

    Returns:
        The number of hits.
    """
    pooled, middle, logits = scratch.one, scratch.two, np.empty(LANES, np.float32)
    last, last_line = scratch.rows[-CHUNK * 16 * PNET_WIDTH :], CHUNK * 4 * PNET_WIDTH
    low = np.float32(min_logit - bias[0])
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
                    found = _collect_hits(
                        last[i * last_line :], seen, heads, bias, low, logits,
                        number, 4 * step - 2 + i, 4 * left, hits, where, found,
                    )  # fmt: skip
    return found

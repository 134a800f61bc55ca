"""Functions of vector instructions that the compiled code (`kernels`, `area`) calls.

Arrays are flat float32 where nothing else is said; indices count elements, so that one function
serves every layout. Indices are not checked: the caller must pass valid ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from cropfirst.stage1_detect.mtcnn.engines.numba.vectors import (
    FLOAT,
    FLOAT_ARRAY,
    INDEX,
    INT,
    INT_ARRAY,
    LANES,
    REGISTERS,
    UINT_ARRAY,
    VECTOR,
    CodeBuilder,
    Vector,
    llvm_function,
)
from cropfirst.stage1_detect.mtcnn.engines.numba.winograd import Formula, Winograd

_BLOCK = 2 * LANES  # bytes whose sums fill a register


def group_of(channels: int) -> int:
    """Return the number of registers of results per pixel that suits `multiply`.

    Args:
        channels: number of channels, a multiple of 16.
    """
    if LANES == 16:
        return 2 if channels % 32 == 0 else 1
    return 16 // LANES


GROUPS = sorted({group_of(channels) for channels in (16, 32)})


def pixels_at_once(group: int) -> int:
    """Return the number of pixels that `multiply` takes at once: most registers hold results."""
    return min(12, (REGISTERS - 1 - group) // group) if LANES == 16 else (REGISTERS - 4) // group


def make_multiply(group: int) -> Any:
    """Make the function that multiplies inputs of pixels by weights.

    It computes the results of any number of pixels, in `group` registers per pixel, for several
    values of a Winograd tile (or for one).

    The function: (values, pixels, x, value_step, pixel_step, row_step, rows, count, weight,
    weight_at, weight_step, bias, activate, slope, channel, out, out_value_step, out_step). Results
    of a pixel from `channel` on are bias plus the sum over `rows` rows of `count` floats that begin
    `row_step` apart, each times its `group * LANES` weights, stored in that order; with
    `activate`, through a PReLU.
    """
    most = pixels_at_once(group)

    @llvm_function(
        INT, INT, FLOAT_ARRAY, INT, INT, INT, INT, INT, FLOAT_ARRAY, INT,
        INT, FLOAT_ARRAY, types.boolean, FLOAT_ARRAY, INT, FLOAT_ARRAY, INT, INT,
    )  # fmt: skip
    def multiply(
        code: CodeBuilder, values: Any, pixels: Any, x: Any, value_step: Any, pixel_step: Any,
        row_step: Any, rows: Any, count: Any, weight: Any, weight_at: Any, weight_step: Any,
        bias: Any, activate: Any, slope: Any, channel: Any, out: Any, out_value_step: Any,
        out_step: Any,
    ) -> None:  # fmt: skip
        builder = code.builder

        def some(here: int, x_at: Any, weight_at: Any, out_at: Any) -> None:
            """Write the code for `here` pixels, all their results in registers."""
            sums = [[code.variable(VECTOR) for _ in range(group)] for _ in range(here)]
            for g in range(group):
                first = code.load(bias, code.offset(channel, g * LANES)).value
                for row in sums:
                    row[g].set(first)
            next_weight = code.variable(INDEX)
            next_weight.set(weight_at)
            starts = [code.offset(x_at, (pixel_step, i)) for i in range(here)]
            with cgutils.for_range(builder, rows, intp=INDEX) as row_loop:
                base = builder.gep(x, [builder.mul(row_loop.index, row_step)])
                with cgutils.for_range(builder, count, intp=INDEX) as loop:
                    at = next_weight.get()
                    factors = [code.load(weight, code.offset(at, g * LANES)) for g in range(group)]
                    next_weight.set(code.offset(at, group * LANES))
                    for start, row in zip(starts, sums, strict=True):
                        value = code.broadcast(base, code.offset(start, loop.index))
                        for factor, total in zip(factors, row, strict=True):
                            total.set((Vector(builder, total.get()) + value * factor).value)
            with builder.if_then(activate):
                for g in range(group):
                    steep = code.load(slope, code.offset(channel, g * LANES))
                    for row in sums:
                        row[g].set(Vector(builder, row[g].get()).prelu(steep).value)
            for i, row in enumerate(sums):
                for g, total in enumerate(row):
                    index = code.offset(out_at, (out_step, i), g * LANES)
                    code.store(Vector(builder, total.get()), out, index)

        done = code.variable(INDEX)
        with cgutils.for_range(builder, values, intp=INDEX) as loop:
            x_here = code.offset((loop.index, value_step))
            weight_here = code.offset(weight_at, (loop.index, weight_step))
            out_here = code.offset(channel, (loop.index, out_value_step))
            done.set(ir.Constant(INDEX, 0))
            again = builder.append_basic_block("again")
            builder.branch(again)
            builder.position_at_end(again)
            before = done.get()
            left = builder.sub(pixels, before)
            # As many as fit; what does not fill two turns is shared evenly by both.
            half = builder.lshr(code.offset(left, 1), ir.Constant(INDEX, 1))
            fits = builder.icmp_signed("<=", left, ir.Constant(INDEX, most))
            two = builder.icmp_signed("<", left, ir.Constant(INDEX, 2 * most))
            here = builder.select(fits, left, builder.select(two, half, ir.Constant(INDEX, most)))
            after = builder.append_basic_block("after")
            cases = builder.switch(here, after)
            for number in range(1, most + 1):
                block = builder.append_basic_block(f"pixels{number}")
                cases.add_case(ir.Constant(INDEX, number), block)
                builder.position_at_end(block)
                some(
                    number,
                    code.offset(x_here, (before, pixel_step)),
                    weight_here,
                    code.offset(out_here, (before, out_step)),
                )
                builder.branch(after)
            builder.position_at_end(after)
            now = builder.add(before, here)
            done.set(now)
            finished = builder.append_basic_block("finished")
            builder.cbranch(builder.icmp_signed("<", now, pixels), again, finished)
            builder.position_at_end(finished)

    return multiply


def make_input_transform(tiles: Winograd) -> Any:
    """Make the function that transforms one register of channels of one tile of inputs.

    The function: (x, x_at, row_step, pixel_step, out, out_at, value_step).
    """
    size = tiles.input_side

    @llvm_function(FLOAT_ARRAY, INT, INT, INT, FLOAT_ARRAY, INT, INT)
    def input_transform(
        code: CodeBuilder, x: Any, x_at: Any, row_step: Any, pixel_step: Any,
        out: Any, out_at: Any, value_step: Any,
    ) -> None:  # fmt: skip
        values = [
            [code.load(x, code.offset(x_at, (row_step, i), (pixel_step, j))) for j in range(size)]
            for i in range(size)
        ]
        for i, row in enumerate(_both_ways(tiles.input_transform, values)):
            for j, value in enumerate(row):
                code.store(value, out, code.offset(out_at, (value_step, i * size + j)))

    return input_transform


def make_output_transform(tiles: Winograd) -> Any:
    """Make the function that transforms one register of channels of one tile of results.

    It adds the bias and applies a PReLU.

    The function: (x, x_at, value_step, bias, slope, channel, out, out_at, row_step, pixel_step).
    """
    size = tiles.input_side

    @llvm_function(FLOAT_ARRAY, INT, INT, FLOAT_ARRAY, FLOAT_ARRAY, INT, FLOAT_ARRAY, INT, INT, INT)
    def output_transform(
        code: CodeBuilder, x: Any, x_at: Any, value_step: Any, bias: Any, slope: Any, channel: Any,
        out: Any, out_at: Any, row_step: Any, pixel_step: Any,
    ) -> None:  # fmt: skip
        values = [
            [code.load(x, code.offset(x_at, (value_step, i * size + j))) for j in range(size)]
            for i in range(size)
        ]
        first, steep = code.load(bias, channel), code.load(slope, channel)
        for i, row in enumerate(_both_ways(tiles.output_transform, values)):
            for j, value in enumerate(row):
                index = code.offset(out_at, (row_step, i), (pixel_step, j))
                code.store((value + first).prelu(steep), out, index)

    return output_transform


def _both_ways(formula: Formula, values: Sequence[Sequence[Vector]]) -> list[list[Vector]]:
    columns = [formula(column) for column in zip(*values, strict=True)]
    return [formula(row) for row in zip(*columns, strict=True)]


def make_maximum(side: int) -> Any:
    """Make the function that finds the maximum of `side` rows of `side` pixels.

    The function: (x, first_row, second_row, third_row, pixel_step, out, out_at).
    """

    @llvm_function(FLOAT_ARRAY, INT, INT, INT, INT, FLOAT_ARRAY, INT)
    def maximum(
        code: CodeBuilder, x: Any, first: Any, second: Any, third: Any, pixel_step: Any,
        out: Any, out_at: Any,
    ) -> None:  # fmt: skip
        values = [
            code.load(x, code.offset(row, (pixel_step, i)))
            for row in (first, second, third)[:side]
            for i in range(side)
        ]
        code.store(reduce(Vector.maximum, values), out, out_at)

    return maximum


def make_dots(channels: int) -> Any:
    """Make the function that sums the channels of LANES pixels, each channel times its weight.

    The function: (x, x_at, pixel_step, weight, out, out_at).
    """

    @llvm_function(FLOAT_ARRAY, INT, INT, FLOAT_ARRAY, FLOAT_ARRAY, INT)
    def dots(
        code: CodeBuilder, x: Any, x_at: Any, pixel_step: Any, weight: Any, out: Any, out_at: Any
    ) -> None:  # fmt: skip
        parts = range(0, channels, LANES)
        factors = [code.load(weight, code.offset(part)) for part in parts]
        sums = []
        for pixel in range(LANES):
            products = [
                code.load(x, code.offset(x_at, (pixel_step, pixel), part)) * factor
                for part, factor in zip(parts, factors, strict=True)
            ]
            total = products[0]
            for product in products[1:]:
                total = total + product
            sums.append(total)
        step = LANES
        while step > 1:
            step //= 2
            sums = [a.pairwise_sums(b, step) for a, b in zip(sums[::2], sums[1::2], strict=True)]
        code.store(sums[0], out, out_at)

    return dots


@llvm_function(INT, INT, INT, INT, UINT_ARRAY)
def sum_rows(code: CodeBuilder, start: Any, row_step: Any, rows: Any, count: Any, out: Any) -> None:
    """Sum `count` bytes over up to 257 rows, which fill 16 bits, from an address on."""
    builder = code.builder
    narrow, wide = (ir.VectorType(ir.IntType(bits), _BLOCK) for bits in (8, 16))
    x = builder.inttoptr(start, ir.IntType(8).as_pointer())

    def sum_blocks(at: ir.Value, blocks: int) -> None:
        totals = [code.variable(wide) for _ in range(blocks)]
        for total in totals:
            total.set(ir.Constant(wide, None))
        with cgutils.for_range(builder, rows, intp=INDEX) as loop:
            for number, total in enumerate(totals):
                index = code.offset(at, (loop.index, row_step), number * _BLOCK)
                row = builder.load(code.address(x, index, narrow), align=1)
                total.set(builder.add(total.get(), builder.zext(row, wide)))
        for number, total in enumerate(totals):
            sums = builder.zext(total.get(), ir.VectorType(ir.IntType(32), _BLOCK))
            index = code.offset(at, number * _BLOCK)
            builder.store(sums, code.address(out, index, sums.type), align=4)

    def sum_one(at: ir.Value) -> None:
        total = code.variable(ir.IntType(32))
        total.set(ir.Constant(ir.IntType(32), 0))
        with cgutils.for_range(builder, rows, intp=INDEX) as loop:
            byte = builder.load(builder.gep(x, [code.offset(at, (loop.index, row_step))]))
            total.set(builder.add(total.get(), builder.zext(byte, ir.IntType(32))))
        builder.store(total.get(), builder.gep(out, [at]))

    zero, one, four = (ir.Constant(INDEX, each) for each in (0, _BLOCK, 4 * _BLOCK))
    with builder.if_else(builder.icmp_signed("<", count, one)) as (few, many):
        with few, cgutils.for_range(builder, count, intp=INDEX) as loop:
            sum_one(loop.index)
        with many:
            # Four blocks at once, then one by one; the last ends with the row.
            end = builder.mul(builder.sdiv(count, four), four)
            with cgutils.for_range_slice(builder, zero, end, four) as (at, _):
                sum_blocks(at, 4)
            last = builder.sub(count, one)
            with cgutils.for_range_slice(builder, end, last, one) as (at, _):
                sum_blocks(at, 1)
            with builder.if_then(builder.icmp_signed("<", end, count)):
                sum_blocks(last, 1)


@llvm_function(UINT_ARRAY, INT_ARRAY, INT_ARRAY, INT, FLOAT_ARRAY, INT)
def sum_bins(
    code: CodeBuilder, x: Any, starts: Any, ends: Any, bins: Any, out: Any, out_step: Any
) -> None:
    """Sum pixels of three numbers each, from index `starts[i]` to `ends[i]` for bin i.

    The fourth float of a bin has no meaning and may be the first one of the next bin.
    """
    builder = code.builder
    kind, step = ir.VectorType(ir.IntType(32), 4), ir.Constant(INDEX, 3)
    total = code.variable(kind)
    with cgutils.for_range(builder, bins, intp=INDEX) as loop:
        start, end = (builder.load(builder.gep(each, [loop.index])) for each in (starts, ends))
        total.set(ir.Constant(kind, None))
        with cgutils.for_range_slice(builder, start, end, step) as (index, _):
            pixel = builder.load(code.address(x, index, kind), align=4)
            total.set(builder.add(total.get(), pixel))
        sums = builder.uitofp(total.get(), ir.VectorType(FLOAT, 4))
        index = code.offset((loop.index, out_step))
        builder.store(sums, code.address(out, index, sums.type), align=4)

"""Functions of vector instructions that Numba's code (`kernels`, `area`) calls.

Arrays are flat float32 where nothing else is said; places in them count elements, so that one
function serves every layout. Nothing checks a place: the caller sees to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from cropfirst.stage1_detect.mtcnn.engines.numba.vectors import (
    ADDRESS,
    FLOAT,
    FLOATS,
    INDEX,
    LANES,
    PLACE,
    PLACES,
    REGISTERS,
    VECTOR,
    WHOLE,
    Code,
    Vector,
    instructions,
)
from cropfirst.stage1_detect.mtcnn.engines.numba.winograd import Formula, Winograd

_BLOCK = 2 * LANES  # bytes whose sums fill a register


def group_of(channels: int) -> int:
    """How many registers of results a pixel `multiply` does best with, for so many channels (a
    multiple of 16)."""
    if LANES == 16:
        return 2 if channels % 32 == 0 else 1
    return 16 // LANES


GROUPS = sorted({group_of(channels) for channels in (16, 32)})


def rows_of(group: int) -> int:
    """Pixels that `multiply` takes at once: their results fill the registers but for a few."""
    return min(12, (REGISTERS - 1 - group) // group) if LANES == 16 else (REGISTERS - 4) // group


def make_multiply(group: int) -> Any:
    """Results of any number of pixels in `group` registers each, of several values of a Winograd
    tile (or of one).

    The function: (values, pixels, x, value_step, pixel_step, row_step, rows, count, weight,
    weight_at, weight_step, bias, activate, slope, channel, out, out_value_step, out_step). Results
    of a pixel from `channel` on are bias plus the sum over `rows` rows of `count` floats that begin
    `row_step` apart, each times its `group * LANES` weights, which lie in that order; with
    `activate`, through a PReLU.
    """
    most = rows_of(group)

    @instructions(
        PLACE, PLACE, FLOATS, PLACE, PLACE, PLACE, PLACE, PLACE, FLOATS, PLACE,
        PLACE, FLOATS, types.boolean, FLOATS, PLACE, FLOATS, PLACE, PLACE,
    )  # fmt: skip
    def multiply(
        code: Code, values: Any, pixels: Any, x: Any, value_step: Any, pixel_step: Any,
        row_step: Any, rows: Any, count: Any, weight: Any, weight_at: Any, weight_step: Any,
        bias: Any, activate: Any, slope: Any, channel: Any, out: Any, out_value_step: Any,
        out_step: Any,
    ) -> None:  # fmt: skip
        builder = code.builder

        def some(here: int, x_at: Any, weight_at: Any, out_at: Any) -> None:
            """`here` pixels, all their results in registers."""
            sums = [[code.slot(VECTOR) for _ in range(group)] for _ in range(here)]
            for g in range(group):
                first = code.load(bias, code.at(channel, g * LANES)).value
                for row in sums:
                    row[g].set(first)
            next_weight = code.slot(INDEX)
            next_weight.set(weight_at)
            starts = [code.at(x_at, (pixel_step, i)) for i in range(here)]
            with cgutils.for_range(builder, rows, intp=INDEX) as row_loop:
                base = builder.gep(x, [builder.mul(row_loop.index, row_step)])
                with cgutils.for_range(builder, count, intp=INDEX) as loop:
                    at = next_weight.get()
                    factors = [code.load(weight, code.at(at, g * LANES)) for g in range(group)]
                    next_weight.set(code.at(at, group * LANES))
                    for start, row in zip(starts, sums, strict=True):
                        value = code.spread_out(base, code.at(start, loop.index))
                        for factor, total in zip(factors, row, strict=True):
                            total.set((Vector(builder, total.get()) + value * factor).value)
            with builder.if_then(activate):
                for g in range(group):
                    steep = code.load(slope, code.at(channel, g * LANES))
                    for row in sums:
                        row[g].set(Vector(builder, row[g].get()).prelu(steep).value)
            for i, row in enumerate(sums):
                for g, total in enumerate(row):
                    place = code.at(out_at, (out_step, i), g * LANES)
                    code.store(Vector(builder, total.get()), out, place)

        done = code.slot(INDEX)
        with cgutils.for_range(builder, values, intp=INDEX) as loop:
            x_here = code.at((loop.index, value_step))
            weight_here = code.at(weight_at, (loop.index, weight_step))
            out_here = code.at(channel, (loop.index, out_value_step))
            done.set(ir.Constant(INDEX, 0))
            again = builder.append_basic_block("again")
            builder.branch(again)
            builder.position_at_end(again)
            before = done.get()
            left = builder.sub(pixels, before)
            # As many as fit; what does not fill two turns is shared evenly by both.
            half = builder.lshr(code.at(left, 1), ir.Constant(INDEX, 1))
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
                    code.at(x_here, (before, pixel_step)),
                    weight_here,
                    code.at(out_here, (before, out_step)),
                )
                builder.branch(after)
            builder.position_at_end(after)
            now = builder.add(before, here)
            done.set(now)
            finished = builder.append_basic_block("finished")
            builder.cbranch(builder.icmp_signed("<", now, pixels), again, finished)
            builder.position_at_end(finished)

    return multiply


def make_spread_tile(tiles: Winograd) -> Any:
    """One register of channels of one tile of inputs, spread.

    The function: (x, x_at, row_step, pixel_step, out, out_at, value_step).
    """
    reach = tiles.reach

    @instructions(FLOATS, PLACE, PLACE, PLACE, FLOATS, PLACE, PLACE)
    def spread_tile(
        code: Code, x: Any, x_at: Any, row_step: Any, pixel_step: Any,
        out: Any, out_at: Any, value_step: Any,
    ) -> None:  # fmt: skip
        values = [
            [code.load(x, code.at(x_at, (row_step, i), (pixel_step, j))) for j in range(reach)]
            for i in range(reach)
        ]
        for i, row in enumerate(_both_ways(tiles.spread, values)):
            for j, value in enumerate(row):
                code.store(value, out, code.at(out_at, (value_step, i * reach + j)))

    return spread_tile


def make_gather_tile(tiles: Winograd) -> Any:
    """One register of channels of one tile of results, gathered, plus bias, through a PReLU.

    The function: (x, x_at, value_step, bias, slope, channel, out, out_at, row_step, pixel_step).
    """
    reach = tiles.reach

    @instructions(FLOATS, PLACE, PLACE, FLOATS, FLOATS, PLACE, FLOATS, PLACE, PLACE, PLACE)
    def gather_tile(
        code: Code, x: Any, x_at: Any, value_step: Any, bias: Any, slope: Any, channel: Any,
        out: Any, out_at: Any, row_step: Any, pixel_step: Any,
    ) -> None:  # fmt: skip
        values = [
            [code.load(x, code.at(x_at, (value_step, i * reach + j))) for j in range(reach)]
            for i in range(reach)
        ]
        first, steep = code.load(bias, channel), code.load(slope, channel)
        for i, row in enumerate(_both_ways(tiles.gather, values)):
            for j, value in enumerate(row):
                place = code.at(out_at, (row_step, i), (pixel_step, j))
                code.store((value + first).prelu(steep), out, place)

    return gather_tile


def _both_ways(formula: Formula, values: Sequence[Sequence[Vector]]) -> list[list[Vector]]:
    columns = [formula(column) for column in zip(*values, strict=True)]
    return [formula(row) for row in zip(*columns, strict=True)]


def make_largest(side: int) -> Any:
    """The largest of `side` rows of `side` pixels.

    The function: (x, first_row, second_row, third_row, pixel_step, out, out_at).
    """

    @instructions(FLOATS, PLACE, PLACE, PLACE, PLACE, FLOATS, PLACE)
    def largest(
        code: Code, x: Any, first: Any, second: Any, third: Any, pixel_step: Any,
        out: Any, out_at: Any,
    ) -> None:  # fmt: skip
        values = [
            code.load(x, code.at(row, (pixel_step, i)))
            for row in (first, second, third)[:side]
            for i in range(side)
        ]
        code.store(reduce(Vector.larger, values), out, out_at)

    return largest


def make_dots(channels: int) -> Any:
    """Sums over channels of LANES pixels, each channel times its weight.

    The function: (x, x_at, pixel_step, weight, out, out_at).
    """

    @instructions(FLOATS, PLACE, PLACE, FLOATS, FLOATS, PLACE)
    def dots(
        code: Code, x: Any, x_at: Any, pixel_step: Any, weight: Any, out: Any, out_at: Any
    ) -> None:  # fmt: skip
        parts = range(0, channels, LANES)
        factors = [code.load(weight, code.at(part)) for part in parts]
        sums = []
        for pixel in range(LANES):
            products = [
                code.load(x, code.at(x_at, (pixel_step, pixel), part)) * factor
                for part, factor in zip(parts, factors, strict=True)
            ]
            total = products[0]
            for product in products[1:]:
                total = total + product
            sums.append(total)
        step = LANES
        while step > 1:
            step //= 2
            sums = [a.halves(b, step) for a, b in zip(sums[::2], sums[1::2], strict=True)]
        code.store(sums[0], out, out_at)

    return dots


@instructions(ADDRESS, PLACE, PLACE, PLACE, WHOLE)
def sum_rows(code: Code, start: Any, row_step: Any, rows: Any, count: Any, out: Any) -> None:
    """Sums of `count` bytes of up to 257 rows, which fill 16 bits, from an address on."""
    builder = code.builder
    narrow, wide = (ir.VectorType(ir.IntType(bits), _BLOCK) for bits in (8, 16))
    x = builder.inttoptr(start, ir.IntType(8).as_pointer())

    def sum_blocks(at: ir.Value, blocks: int) -> None:
        totals = [code.slot(wide) for _ in range(blocks)]
        for total in totals:
            total.set(ir.Constant(wide, None))
        with cgutils.for_range(builder, rows, intp=INDEX) as loop:
            for number, total in enumerate(totals):
                place = code.at(at, (loop.index, row_step), number * _BLOCK)
                row = builder.load(code.address(x, place, narrow), align=1)
                total.set(builder.add(total.get(), builder.zext(row, wide)))
        for number, total in enumerate(totals):
            sums = builder.zext(total.get(), ir.VectorType(ir.IntType(32), _BLOCK))
            place = code.at(at, number * _BLOCK)
            builder.store(sums, code.address(out, place, sums.type), align=4)

    def sum_one(at: ir.Value) -> None:
        total = code.slot(ir.IntType(32))
        total.set(ir.Constant(ir.IntType(32), 0))
        with cgutils.for_range(builder, rows, intp=INDEX) as loop:
            byte = builder.load(builder.gep(x, [code.at(at, (loop.index, row_step))]))
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


@instructions(WHOLE, PLACES, PLACES, PLACE, FLOATS, PLACE)
def sum_bins(
    code: Code, x: Any, starts: Any, ends: Any, bins: Any, out: Any, out_step: Any
) -> None:
    """Sums of pixels of three numbers, from place `starts[i]` to `ends[i]` for bin i. A bin's
    fourth float means nothing and may be the next one's first."""
    builder = code.builder
    whole, step = ir.VectorType(ir.IntType(32), 4), ir.Constant(INDEX, 3)
    total = code.slot(whole)
    with cgutils.for_range(builder, bins, intp=INDEX) as loop:
        start, end = (builder.load(builder.gep(each, [loop.index])) for each in (starts, ends))
        total.set(ir.Constant(whole, None))
        with cgutils.for_range_slice(builder, start, end, step) as (place, _):
            pixel = builder.load(code.address(x, place, whole), align=4)
            total.set(builder.add(total.get(), pixel))
        sums = builder.uitofp(total.get(), ir.VectorType(FLOAT, 4))
        place = code.at((loop.index, out_step))
        builder.store(sums, code.address(out, place, sums.type), align=4)

"""Vector instructions for code that Numba compiles: each function here becomes a few dozen of them.

Written as LLVM's own vectors, so the same text becomes AVX-512, AVX2, SSE or NEON. Arrays are flat
float32; places in them are numbers of floats, so that one function serves every layout. Nothing
checks a place: `kernels` sees to that.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numba
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from cropfirst.stage1_detect.winograd import Formula, Winograd


def _vector_registers() -> tuple[int, int]:
    """Floats in a vector register of this processor, and how many registers there are."""
    told = numba.config.CPU_FEATURES
    features = set(told.split(",")) if told else {
        f"+{name}" for name, there in binding.get_host_cpu_features().items() if there
    }  # fmt: skip
    if "+avx512f" in features:
        return 16, 32
    if "+avx" in features:
        return 8, 16
    return 4, 32 if platform.machine().lower() in ("aarch64", "arm64") else 16


LANES, _REGISTERS = _vector_registers()
_FLOAT, _INDEX = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_MASK = ir.IntType(32)
_FUSED = ("contract",)  # a product and a sum may become one instruction
_Place = types.int64
_Array = types.Array(types.float32, 1, "C")
_Address = types.int64
_Whole = types.Array(types.uint32, 1, "C")
_Places = types.Array(types.int64, 1, "C")
_BLOCK = 2 * LANES  # bytes whose sums fill a register


class _Vector:
    """A register, with the arithmetic of `winograd.Formula`."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value

    def _of(self, value: ir.Value) -> _Vector:
        return _Vector(self.builder, value)

    def __add__(self, other: _Vector) -> _Vector:
        return self._of(self.builder.fadd(self.value, other.value, flags=_FUSED))

    def __sub__(self, other: _Vector) -> _Vector:
        return self._of(self.builder.fsub(self.value, other.value, flags=_FUSED))

    def __mul__(self, other: _Vector | float) -> _Vector:
        factor = other.value if isinstance(other, _Vector) else _constant(other)
        return self._of(self.builder.fmul(self.value, factor, flags=_FUSED))

    def larger(self, other: _Vector) -> _Vector:
        above = self.builder.fcmp_ordered(">", self.value, other.value)
        return self._of(self.builder.select(above, self.value, other.value))

    def prelu(self, slope: _Vector) -> _Vector:
        above = self.builder.fcmp_ordered(">", self.value, _constant(0.0))
        return self._of(self.builder.select(above, self.value, (self * slope).value))

    def halves(self, other: _Vector, step: int) -> _Vector:
        """In blocks of `step` lanes: sums of neighbours, this one's first, then the other's."""
        first = [i for i in range(2 * LANES) if not i & step]
        pairs = [[start + add for start in first] for add in (0, step)]
        low, high = (
            self.builder.shuffle_vector(
                self.value, other.value, ir.Constant(ir.VectorType(_MASK, LANES), lanes)
            )
            for lanes in pairs
        )
        return self._of(low) + self._of(high)


class _Code:
    """What a function here writes its instructions with."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def at(self, *terms: ir.Value | int | tuple[ir.Value, int]) -> ir.Value:
        """A sum of places, and of places times a number."""
        total = ir.Constant(_INDEX, 0)
        for term in terms:
            if isinstance(term, tuple):
                one, other = term
                other = ir.Constant(_INDEX, other) if isinstance(other, int) else other
                term = self.builder.mul(one, other)
            elif isinstance(term, int):
                term = ir.Constant(_INDEX, term)
            total = self.builder.add(total, term)
        return total

    def load(self, pointer: ir.Value, place: ir.Value) -> _Vector:
        address = self.builder.bitcast(self.builder.gep(pointer, [place]), _VECTOR.as_pointer())
        return _Vector(self.builder, self.builder.load(address, align=4))

    def store(self, vector: _Vector, pointer: ir.Value, place: ir.Value) -> None:
        address = self.builder.bitcast(self.builder.gep(pointer, [place]), _VECTOR.as_pointer())
        self.builder.store(vector.value, address, align=4)

    def spread_out(self, pointer: ir.Value, place: ir.Value) -> _Vector:
        """One float in every lane."""
        one = self.builder.load(self.builder.gep(pointer, [place]), align=4)
        empty = ir.Constant(_VECTOR, ir.Undefined)
        first = self.builder.insert_element(empty, one, ir.Constant(_MASK, 0))
        mask = ir.Constant(ir.VectorType(_MASK, LANES), [0] * LANES)
        return _Vector(self.builder, self.builder.shuffle_vector(first, empty, mask))


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * LANES)


def _instructions(*arguments: Any) -> Callable[[Callable[..., None]], Any]:
    """A function of Numba's whose body is written by the one below: (code, arguments...), arrays
    among them as pointers. Compiled by itself: inlined wherever it is called, LLVM would take many
    times as long."""

    def of(write: Callable[..., None]) -> Any:
        def call(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[Any]) -> Any:
            given = [
                cgutils.create_struct_proxy(kind)(context, builder, value=value).data
                if isinstance(kind, types.Array)
                else value
                for kind, value in zip(
                    arguments, cgutils.unpack_tuple(builder, values[0]), strict=True
                )
            ]
            kinds = [value.type for value in given]
            function = ir.Function(
                builder.module, ir.FunctionType(ir.VoidType(), kinds),
                builder.module.get_unique_name(f"cropfirst.{write.__qualname__}"),
            )  # fmt: skip
            function.linkage = "internal"
            function.attributes.add("noinline")
            inside = ir.IRBuilder(function.append_basic_block())
            write(_Code(inside), *function.args)
            inside.ret_void()
            builder.call(function, given)
            return context.get_dummy_value()

        def typed(_: Any, *given: Any) -> Any:
            return types.void(types.StarArgTuple(arguments)), call

        return intrinsic(typed)

    return of


def group_of(channels: int) -> int:
    """How many registers of results a pixel `multiply` does best with, for so many channels (a
    multiple of 16)."""
    if LANES == 16:
        return 2 if channels % 32 == 0 else 1
    return 16 // LANES


GROUPS = sorted({group_of(channels) for channels in (16, 32)})


def rows_of(group: int) -> int:
    """Pixels that `multiply` takes at once: their results fill the registers but for a few."""
    return min(12, (_REGISTERS - 1 - group) // group) if LANES == 16 else (_REGISTERS - 4) // group


def make_multiply(group: int) -> Any:
    """Results of any number of pixels in `group` registers each, of several values of a Winograd
    tile (or of one).

    The function: (values, pixels, x, x_at, value_step, pixel_step, row_step, rows, count, weight,
    weight_at, weight_step, bias, activate, slope, channel, out, out_at, out_value_step, out_step).
    A pixel's result is bias plus the sum over `rows` rows of `count` floats that begin `row_step`
    apart, each times its `group * LANES` weights, which lie in that order; with `activate`, through
    a PReLU.
    """
    most = rows_of(group)

    @_instructions(
        _Place, _Place, _Array, _Place, _Place, _Place, _Place, _Place, _Place, _Array, _Place,
        _Place, _Array, types.boolean, _Array, _Place, _Array, _Place, _Place, _Place,
    )  # fmt: skip
    def multiply(
        code: _Code, values: Any, pixels: Any, x: Any, x_at: Any, value_step: Any,
        pixel_step: Any, row_step: Any, rows: Any, count: Any, weight: Any, weight_at: Any,
        weight_step: Any, bias: Any, activate: Any, slope: Any, channel: Any, out: Any,
        out_at: Any, out_value_step: Any, out_step: Any,
    ) -> None:  # fmt: skip
        builder = code.builder

        def some(here: int, x_at: Any, weight_at: Any, out_at: Any) -> None:
            """`here` pixels, all their results in registers."""
            sums = [
                [cgutils.alloca_once(builder, _VECTOR) for _ in range(group)] for _ in range(here)
            ]
            for g in range(group):
                first = code.load(bias, code.at(channel, g * LANES)).value
                for row in sums:
                    builder.store(first, row[g])
            next_weight = cgutils.alloca_once(builder, _INDEX)
            builder.store(weight_at, next_weight)
            starts = [code.at(x_at, (pixel_step, i)) for i in range(here)]
            with cgutils.for_range(builder, rows, intp=_INDEX) as row_loop:
                base = builder.gep(x, [builder.mul(row_loop.index, row_step)])
                with cgutils.for_range(builder, count, intp=_INDEX) as loop:
                    at = builder.load(next_weight)
                    factors = [code.load(weight, code.at(at, g * LANES)) for g in range(group)]
                    builder.store(code.at(at, group * LANES), next_weight)
                    for start, row in zip(starts, sums, strict=True):
                        value = code.spread_out(base, code.at(start, loop.index))
                        for factor, total in zip(factors, row, strict=True):
                            so_far = _Vector(builder, builder.load(total))
                            builder.store((so_far + value * factor).value, total)
            with builder.if_then(activate):
                for g in range(group):
                    steep = code.load(slope, code.at(channel, g * LANES))
                    for row in sums:
                        total = _Vector(builder, builder.load(row[g]))
                        builder.store(total.prelu(steep).value, row[g])
            for i, row in enumerate(sums):
                for g, total in enumerate(row):
                    place = code.at(out_at, (out_step, i), g * LANES)
                    code.store(_Vector(builder, builder.load(total)), out, place)

        done = cgutils.alloca_once(builder, _INDEX)
        with cgutils.for_range(builder, values, intp=_INDEX) as loop:
            x_here = code.at(x_at, (loop.index, value_step))
            weight_here = code.at(weight_at, (loop.index, weight_step))
            out_here = code.at(out_at, (loop.index, out_value_step))
            builder.store(ir.Constant(_INDEX, 0), done)
            again = builder.append_basic_block("again")
            builder.branch(again)
            builder.position_at_end(again)
            before = builder.load(done)
            left = builder.sub(pixels, before)
            # As many as fit; what does not fill two turns is shared evenly by both.
            half = builder.lshr(code.at(left, 1), ir.Constant(_INDEX, 1))
            fits = builder.icmp_signed("<=", left, ir.Constant(_INDEX, most))
            two = builder.icmp_signed("<", left, ir.Constant(_INDEX, 2 * most))
            here = builder.select(fits, left, builder.select(two, half, ir.Constant(_INDEX, most)))
            after = builder.append_basic_block("after")
            cases = builder.switch(here, after)
            for number in range(1, most + 1):
                block = builder.append_basic_block(f"pixels{number}")
                cases.add_case(ir.Constant(_INDEX, number), block)
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
            builder.store(now, done)
            finished = builder.append_basic_block("finished")
            builder.cbranch(builder.icmp_signed("<", now, pixels), again, finished)
            builder.position_at_end(finished)

    return multiply


def make_spread_tile(tiles: Winograd) -> Any:
    """One register of channels of one tile of inputs, spread.

    The function: (x, x_at, row_step, pixel_step, out, out_at, value_step).
    """
    reach = tiles.reach

    @_instructions(_Array, _Place, _Place, _Place, _Array, _Place, _Place)
    def spread_tile(
        code: _Code, x: Any, x_at: Any, row_step: Any, pixel_step: Any,
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

    @_instructions(_Array, _Place, _Place, _Array, _Array, _Place, _Array, _Place, _Place, _Place)
    def gather_tile(
        code: _Code, x: Any, x_at: Any, value_step: Any, bias: Any, slope: Any, channel: Any,
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


def _both_ways(formula: Formula, values: Sequence[Sequence[_Vector]]) -> list[list[_Vector]]:
    columns = [formula(column) for column in zip(*values, strict=True)]
    return [formula(row) for row in zip(*columns, strict=True)]


def make_largest(side: int) -> Any:
    """The largest of `side` rows of `side` pixels.

    The function: (x, first_row, second_row, third_row, pixel_step, out, out_at).
    """

    @_instructions(_Array, _Place, _Place, _Place, _Place, _Array, _Place)
    def largest(
        code: _Code, x: Any, first: Any, second: Any, third: Any, pixel_step: Any,
        out: Any, out_at: Any,
    ) -> None:  # fmt: skip
        values = [
            code.load(x, code.at(row, (pixel_step, i)))
            for row in (first, second, third)[:side]
            for i in range(side)
        ]
        code.store(reduce(_Vector.larger, values), out, out_at)

    return largest


def make_dots(channels: int) -> Any:
    """Sums over channels of LANES pixels, each channel times its weight.

    The function: (x, x_at, pixel_step, weight, out, out_at).
    """

    @_instructions(_Array, _Place, _Place, _Array, _Array, _Place)
    def dots(
        code: _Code, x: Any, x_at: Any, pixel_step: Any, weight: Any, out: Any, out_at: Any
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


@_instructions(_Address, _Place, _Place, _Place, _Whole)
def sum_rows(code: _Code, start: Any, row_step: Any, rows: Any, count: Any, out: Any) -> None:
    """Sums of `count` bytes of up to 257 rows, which fill 16 bits, from an address on."""
    builder = code.builder
    narrow, wide = (ir.VectorType(ir.IntType(bits), _BLOCK) for bits in (8, 16))
    x = builder.inttoptr(start, ir.IntType(8).as_pointer())

    def sum_blocks(at: ir.Value, blocks: int) -> None:
        totals = [
            cgutils.alloca_once_value(builder, ir.Constant(wide, None)) for _ in range(blocks)
        ]
        for total in totals:
            builder.store(ir.Constant(wide, None), total)
        with cgutils.for_range(builder, rows, intp=_INDEX) as loop:
            for number, total in enumerate(totals):
                place = builder.gep(x, [code.at(at, (loop.index, row_step), number * _BLOCK)])
                row = builder.load(builder.bitcast(place, narrow.as_pointer()), align=1)
                builder.store(builder.add(builder.load(total), builder.zext(row, wide)), total)
        for number, total in enumerate(totals):
            sums = builder.zext(builder.load(total), ir.VectorType(ir.IntType(32), _BLOCK))
            place = builder.gep(out, [code.at(at, number * _BLOCK)])
            builder.store(sums, builder.bitcast(place, sums.type.as_pointer()), align=4)

    def sum_one(at: ir.Value) -> None:
        total = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(32), 0))
        builder.store(ir.Constant(ir.IntType(32), 0), total)
        with cgutils.for_range(builder, rows, intp=_INDEX) as loop:
            byte = builder.load(builder.gep(x, [code.at(at, (loop.index, row_step))]))
            builder.store(
                builder.add(builder.load(total), builder.zext(byte, ir.IntType(32))), total
            )
        builder.store(builder.load(total), builder.gep(out, [at]))

    zero, one, four = (ir.Constant(_INDEX, each) for each in (0, _BLOCK, 4 * _BLOCK))
    with builder.if_else(builder.icmp_signed("<", count, one)) as (few, many):
        with few, cgutils.for_range(builder, count, intp=_INDEX) as loop:
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


@_instructions(_Whole, _Places, _Places, _Place, _Array, _Place)
def sum_bins(
    code: _Code, x: Any, starts: Any, ends: Any, bins: Any, out: Any, out_step: Any
) -> None:
    """Sums of pixels of three numbers, from place `starts[i]` to `ends[i]` for bin i. A bin's
    fourth float means nothing and may be the next one's first."""
    builder = code.builder
    whole, step = ir.VectorType(ir.IntType(32), 4), ir.Constant(_INDEX, 3)
    total = cgutils.alloca_once(builder, whole)
    with cgutils.for_range(builder, bins, intp=_INDEX) as loop:
        start, end = (builder.load(builder.gep(each, [loop.index])) for each in (starts, ends))
        builder.store(ir.Constant(whole, None), total)
        with cgutils.for_range_slice(builder, start, end, step) as (place, _):
            address = builder.bitcast(builder.gep(x, [place]), whole.as_pointer())
            pixel = builder.load(address, align=4)
            builder.store(builder.add(builder.load(total), pixel), total)
        sums = builder.uitofp(builder.load(total), ir.VectorType(_FLOAT, 4))
        place = builder.gep(out, [builder.mul(loop.index, out_step)])
        builder.store(sums, builder.bitcast(place, sums.type.as_pointer()), align=4)

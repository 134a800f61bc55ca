"""The means to write functions of vector instructions; the functions themselves are in `llvm`.

They are written with LLVM's own vectors, so the same text becomes AVX-512, AVX2, SSE or NEON.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

import numba
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _host_features() -> str:
    try:
        return str(binding.get_host_cpu_features().flatten())
    except RuntimeError:  # LLVM does not know this processor's
        return ""


def _vector_registers() -> tuple[int, int]:
    """Return the number of floats in a vector register of this processor, and of registers."""
    features = set((numba.config.CPU_FEATURES or _host_features()).split(","))
    if "+avx512f" in features:
        return 16, 32
    if "+avx" in features:
        return 8, 16
    return 4, 32 if platform.machine().lower() in ("aarch64", "arm64") else 16


LANES, REGISTERS = _vector_registers()
FLOAT, INDEX = ir.FloatType(), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
_MASK = ir.IntType(32)
_FUSED = ("contract",)  # a product and a sum may become one instruction
# Types of the arguments of an `llvm_function`; INT is an index, a count or an address.
INT = types.int64
FLOAT_ARRAY, UINT_ARRAY, INT_ARRAY = (
    types.Array(kind, 1, "C") for kind in (types.float32, types.uint32, types.int64)
)


class Vector:
    """A vector register, with the arithmetic that a `winograd.Formula` needs."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value

    def _of(self, value: ir.Value) -> Vector:
        return Vector(self.builder, value)

    def __add__(self, other: Vector) -> Vector:
        return self._of(self.builder.fadd(self.value, other.value, flags=_FUSED))

    def __sub__(self, other: Vector) -> Vector:
        return self._of(self.builder.fsub(self.value, other.value, flags=_FUSED))

    def __mul__(self, other: Vector | float) -> Vector:
        factor = other.value if isinstance(other, Vector) else _constant(other)
        return self._of(self.builder.fmul(self.value, factor, flags=_FUSED))

    def maximum(self, other: Vector) -> Vector:
        above = self.builder.fcmp_ordered(">", self.value, other.value)
        return self._of(self.builder.select(above, self.value, other.value))

    def prelu(self, slope: Vector) -> Vector:
        above = self.builder.fcmp_ordered(">", self.value, _constant(0.0))
        return self._of(self.builder.select(above, self.value, (self * slope).value))

    def pairwise_sums(self, other: Vector, step: int) -> Vector:
        """Return sums of neighbouring blocks of `step` lanes, of this vector and then the other."""
        first = [i for i in range(2 * LANES) if not i & step]
        pairs = [[start + add for start in first] for add in (0, step)]
        low, high = (
            self.builder.shuffle_vector(
                self.value, other.value, ir.Constant(ir.VectorType(_MASK, LANES), lanes)
            )
            for lanes in pairs
        )
        return self._of(low) + self._of(high)


class Variable:
    """A variable of the function that is being written."""

    def __init__(self, builder: ir.IRBuilder, pointer: ir.Value) -> None:
        self.builder, self.pointer = builder, pointer

    def get(self) -> ir.Value:
        return self.builder.load(self.pointer)

    def set(self, value: ir.Value) -> None:
        self.builder.store(value, self.pointer)


class CodeBuilder:
    """The writer of a function's instructions."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def variable(self, kind: ir.Type) -> Variable:
        """Return a new variable; where it can, LLVM keeps it in a register."""
        return Variable(self.builder, cgutils.alloca_once(self.builder, kind))

    def offset(self, *terms: ir.Value | int | tuple[ir.Value, ir.Value | int]) -> ir.Value:
        """Return the sum of the terms; a pair of terms is their product."""
        total = ir.Constant(INDEX, 0)
        for term in terms:
            if isinstance(term, tuple):
                one, other = term
                other = ir.Constant(INDEX, other) if isinstance(other, int) else other
                term = self.builder.mul(one, other)
            elif isinstance(term, int):
                term = ir.Constant(INDEX, term)
            total = self.builder.add(total, term)
        return total

    def address(self, pointer: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
        """Return the address of an element of an array, to be read or written as another type."""
        return self.builder.bitcast(self.builder.gep(pointer, [index]), kind.as_pointer())

    def load(self, pointer: ir.Value, index: ir.Value) -> Vector:
        address = self.address(pointer, index, VECTOR)
        return Vector(self.builder, self.builder.load(address, align=4))

    def store(self, vector: Vector, pointer: ir.Value, index: ir.Value) -> None:
        self.builder.store(vector.value, self.address(pointer, index, VECTOR), align=4)

    def broadcast(self, pointer: ir.Value, index: ir.Value) -> Vector:
        """Return a vector with one float of an array in every lane."""
        one = self.builder.load(self.builder.gep(pointer, [index]), align=4)
        empty = ir.Constant(VECTOR, ir.Undefined)
        first = self.builder.insert_element(empty, one, ir.Constant(_MASK, 0))
        mask = ir.Constant(ir.VectorType(_MASK, LANES), [0] * LANES)
        return Vector(self.builder, self.builder.shuffle_vector(first, empty, mask))


def _constant(value: float) -> ir.Constant:
    return ir.Constant(VECTOR, [value] * LANES)


def llvm_function(*arguments: Any) -> Callable[[Callable[..., None]], Any]:
    """Make a Numba function of a Python function that writes its instructions.

    The Python function gets a `CodeBuilder` and the arguments, arrays as pointers. The result is
    compiled by itself: inlined wherever it is called, LLVM would take many times as long.

    Args:
        arguments: Numba types of the arguments.
    """

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
            write(CodeBuilder(inside), *function.args)
            inside.ret_void()
            builder.call(function, given)
            return context.get_dummy_value()

        def typed(_: Any, *given: Any) -> Any:
            return types.void(types.StarArgTuple(arguments)), call

        return intrinsic(typed)

    return of

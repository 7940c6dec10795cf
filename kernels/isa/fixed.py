"""Portable, and for cores without an FPU: requantization by integers of 32 and 64 bits, no float instruction.

A multiplier stays what it is, a float32; its mantissa and exponent are read as integers where it is used.
`reference.rounded_shift` says how it rounds.
"""

from collections.abc import Sequence

from edgec.kernels import tir
from edgec.kernels.isa import generic
from edgec.kernels.isa.base import Output
from edgec.kernels.tir import Expr, T


def requantize(
    accumulators: Sequence[Expr], multipliers: Sequence[Expr], bounds: Sequence[Expr], lanes: int
) -> Expr:
    """Requantize in fixed point; the multipliers are float32, of which the bits are read as integers."""
    narrowed = []
    for accumulator, multiplier in zip(accumulators, multipliers, strict=True):
        mantissa, shift = fixed_point(T.reinterpret(tir.vector("int32", lanes), multiplier), lanes)
        product = tir.cast(accumulator, "int64", lanes) * tir.cast(mantissa, "int64", lanes)
        narrowed.append(shift_and_clamp(product, shift, bounds, lanes))
    return tir.cast(tir.concatenate(narrowed, lanes), "int8", lanes * len(narrowed))


def fixed_point(bits: Expr, lanes: int) -> tuple[Expr, Expr]:
    """Return mantissa and shift of float32, given its bits: see `reference.fixed_point`."""
    mantissa = (bits & tir.constant(0x7FFFFF, "int32", lanes)) | tir.constant(0x800000, "int32", lanes)
    return mantissa, tir.constant(150, "int32", lanes) - (bits >> tir.constant(23, "int32", lanes))


def combine(kind: str, one: Expr, two: Expr, parameters: Sequence[Expr], lanes: int) -> Expr:
    """Combine as `generic.combine` does, in fixed point."""
    left, right = (
        tir.cast(value, "int32", lanes) - tir.broadcast(parameters[which], lanes)
        for which, value in enumerate((one, two))
    )
    (first, first_shift), (second, second_shift) = (fixed_point(bits, 1) for bits in parameters[2:4])
    bounds = parameters[4:7]

    def scaled(value: Expr, factor: Expr, shift: Expr) -> Expr:
        product = tir.cast(value, "int64", lanes) * tir.broadcast(T.cast(factor, "int64"), lanes)
        return tir.cast(shift_and_clamp(product, tir.broadcast(shift, lanes), bounds, lanes), "int8", lanes)

    zero = tir.constant(0, "int32", lanes)
    if kind in ("mul", "prelu"):
        factor = T.cast(first, "int64") * T.cast(second, "int64") >> T.int64(17)
        product = scaled(left * right, factor, first_shift + second_shift - 17)
        return product if kind == "mul" else T.Select(left < zero, product, scaled(left, first, first_shift))
    if kind == "div":
        value = shift_and_clamp(
            _quotient(left, right, first, lanes), tir.broadcast(first_shift, lanes), bounds, lanes
        )
        low, high, _ = (tir.broadcast(bound, lanes) for bound in bounds)
        value = T.Select(right == zero, T.Select(left > zero, high, low), value)
        return tir.cast(value, "int8", lanes)
    least = T.min(first_shift, second_shift)
    products = []
    for value, mantissa, shift in ((left, first, first_shift), (right, second, second_shift)):
        factor = (mantissa << 7) >> T.min(shift - least, 31)
        products.append(tir.cast(value, "int64", lanes) * tir.broadcast(T.cast(factor, "int64"), lanes))
    total = generic.COMBINED[kind](*products)
    result = shift_and_clamp(total, tir.broadcast(least + 7, lanes), bounds, lanes)
    return tir.cast(result, "int8", lanes)


def _quotient(left: Expr, right: Expr, mantissa: Expr, lanes: int) -> Expr:
    """Return left * mantissa / right as int64, cut to an integer by a division of 32 bits."""
    dividend = tir.cast(T.max(left, -left), "uint32", lanes) * tir.broadcast(
        T.cast(mantissa, "uint32"), lanes
    )
    divisor = tir.cast(T.max(T.max(right, -right), tir.constant(1, "int32", lanes)), "uint32", lanes)
    quotient = tir.cast(T.truncdiv(dividend, divisor), "int64", lanes)
    return T.Select((left ^ right) < tir.constant(0, "int32", lanes), -quotient, quotient)


def shift_and_clamp(product: Expr, shift: Expr, parameters: Sequence[Expr], lanes: int) -> Expr:
    """Return clamp(floor(product / 2**shift + 1/2) + zero_point, low, high) of int64 as int32.

    `parameters` are low, high, zero_point; see `reference.rounded_shift`.
    """
    low, high, zero_point = parameters
    bounded = T.max(T.min(shift, tir.constant(62, "int32", lanes)), tir.constant(1, "int32", lanes))
    # Half of it goes first, so that 1 added is the half that rounds.
    wide = tir.cast(bounded, "int64", lanes)
    one = tir.constant(1, "int64", lanes)
    value = ((product >> (wide - one)) + one) >> one
    limit = tir.constant(1 << 20, "int64", lanes)
    narrow = tir.cast(T.max(T.min(value, limit), tir.constant(-(1 << 20), "int64", lanes)), "int32", lanes)
    narrow = narrow + tir.broadcast(zero_point, lanes)
    return T.max(T.min(narrow, tir.broadcast(high, lanes)), tir.broadcast(low, lanes))


class Fixed(generic.Generic):
    """Portable, with requantization in fixed point."""

    name = "fixed"

    def requantize(self, accumulators: Sequence[Expr], multipliers: Sequence[Expr], output: Output) -> Expr:
        """Integers alone."""
        return requantize(accumulators, multipliers, output.bounds, self.lanes)

    def requantize_and_add(
        self,
        accumulators: Sequence[Expr],
        multipliers: Sequence[Expr],
        output: Output,
        other: Expr,
        addition: Sequence[Expr],
    ) -> Expr:
        """One after the other."""
        value = self.requantize(accumulators, multipliers, output)
        return combine("add", value, other, addition, self.lanes * len(accumulators))


class FixedDepthwise(generic.GenericDepthwise):
    """Portable, with requantization in fixed point."""

    name = "fixed"

    def requantize(self, accumulators: Sequence[Expr], multipliers: Sequence[Expr], output: Output) -> Expr:
        """Integers alone."""
        return requantize(accumulators, multipliers, output.bounds, self.lanes)

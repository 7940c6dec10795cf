"""What a convolution does with its sums before it stores them, and the parameters it reads for that."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgec.kernels.isa.base import Output
from edgec.kernels.operations import Conv2d
from edgec.kernels.pointwise import elementwise
from edgec.kernels.tir import Buffer, Expr, T

_LOW, _HIGH, _ZERO_POINT, _PADDING = range(4)


@dataclass(frozen=True)
class Epilogue:
    """What sets the code of one epilogue apart from another's; its numbers are parameters."""

    residual: bool
    saturating: bool
    """Nothing is clamped but by int8's own range."""
    bounded: bool
    """Every value to be rounded is known to lie within int32."""
    short: bool
    """Every value to be rounded is known to lie within int16, even."""
    unsigned: bool
    """The zero point of what is stored is int8's lowest value, as it is after a ReLU."""

    @property
    def parameters(self) -> int:
        """How many int32 it reads."""
        return 4 + elementwise.PARAMETERS * self.residual

    def output(self, parameters: Sequence[Expr] | Buffer) -> Output:
        """How sums become int8."""
        low, high = self._clamp(parameters[_LOW], parameters[_HIGH])
        zero_point = parameters[_ZERO_POINT] if self.residual else self._stored(parameters[_ZERO_POINT])
        return Output(low, high, zero_point, self.bounded, self.short)

    def addition(self, parameters: Sequence[Expr]) -> list[Expr]:
        """Parameters of the residual's addition, as `generic.combine` takes them."""
        *operands, low, high, zero_point = parameters[4:]
        return [*operands, *self._clamp(low, high), self._stored(zero_point)]

    def _clamp(self, low: Expr, high: Expr) -> tuple[Expr, Expr]:
        return (T.int32(-128), T.int32(127)) if self.saturating else (low, high)

    def _stored(self, zero_point: Expr) -> Expr:
        return T.int32(-128) if self.unsigned else zero_point


def epilogue(operation: Conv2d) -> Epilogue:
    """Return what follows the sums of a convolution."""
    stored = operation.residual or operation
    if operation.residual is not None:
        assert operation.residual.zero_points[0] == operation.output_zero_point, "one tensor, one zero point"
    return Epilogue(
        residual=operation.residual is not None,
        saturating=operation.saturating,
        bounded=operation.reach < 2.0**30,  # far from where float32 rounding matters
        short=operation.reach < 2.0**15 - 1,
        unsigned=stored.output_zero_point == -128,
    )


def parameters(operation: Conv2d, panel_offset: int) -> NDArray[np.int32]:
    """Return what the kernel reads at run time: low, high, zero point, padding, then the residual's."""
    padding = operation.input_zero_point + panel_offset
    own = np.array([operation.low, operation.high, operation.output_zero_point, padding], np.int32)
    if operation.residual is None:
        return own
    return np.concatenate([own, elementwise.parameters(operation.residual)])


def padding(parameters: Sequence[Expr] | Buffer) -> Expr:
    """Return what the image is padded with, in the panel's terms."""
    return parameters[_PADDING]

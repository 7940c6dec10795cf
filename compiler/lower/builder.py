"""What lowering writes to: tensors, operators and constants of the network under construction."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgec.compiler.graph import unique
from edgec.compiler.lower import view
from edgec.compiler.lower.view import View
from edgec.kernels.operators import Lookup, Operation, Operator, Quantization, Rearrange, Tensor

CODES = np.arange(-128, 128)
"""Every int8 value, in the order of a table."""


@dataclass(frozen=True, eq=False)
class Codes:
    """An int8 tensor that stands for real numbers, seen through a view."""

    tensor: str
    view: View
    real: NDArray[np.float64]
    """[256]: the number that each code stands for."""
    quantization: Quantization | None
    """None where a function was applied to the numbers, so that they are no longer evenly spaced."""


def affine(quantization: Quantization) -> NDArray[np.float64]:
    """The number that each code of a quantization stands for."""
    return (CODES - quantization.zero_point) * np.float64(quantization.scale)


def quantized(real: NDArray[np.float64], quantization: Quantization) -> NDArray[np.int8]:
    """clamp(rne(real / scale) + zero_point), in float64."""
    codes = np.rint(real / np.float64(quantization.scale)) + quantization.zero_point
    return np.clip(codes, -128, 127).astype(np.int8)


@dataclass
class Builder:
    """Collects a network; every method returns the name of the tensor that it made."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)

    def declare(
        self, name: str, shape: tuple[int, ...], dtype: str, quantization: Quantization | None = None
    ) -> str:
        """Add a tensor, renamed where the name is taken."""
        name = unique(name, self.tensors)
        self.tensors[name] = Tensor(name, shape, dtype, quantization)
        return name

    def emit(
        self,
        name: str,
        operation: Operation,
        inputs: tuple[str, ...],
        shape: tuple[int, ...],
        quantization: Quantization | None,
        tensor: str | None = None,
        dtype: str = "int8",
    ) -> str:
        """Add an operator with one new output."""
        output = self.declare(tensor or name, shape, dtype, quantization)
        taken = {operator.name for operator in self.operators}
        self.operators.append(Operator(unique(name, taken), operation, inputs, (output,)))
        return output

    def constant(self, name: str, array: NDArray[np.generic], quantization: Quantization | None = None) -> str:
        """Add a tensor of known value."""
        name = self.declare(name, array.shape, array.dtype.name, quantization)
        self.constants[name] = array
        return name

    def copy(self, name: str, tensor: str, source: View, wanted: View) -> str:
        """Return a tensor that holds the view's elements in the order of `wanted`; the same one if it does."""
        declared = self.tensors[tensor]
        size = int(np.prod(declared.shape, dtype=np.int64))
        if view.same(source, wanted) and size == source.size:
            return tensor
        order = view.dense_order(wanted)
        assert order is not None, "copies are dense"
        shape = tuple(source.shape[axis] for axis in order)
        strides = tuple(source.strides[axis] for axis in order)
        operation = Rearrange(shape, strides, source.offset, declared.dtype, size)
        return self.emit(name, operation, (tensor,), shape, declared.quantization, dtype=declared.dtype)

    def dense(self, codes: Codes, name: str) -> Codes:
        """Codes whose view covers their whole tensor, in any order of dimensions."""
        size = int(np.prod(self.tensors[codes.tensor].shape, dtype=np.int64))
        if size == codes.view.size and view.dense_order(codes.view) is not None:
            return codes
        return self.natural(codes, name)

    def natural(self, codes: Codes, name: str) -> Codes:
        """Codes in the order that kernels want."""
        return self.arranged(codes, view.natural(codes.view.shape), name)

    def arranged(self, codes: Codes, wanted: View, name: str) -> Codes:
        """Codes in the order of a dense view."""
        tensor = self.copy(f"{name}_layout", codes.tensor, codes.view, wanted)
        return Codes(tensor, wanted, codes.real, codes.quantization)

    def requantize(self, codes: Codes, quantization: Quantization, name: str) -> Codes:
        """Codes under a quantization; a table of 256 bytes where that changes any."""
        table = quantized(codes.real, quantization)
        if np.array_equal(table, CODES):
            return Codes(codes.tensor, codes.view, affine(quantization), quantization)
        codes = self.dense(codes, name)
        shape = self.tensors[codes.tensor].shape
        output = self.emit(name, Lookup(codes.view.size, table), (codes.tensor,), shape, quantization)
        return Codes(output, codes.view, affine(quantization), quantization)

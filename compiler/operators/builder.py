"""What lowering writes to: tensors, operators and constants of the network under construction."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.arrays import Array
from edgec.compiler.graph import unique
from edgec.compiler.operators import view
from edgec.compiler.operators.view import View
from edgec.kernels import reference
from edgec.kernels.operations import Lookup, Network, Operation, Operator, Quantization, Rearrange, Tensor

CODES = np.arange(-128, 128)
"""Every int8 value, in the order of a table."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A tensor seen through a view."""

    tensor: str
    view: View

    def seen(self, other: View) -> Self:
        """Return the same buffer seen through another view."""
        return replace(self, view=other)


@dataclass(frozen=True, eq=False)
class Codes(Seen):
    """An int8 tensor that stands for real numbers."""

    real: NDArray[np.float64]
    """[256]: the number that each code stands for."""
    quantization: Quantization | None
    """None where a function was applied to the numbers, so that they are no longer evenly spaced."""


S = TypeVar("S", bound=Seen)


def affine(quantization: Quantization) -> NDArray[np.float64]:
    """Return the number that each code stands for, rounded to float32 as DequantizeLinear does."""
    centred = (quantization.codes - quantization.zero_point).astype(np.float32)
    with np.errstate(over="ignore"):  # of a mask, whose lowest code is as much as minus infinity
        return (centred * np.float32(quantization.scale)).astype(np.float64)


def quantized(real: NDArray[np.float64], quantization: Quantization) -> Array:
    """Return clamp(rne(real / scale) + zero_point), in float32 as QuantizeLinear does.

    NaN is no number's code; it gets the lowest, as ONNX Runtime makes it, too.
    """
    with np.errstate(over="ignore"):
        centred = np.rint(real.astype(np.float32) / np.float32(quantization.scale)).astype(np.float64)
    lowest, highest = quantization.lowest, quantization.highest
    codes = np.clip(np.nan_to_num(centred + quantization.zero_point, nan=lowest), lowest, highest)
    return np.asarray(codes, quantization.dtype)


@dataclass
class Builder:
    """Collects a network."""

    reserved: frozenset[str] = frozenset()
    """Names that no tensor gets: the model's outputs take them in the end."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    operators: dict[str, Operator] = field(default_factory=dict)
    """By name, in execution order."""
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    _copies: dict[tuple[str, View, View], str] = field(default_factory=dict)
    """By tensor, the view of it that was copied, and how the copy lies: every reader shares one."""

    def declare(
        self, name: str, shape: tuple[int, ...], dtype: str, quantization: Quantization | None = None
    ) -> str:
        """Add a tensor, renamed where the name is taken; returns its name."""
        name = unique(name, self.tensors.keys() | self.reserved)
        self.tensors[name] = Tensor(name, shape, dtype, quantization)
        return name

    def constant(
        self, name: str, array: NDArray[np.generic], quantization: Quantization | None = None
    ) -> str:
        """Add a tensor of known value; returns its name."""
        name = self.declare(name, array.shape, array.dtype.name, quantization)
        self.constants[name] = np.ascontiguousarray(array).reshape(array.shape)
        return name

    def append(
        self, name: str, operation: Operation, inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> None:
        """Add an operator, renamed where the name is taken."""
        name = unique(name, self.operators)
        self.operators[name] = Operator(name, operation, inputs, outputs)

    def emit(
        self,
        name: str,
        operation: Operation,
        inputs: tuple[str, ...],
        shape: tuple[int, ...],
        quantization: Quantization | None,
        tensor: str | None = None,
        dtype: str | None = None,
    ) -> str:
        """Add an operator with one new output, or a constant where all its inputs are; returns the tensor.

        Without a `dtype` it is of codes of the quantization.
        """
        if all(source in self.constants for source in inputs):
            arrays = [self.constants[source] for source in inputs]
            value = reference.SEMANTICS[type(operation)](operation, *arrays)
            return self.constant(tensor or name, value.reshape(shape), quantization)
        if dtype is None:
            assert quantization is not None, "codes are of some quantization"
            dtype = quantization.dtype
        output = self.declare(tensor or name, shape, dtype, quantization)
        self.append(name, operation, inputs, (output,))
        return output

    def dense(self, value: S, name: str) -> S:
        """Return the tensor under a view that covers all of it, in any order of dimensions."""
        whole = self._size(value.tensor) == value.view.size
        return value if whole and view.dense_order(value.view) is not None else self.natural(value, name)

    def natural(self, value: S, name: str) -> S:
        """Return it in the order that kernels want."""
        return self.arranged(value, view.natural(value.view.shape), name)

    def row_major(self, value: S, name: str) -> S:
        """Return it in ONNX's own order."""
        return self.arranged(value, view.row_major(value.view.shape), name)

    def arranged(self, value: S, wanted: View, name: str) -> S:
        """Return it in the order of a dense view that covers its whole tensor."""
        source, size = value.view, self._size(value.tensor)
        if view.same(source, wanted) and size == source.size:
            return value
        key = value.tensor, source, wanted
        if key not in self._copies:
            order = view.dense_order(wanted)
            assert order is not None, "copies are dense"
            shape = tuple(source.shape[axis] for axis in order)
            strides = tuple(source.strides[axis] for axis in order)
            operation = Rearrange(shape, strides, source.offset, self.tensors[value.tensor].dtype, size)
            tensor = self.tensors[value.tensor]
            self._copies[key] = self.emit(
                f"{name}_layout", operation, (value.tensor,), shape, tensor.quantization, None, tensor.dtype
            )
        return replace(value, tensor=self._copies[key], view=wanted)

    def reshape(self, value: S, shape: tuple[int, ...], name: str) -> S:
        """Return the same elements, in row-major order, under another shape: a copy if no strides say that.

        A copy lies as kernels want the new shape, where strides of the old one can say that in turn.
        """
        seen = view.reshape(value.view, shape)
        if seen is None:
            old = value.view.shape
            wanted = view.reshape(view.natural(shape), old) or view.row_major(old)
            value = self.arranged(value, wanted, name)
            seen = view.reshape(value.view, shape)
            assert seen is not None, "the copy is in the order of the new shape"
        return value.seen(seen)

    def requantize(self, codes: Codes, quantization: Quantization, name: str) -> Codes:
        """Return codes under a quantization; a table of them where that changes any."""
        return self.mapped(codes, quantized(codes.real, quantization), quantization, name)

    def mapped(self, codes: Codes, table: Array, quantization: Quantization, name: str) -> Codes:
        """Return the codes table[code - lowest], which have the given quantization."""
        if not np.array_equal(table, quantization.codes):
            codes = self.dense(codes, name)
            shape = self.tensors[codes.tensor].shape
            operation = Lookup(codes.view.size, table)
            tensor = self.emit(name, operation, (codes.tensor,), shape, quantization)
            codes = replace(codes, tensor=tensor)
        return replace(codes, real=affine(quantization), quantization=quantization)

    def network(self, inputs: tuple[str, ...], outputs: dict[str, str]) -> Network:
        """Return what was built and is read by anybody; `outputs` maps tensors to the model's names."""
        needed, kept = set(outputs), []
        for operator in reversed(self.operators.values()):
            if needed.intersection(operator.outputs):
                needed.update(operator.inputs, operator.outputs)
                kept.append(operator)
        names = dict(outputs)
        for tensor in needed.union(inputs) - outputs.keys():
            names[tensor] = tensor
        return Network(
            tuple(
                replace(
                    operator,
                    inputs=tuple(names[tensor] for tensor in operator.inputs),
                    outputs=tuple(names[tensor] for tensor in operator.outputs),
                )
                for operator in reversed(kept)
            ),
            {
                names[name]: replace(tensor, name=names[name])
                for name, tensor in self.tensors.items()
                if name in names
            },
            inputs,
            tuple(outputs.values()),
            {name: array for name, array in self.constants.items() if name in names},
        )

    def own(self, tensor: str, name: str, shape: tuple[int, ...], others: Iterable[str]) -> str:
        """Return an output's own tensor: a copy where it is an input, a constant or one of `others`."""
        produced = {output for operator in self.operators.values() for output in operator.outputs}
        source, size = self.tensors[tensor], self._size(tensor)
        if tensor in produced.difference(others):
            self.tensors[tensor] = replace(source, shape=shape)
            return tensor
        copy = self.declare(f"{name}_copy", shape, source.dtype)
        if name in self.tensors:  # the input's: the model hands it on
            self.tensors[copy] = replace(self.tensors[copy], title=name)
        self.append(copy, Rearrange((size,), (1,), 0, source.dtype, size), (tensor,), (copy,))
        return copy

    def _size(self, tensor: str) -> int:
        return int(np.prod(self.tensors[tensor].shape, dtype=np.int64))


def builder_of(graph: onnx_ir.Graph) -> Builder:
    """Return one for the network of a graph, whose outputs keep their names."""
    outputs = (value for value in graph.outputs if not value.is_graph_input())
    return Builder(reserved=frozenset(str(value.name) for value in outputs))

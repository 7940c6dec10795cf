"""What a lowering of one operator is given, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir

from edgec.compiler.graph import shape_of
from edgec.compiler.operators import view
from edgec.compiler.operators.builder import Builder, Codes, affine
from edgec.compiler.operators.view import View
from edgec.kernels.operations import Operation, Quantization


@dataclass(frozen=True)
class LayerNode:
    """A node that is lowered as a layer."""

    node: onnx_ir.Node

    @property
    def name(self) -> str:
        """The layer's name."""
        return str(self.node.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result, in ONNX's order."""
        shape = shape_of(self.node.outputs[0])
        assert shape is not None, "check() leaves static shapes only"
        return shape


@dataclass(frozen=True)
class Request(LayerNode):
    """One layer to lower: a node, its int8 inputs, and how its result is quantized and clamped."""

    inputs: tuple[Codes, ...]
    output: Quantization
    low: int
    high: int

    @property
    def sources(self) -> tuple[Quantization, ...]:
        """Quantization of every input."""
        return tuple(codes.quantization for codes in self.inputs if codes.quantization is not None)


@dataclass(frozen=True)
class Layer:
    """How one ONNX operator is lowered."""

    lower: Callable[[Builder, Request], Codes]
    accepts: Callable[[onnx_ir.Node, tuple[Quantization, ...]], str | None] = lambda node, sources: None
    """Return why this node, with inputs quantized so, has no integer form; None if it has one."""
    inputs: Callable[[onnx_ir.Node], tuple[int, ...]] = lambda node: (0,)
    """Which inputs are int8 tensors."""
    clamps: bool = True
    """Whether the operation itself clamps to `low` and `high`; if not, a table behind it does."""


def every_input(node: onnx_ir.Node) -> tuple[int, ...]:
    """All inputs are int8 tensors."""
    return tuple(range(len(node.inputs)))


def emit(
    builder: Builder, request: Request, operation: Operation, tensors: tuple[str, ...], seen: View
) -> Codes:
    """Emit an operation whose result lies dense, as `seen` says, and return its codes."""
    order = view.dense_order(seen)
    assert order is not None, "results are dense"
    shape = tuple(seen.shape[axis] for axis in order)
    name = str(request.node.outputs[0].name)
    tensor = builder.emit(request.name, operation, tensors, shape, request.output, tensor=name)
    return Codes(tensor, seen, affine(request.output), request.output)

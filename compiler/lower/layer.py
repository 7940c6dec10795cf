"""What a lowering of one operator is given, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir

from edgec.compiler.lower import view
from edgec.compiler.lower.builder import Builder, Codes, affine
from edgec.compiler.lower.view import View
from edgec.kernels.operators import Operation, Quantization


@dataclass(frozen=True)
class Request:
    """One layer to lower: a node, its int8 inputs, and how its result is quantized and clamped."""

    node: onnx_ir.Node
    inputs: tuple[Codes, ...]
    output: Quantization
    low: int
    high: int

    @property
    def name(self) -> str:
        """The layer's name."""
        return str(self.node.name)

    @property
    def source(self) -> Quantization:
        """Quantization of the first input."""
        quantization = self.inputs[0].quantization
        assert quantization is not None, "layers take evenly spaced codes only"
        return quantization


@dataclass(frozen=True)
class Layer:
    """How one ONNX operator is lowered."""

    lower: Callable[[Builder, Request], Codes]
    accepts: Callable[[onnx_ir.Node], str | None] = lambda node: None
    """Return why this node has no integer form, or None if it has one."""
    activations: Callable[[onnx_ir.Node], tuple[int, ...]] = lambda node: (0,)
    """Which inputs are int8 tensors."""


def result(request: Request, tensor: str, seen: View) -> Codes:
    """Return the codes of a layer's result, which lies in `tensor` as `seen` says."""
    return Codes(tensor, seen, affine(request.output), request.output)


def emit(builder: Builder, request: Request, operation: Operation, tensor: str, seen: View) -> Codes:
    """Emit an operation whose result lies dense, as `seen` says."""
    order = view.dense_order(seen)
    assert order is not None, "results are dense"
    shape = tuple(seen.shape[axis] for axis in order)
    name = str(request.node.outputs[0].name)
    output = builder.emit(request.name, operation, (tensor,), shape, request.output, tensor=name)
    return result(request, output, seen)

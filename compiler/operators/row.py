"""What one ONNX operator is to edgec, and what its lowerings are given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.compiler.graph import shape_of
from edgec.compiler.operators import view
from edgec.compiler.operators.builder import Builder, Codes, Seen, affine
from edgec.compiler.operators.view import View
from edgec.kernels.operations import Operation, Quantization

Real = NDArray[np.float64]

Operand = tuple[onnx_ir.Node, int]
"""A node and which of its inputs."""

Role = Literal["product", "bilinear", "binary", "reduction", "recurrent", "movement", "concat", "unary"]
"""What an operator does with scales.

product    activations by constant weights, with a bias
bilinear   two activations multiplied with one another and summed: its result has a scale of its own
binary     two tensors of any scales, one of them perhaps constant
reduction  a mean: its result has a scale of its own
recurrent  steps of products by constant weights, whose results the next step reads, too
movement   every element of the result is an element of the input: scale and zero point are shared
concat     movement of several inputs, which may each have their own scale
unary      a function of one element or, softmax, one row
"""


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
        """Shape of the result, in ONNX's order."""
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
class FloatRequest(LayerNode):
    """One layer to lower: a node, its float32 inputs, and the limits that its result is clipped to."""

    inputs: tuple[Seen, ...]
    low: float
    high: float


@dataclass(frozen=True)
class IntegerForm:
    """How an operator is computed in integers."""

    lower: Callable[[Builder, Request], Codes]
    refuses: Callable[[onnx_ir.Node, tuple[Quantization, ...]], str | None] = lambda node, sources: None
    """Return why a node that its row doesn't refuse has no integer form where its inputs are quantized so."""
    clamps: bool = True
    """Whether the operation itself clamps to `low` and `high`; if not, a table behind it does."""
    keeps_scale: bool = False
    """Whether its results are elements of its input, so that no QuantizeLinear has to follow."""


@dataclass(frozen=True)
class FloatForm:
    """How an operator is computed by a float kernel."""

    lower: Callable[[Builder, FloatRequest], Seen]
    clips: bool = True
    """Whether the operation itself clips to `low` and `high`."""


@dataclass(frozen=True)
class OnnxOperator:
    """All that edgec knows of an operator; what has neither form, move nor function is left to islands."""

    role: Role
    refuses: Callable[[onnx_ir.Node], str | None] = lambda node: None
    """Return why nothing here computes this node, from its attributes, shapes and constants; None if it does.

    The quantizer asks it of float nodes, the lowering of quantized ones: the answer is the same.
    """
    inputs: Callable[[onnx_ir.Node], tuple[Operand, ...]] = lambda node: ((node, 0),)
    """Which inputs are data, no weights, shapes or limits: its own, or of nodes that it is one with."""
    integer: IntegerForm | None = None
    floating: FloatForm | None = None
    move: Callable[[Builder, onnx_ir.Node, Any], list[Any]] | None = None
    """Return its outputs as views of its input: it only moves elements."""
    function: Callable[[onnx_ir.Node, Real], Any] | None = None
    """What it computes of every element, in float64."""
    of_two: Callable[[Real, Real], Any] | None = None
    """What it computes of two elements: a function of one, where the other is a single constant."""
    clamps: bool = False
    """Whether it only limits numbers, so that the operation in front of it can."""
    quantized: bool = True
    """Whether edgec chooses scales for it; if not, it runs in int8 in models that come quantized."""
    output: Quantization | None = None
    """Scale and zero point of a result whose range is known beforehand."""
    output_narrows: bool = False
    """Whether that range is the widest, and samples that show less than half of it choose a narrower one."""
    limits: str = ""
    """What of it has an integer form, for the documentation; empty where that is all."""


def every_input(node: onnx_ir.Node) -> tuple[Operand, ...]:
    """All inputs are data."""
    return tuple((node, index) for index in range(len(node.inputs)))


def emit(
    builder: Builder, request: Request, operation: Operation, tensors: tuple[str, ...], seen: View
) -> Codes:
    """Emit an operation whose result lies dense, as `seen` says, and return its codes."""
    tensor = _emitted(builder, request, operation, tensors, seen, request.output, "int8")
    return Codes(tensor, seen, affine(request.output), request.output)


def emit_float(
    builder: Builder, request: FloatRequest, operation: Operation, tensors: tuple[str, ...], seen: View
) -> Seen:
    """Emit a float operation whose result lies dense, as `seen` says."""
    return Seen(_emitted(builder, request, operation, tensors, seen, None, "float32"), seen)


def _emitted(
    builder: Builder,
    request: LayerNode,
    operation: Operation,
    tensors: tuple[str, ...],
    seen: View,
    quantization: Quantization | None,
    dtype: str,
) -> str:
    order = view.dense_order(seen)
    assert order is not None, "results are dense"
    shape = tuple(seen.shape[axis] for axis in order)
    name = str(request.node.outputs[0].name)
    return builder.emit(request.name, operation, tensors, shape, quantization, name, dtype)

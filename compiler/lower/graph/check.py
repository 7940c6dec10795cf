"""What can't be compiled, all of it, before any work is done on the rest."""

import math
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir

from edgec.compiler.graph import attribute, constant, shape_of
from edgec.compiler.lower.islands import refusals
from edgec.compiler.lower.islands.inline_functions import FUNCTIONS
from edgec.compiler.model import Model, serialize
from edgec.compiler.names import C_TYPES
from edgec.compiler.operators.nodes import moves, operand, row_of
from edgec.compiler.operators.scales import INT8, parameters
from edgec.errors import UnsupportedError
from edgec.targets.descriptor import Target

_QDQ = ("QuantizeLinear", "DequantizeLinear")
_INTEGER_OPERATORS = (
    "ConvInteger",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
)
_SUBGRAPHS = (onnx_ir.AttributeType.GRAPH, onnx_ir.AttributeType.GRAPHS)


_MOST_LISTED = 12
"""Nodes that one message names; of a large model all nodes may be of a kind."""

_MOST_BYTES = 1 << 31
"""The most that one value may take: offsets in an arena have 32 bits."""


def check(model: Model, target: Target) -> None:
    """Refuse a model that has nodes which no stage can compile.

    What passes has static shapes and known types everywhere; whether a float operator is compiled as ONNX
    defines it shows when its island is lowered. Raises UnsupportedError that lists inputs and nodes, with
    their operators and the reasons.
    """
    graph = model.ir.graph
    of_inputs = {value: fault for value in graph.inputs if (fault := _storage(value))}
    faults = [f"input '{value.name}' {fault}" for value, fault in of_inputs.items()]
    constants = [value for value in graph.outputs if value.producer() is None]
    faults += [f"output '{value.name}' {fault}" for value in constants if (fault := _result_of(value))]
    refused = {node: reason for node in graph if (reason := _reason(node, target))}
    if not refused and not faults:
        return
    if refused and not faults:
        refused = _refused_alone(model, target) | refused
    for node in graph:
        if node in refused and refused[node].removeprefix("its result ") not in of_inputs.values():
            faults.append(f"node '{node.name}' ({node.op_type}) can't be compiled: {refused[node]}")
    if len(faults) > _MOST_LISTED:
        faults[_MOST_LISTED:] = [f"and {len(faults) - _MOST_LISTED} more"]
    raise UnsupportedError("; ".join(faults))


def _storage(value: onnx_ir.Value) -> str | None:
    """Return why a value of known shape can't lie in memory, None where it can."""
    if not isinstance(value.type, onnx_ir.TensorType) or value.dtype is None:
        return "is no tensor, and edgec compiles models of tensors"
    if value.dtype == onnx_ir.DataType.STRING or value.dtype.numpy().name not in C_TYPES:
        return f"is of type {value.dtype.name.lower()}, which edgec doesn't compute with"
    shape = shape_of(value)
    size = math.prod(shape or ()) * value.dtype.numpy().itemsize
    return f"takes {size / 2**30:.1f} GiB, and 2 are the most" if size >= _MOST_BYTES else None


def _reason(node: onnx_ir.Node, target: Target) -> str | None:
    """Return why no stage can compile a node, as far as the node itself shows it."""
    found = (rule(node) for rule in _RULES if rule is not _integers or target.precision == "int8")
    return next((reason for reason in found if reason), None) or _converter(node, target)


def _domain(node: onnx_ir.Node) -> str | None:
    return f"the operator set '{node.domain}' is unknown" if node.domain else None


def _control_flow(node: onnx_ir.Node) -> str | None:
    subgraphs = any(attribute.type in _SUBGRAPHS for attribute in node.attributes.values())
    return "control flow isn't supported" if subgraphs else None


def _integers(node: onnx_ir.Node) -> str | None:
    if node.op_type in _INTEGER_OPERATORS:
        return "its scales and zero points are known only when it runs: quantize the model statically"
    if moves(node) or not any(value.dtype in INT8 for value in node.outputs):
        return None
    if node.op_type != "QuantizeLinear":
        return "only QuantizeLinear may compute 8-bit integers"
    codes = node.outputs[0]
    only_dequantized = all(
        use.node.op_type == "DequantizeLinear" and parameters(use.node) is None for use in codes.uses()
    )
    if parameters(node) is None and (codes.is_graph_output() or not only_dequantized):
        return "8-bit integers of several scales can only be dequantized, by as many"
    return None


def _scale(node: onnx_ir.Node) -> str | None:
    scale = constant(node.inputs[1]) if node.op_type in _QDQ else None
    if scale is None:
        return None
    if not np.all(np.isfinite(scale.astype(np.float64)) & (scale > 0)):
        return "its scale isn't positive"
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    if shape is None or scale.ndim != 1 or scale.size == 1:
        return None
    axis = attribute(node, "axis", 1)
    fits = -len(shape) <= axis < len(shape) and shape[axis] == scale.size
    return None if fits else f"it has {scale.size} scales for axis {axis} of {list(shape)}"


def _recurrent(node: onnx_ir.Node) -> str | None:
    """Return why nothing computes a recurrent layer: there is no island for it."""
    row = row_of(node)
    return row.refuses(node) if row is not None and row.role == "recurrent" else None


def _result(node: onnx_ir.Node) -> str | None:
    if not _known(*(value for value in node.inputs if value is not None)):
        return None  # the fault is further up
    for value in (output for output in node.outputs if output.name):
        shape = shape_of(value)
        if shape is None and isinstance(value.type, onnx_ir.TensorType):
            return _open_shape(node)
        fault = _result_of(value)
        if fault and (value.uses() or value.is_graph_output() or len(node.outputs) == 1):
            return f"its result {fault}"
    return None


def _result_of(value: onnx_ir.Value) -> str | None:
    """Return why a value of known shape can't be computed, None where it can."""
    return _storage(value) or ("has no elements" if 0 in (shape_of(value) or ()) else None)


def _open_shape(node: onnx_ir.Node) -> str:
    """Return why the shape of a node's result isn't known when the model is built."""
    constants = {str(value.name) for value in node.inputs if value and constant(value) is not None}
    names = ["" if value is None else str(value.name) for value in node.inputs]
    settings = refusals.variable_settings(node.op_type, names, constants)
    unknown = "the shape of its result depends on values that are known only when it runs"
    return refusals.variable(settings) or unknown


_RULES: tuple[Callable[[onnx_ir.Node], str | None], ...] = (
    _domain,
    _control_flow,
    _integers,
    _scale,
    _result,
    _recurrent,
)
"""Each returns why a node can't be compiled, or None where it has nothing against it."""


def _converter(node: onnx_ir.Node, target: Target) -> str | None:
    from edgec.compiler.lower.islands.relax_import import converts

    known = _has_integer_form(node, target) or node.op_type in FUNCTIONS or converts(node.op_type)
    return None if known else refusals.NO_KERNEL


def _refused_alone(model: Model, target: Target) -> dict[onnx_ir.Node, str]:
    """Return the float nodes that fail when each is tried alone."""
    from edgec.compiler.lower.islands.trial import faults

    proto = onnx.load_from_string(serialize(model))
    reasons = {name: reason for name, _, reason in faults(proto)}
    return {
        node: reasons[str(node.name)]
        for node in model.ir.graph
        if str(node.name) in reasons
        and not _has_integer_form(node, target)
        and _known(*(value for value in (*node.inputs, *node.outputs) if value is not None and value.name))
    }


def _has_integer_form(node: onnx_ir.Node, target: Target) -> bool:
    if target.precision != "int8" or node.domain:
        return False
    row = row_of(node)
    listed = row is not None and (row.integer is not None or row.move is not None)
    return listed or node.op_type in _QDQ or operand(node) is not None


def _known(*values: onnx_ir.Value) -> bool:
    """Whether the shapes and types of all values are known."""
    return all(shape_of(value) is not None and value.dtype is not None for value in values)

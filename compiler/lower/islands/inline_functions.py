"""Operators that ONNX defines by others, written out as ONNX does."""

from collections.abc import Iterable
from typing import Any

import onnx
import onnx_ir

from edgec.compiler.frontend.fold.fold_constants import fold_constants
from edgec.compiler.frontend.infer_shapes import infer_shapes
from edgec.compiler.lower.islands import unroll_recurrent

FUNCTIONS = frozenset(
    {
        "AffineGrid",
        "Attention",
        "BlackmanWindow",
        "CausalConvWithState",
        "Celu",
        "CenterCropPad",
        "GRU",
        "HammingWindow",
        "HannWindow",
        "LSTM",
        "LinearAttention",
        "MeanVarianceNormalization",
        "NegativeLogLikelihoodLoss",
        "RMSNormalization",
        "RNN",
        "RotaryEmbedding",
        "SoftmaxCrossEntropyLoss",
        "SwiGLU",
        "Swish",
    }
)
"""Those that nothing else here computes, or computes less well."""


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of static shapes with the operators of `FUNCTIONS` as the nodes that define them.

    y = Swish(x) --> y = Mul(x, Sigmoid(Mul(x, alpha)))

    What a definition computes from shapes alone is folded. A node whose definition ONNX has for other
    versions of its operators only stays as it is.
    """
    while any(map(_is_function, model.graph.node)):
        written_out = _written_out(onnx.shape_inference.infer_shapes(model, data_prop=True))
        if written_out is None:
            break
        graph = onnx_ir.from_proto(written_out)
        for normalize in (infer_shapes, fold_constants, infer_shapes):
            graph = normalize(graph)
        model = onnx_ir.to_proto(graph)
    return model


def _is_function(node: onnx.NodeProto) -> bool:
    return not node.domain and node.op_type in FUNCTIONS


def _written_out(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return the model with the definitions of such nodes in their place; None where there are none."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    graph = model.graph
    types = {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}
    for tensor in graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
    nodes: list[onnx.NodeProto] = []
    definitions = [_definition(node, opset, types) if _is_function(node) else None for node in graph.node]
    if not any(definitions):
        return None
    for number, (node, definition) in enumerate(zip(graph.node, definitions, strict=True)):
        nodes.extend([node] if definition is None else _expanded(node, definition, opset, f"{number}."))
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _definition(
    node: onnx.NodeProto, opset: int, types: dict[str, onnx.TypeProto]
) -> onnx.FunctionProto | None:
    """Return ONNX's definition of a node for its opset, or one of edgec's; None where there is none."""
    if node.op_type in unroll_recurrent.OPERATORS:
        return unroll_recurrent.unrolled(node, types)
    schema: Any = onnx.defs.get_schema(node.op_type, opset, "")  # what it has is missing from onnx's stubs
    of_types = [types.get(name, onnx.TypeProto()).SerializeToString() for name in node.input]
    for version in reversed([v for v in schema.all_function_opset_versions if v <= opset]):
        if version in schema.function_opset_versions:
            serialized = schema.get_function_with_opset_version(version)
        else:
            serialized = schema.get_context_dependent_function_with_opset_version(
                version, node.SerializeToString(), of_types
            )
        definition = onnx.FunctionProto()
        definition.ParseFromString(serialized)
        if all(_still_means(inner, version, opset) for inner in definition.node):
            return definition
    return None


def _still_means(node: onnx.NodeProto, version: int, opset: int) -> bool:
    """Whether a node of one opset means the same in a later one: versions may add, but not take away."""
    before, after = (onnx.defs.get_schema(node.op_type, at, "") for at in (version, opset))
    return before.min_input == after.min_input and before.attributes.keys() <= after.attributes.keys()


def _expanded(
    node: onnx.NodeProto, definition: onnx.FunctionProto, opset: int, prefix: str
) -> list[onnx.NodeProto]:
    """Return the nodes of a definition between the inputs and outputs of a node; its names get a prefix."""
    names = dict.fromkeys(definition.input, "") | dict(zip(definition.input, node.input, strict=False))
    names |= {inner: outer for inner, outer in zip(definition.output, node.output, strict=False) if outer}
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    attributes = {name: entry.default_value for name, entry in schema.attributes.items()}
    attributes = {name: value for name, value in attributes.items() if value.type}
    attributes |= {attribute.name: attribute for attribute in node.attribute}

    def renamed(name: str) -> str:
        return names.get(name, prefix + name) if name else ""

    def rename(nodes: Iterable[onnx.NodeProto]) -> None:
        for inner in nodes:
            inner.name = f"{node.name}.{inner.op_type}"
            inner.input[:], inner.output[:] = map(renamed, inner.input), map(renamed, inner.output)
            given = [_resolved(attribute, attributes) for attribute in inner.attribute]
            del inner.attribute[:]
            inner.attribute.extend(attribute for attribute in given if attribute is not None)
            for graph in (attribute.g for attribute in inner.attribute if attribute.HasField("g")):
                for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
                    value.name = renamed(value.name)
                rename(graph.node)

    rename(definition.node)
    return list(definition.node)


def _resolved(
    attribute: onnx.AttributeProto, given: dict[str, onnx.AttributeProto]
) -> onnx.AttributeProto | None:
    """Return an attribute of a definition, which may stand for one of the node's; None: that has none."""
    if not attribute.ref_attr_name:
        return attribute
    if attribute.ref_attr_name not in given:
        return None
    copy = onnx.AttributeProto()
    copy.CopyFrom(given[attribute.ref_attr_name])
    copy.name = attribute.name
    return copy

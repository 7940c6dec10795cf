"""Give activations that are quantized channel by channel one scale, and the layers around them the rest."""

import numpy as np
import onnx_ir

from edgec.arrays import Array
from edgec.compiler.graph import add_initializer, add_node, attribute, constant, only_consumer, shape_of
from edgec.compiler.operators.product_form import scaled_weights

_HOMOGENEOUS = ("Relu", "LeakyRelu")
"""Functions with f(r * x) = r * f(x) for any positive r."""

_PRODUCTS = ("Conv", "Gemm", "MatMul", "Mul", "Add")
"""What a factor per channel can be folded into, or wait behind until it is."""


def one_scale(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with one scale where a depthwise convolution's input has one per channel.

    Conv(x, w) -> Relu -> Q(s[c]) -> DQ(s[c]) -> Conv(., v), depthwise
      --> Mul(Conv(x, w), S / s[c]) -> Relu -> Q(S) -> DQ(S) -> Conv(., v * s[c] / S)

    with S the largest scale: the codes stay the same. NNCF quantizes depthwise convolutions so; fold_affine
    takes the factors on. Where zero points differ, or something else reads the input, all stays as it is.
    """
    model = model.clone()
    for node in list(model.graph):
        if node.op_type == "Conv" and not node.domain and attribute(node, "group", 1) > 1:
            _unify(node)
    return model


def _unify(conv: onnx_ir.Node) -> None:
    pair = _pair(conv)
    weights = scaled_weights(conv)
    if pair is None or weights is None:
        return
    quantize, dequantize = pair
    scale, zero = (constant(value) for value in quantize.inputs[1:3])
    value, shape = quantize.inputs[0], shape_of(conv.inputs[0]) if conv.inputs[0] is not None else None
    if scale is None or zero is None or value is None or shape is None or np.any(scale <= 0):
        return
    groups = attribute(conv, "group", 1)
    if scale.size != groups or shape[1] != groups or not np.all(zero == zero.flat[0]):
        return
    functions = _functions(value, scale, zero)
    source = functions[0].inputs[0] if functions else value
    producer = source.producer() if source is not None else None
    if source is None or producer is None or producer.op_type not in _PRODUCTS:
        return
    graph = conv.graph
    assert isinstance(graph, onnx_ir.Graph)
    largest = scale.max()
    along = (-1, *[1] * (len(shape) - 2))
    factor = add_initializer(graph, f"{conv.name}_input_factor", (largest / scale).reshape(along))
    reader = functions[0] if functions else quantize
    multiplied = add_node(
        reader, "Mul", [source, factor], {}, f"{conv.name}_input_scaled", source.shape, source.dtype
    )
    reader.replace_input_with(0, multiplied)
    for function in functions:
        if function.op_type == "Clip":  # whose upper limit no code shows
            relu = add_node(
                function, "Relu", [function.inputs[0]], {}, str(function.name), source.shape, source.dtype
            )
            function.outputs[0].replace_all_uses_with(relu)
            graph.remove(function, safe=True)
    for node in (quantize, dequantize):
        node.replace_input_with(1, add_initializer(graph, f"{node.name}_scale", np.asarray(largest)))
        node.replace_input_with(2, add_initializer(graph, f"{node.name}_zero", np.asarray(zero.flat[0])))
        node.attributes.pop("axis", None)
    outputs = weights.channels // groups
    weights.write(conv, np.repeat(scale.astype(np.float64) / largest, outputs))


def _pair(conv: onnx_ir.Node) -> tuple[onnx_ir.Node, onnx_ir.Node] | None:
    """Return QuantizeLinear and DequantizeLinear in front of a node, if they are alike and for it alone."""
    found: list[onnx_ir.Node] = []
    value, reader = conv.inputs[0], conv
    for operator in ("DequantizeLinear", "QuantizeLinear"):
        node = value.producer() if value is not None else None
        if node is None or node.op_type != operator or len(node.inputs) < 3:
            return None
        if node.outputs[0].is_graph_output() or only_consumer(node.outputs[0]) is not reader:
            return None
        found.append(node)
        value, reader = node.inputs[0], node
    dequantize, quantize = found
    for one, other in zip(quantize.inputs[1:], dequantize.inputs[1:], strict=True):
        if not np.array_equal(_array(one), _array(other)):
            return None
    per_channel = all(attribute(node, "axis", 1) == 1 for node in found)
    return (quantize, dequantize) if per_channel else None


def _array(value: onnx_ir.Value | None) -> Array:
    known = constant(value)
    return np.full(1, np.nan) if known is None else known  # equal to nothing


def _functions(value: onnx_ir.Value, scale: Array, zero: Array) -> list[onnx_ir.Node]:
    """Return the functions in front of a value that a factor may move through, in order."""
    found: list[onnx_ir.Node] = []
    while (node := value.producer()) is not None and only_consumer(value) is not None:
        if node.op_type not in _HOMOGENEOUS and not _is_relu(node, scale, zero):
            break
        assert node.inputs[0] is not None
        found.insert(0, node)
        value = node.inputs[0]
    return found if only_consumer(value) is not None else []


def _is_relu(node: onnx_ir.Node, scale: Array, zero: Array) -> bool:
    """Whether a node clips at zero, and above only what has the highest code anyway."""
    if node.op_type != "Clip" or node.domain or len(node.inputs) < 3:
        return False
    low, high = constant(node.inputs[1]), constant(node.inputs[2])
    if low is None or high is None or low.size != 1 or high.size != 1 or low.item() != 0:
        return False
    codes = np.rint(high.item() / scale.astype(np.float64)) + zero.astype(np.float64)
    return bool(np.all(codes >= np.iinfo(zero.dtype).max))

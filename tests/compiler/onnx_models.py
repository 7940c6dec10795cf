"""Small ONNX models from text, quantized by hand, and what ONNX Runtime computes for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgec.compiler.frontend.load import load
from edgec.compiler.lower.graph.integer import integer
from edgec.compiler.model import Model
from edgec.kernels import reference
from edgec.kernels.operations import Dequantize, Network

Array = NDArray[Any]
Arrays = dict[str, Array]

SHARED = Path(__file__).parents[2] / "../shared"
"""Real models and data, beside a developer's checkout."""


def model(text: str, constants: Mapping[str, Any] | None = None, opset: int = 17) -> onnx.ModelProto:
    """A model from the body of onnx.parser's `graph`: `(float[1,4] x) => (float y) { y = Relu(x) }`.

    Constants become initializers; shapes of outputs are inferred.
    """
    opsets = f'["" : {opset}, "com.acme" : 1]' if "com.acme" in text else f'["" : {opset}]'
    parsed = onnx.parser.parse_model(f"<ir_version: 9, opset_import: {opsets}> g {text}")
    for name, array in (constants or {}).items():
        parsed.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    for index, node in enumerate(parsed.graph.node):
        node.name = node.name or f"{node.op_type.lower()}_{index}"
    for output in parsed.graph.output:
        if not output.type.tensor_type.shape.dim:  # the parser takes no shape for a scalar's
            output.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(parsed, data_prop=True)


def loaded(proto: onnx.ModelProto, folder: Path) -> Model:
    path = folder / "model.onnx"
    onnx.save(proto, path)
    return load(path)


def network(proto: onnx.ModelProto, folder: Path) -> Network:
    return integer(loaded(proto, folder))


def operations(lowered: Network) -> list[str]:
    """The kinds of a network's operations, in order, without the conversions at its ends."""
    kinds = [type(operator.operation).__name__ for operator in lowered.operators]
    return [kind for kind in kinds if kind not in ("Quantize", "Dequantize")]


def run_onnx(proto: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """What ONNX Runtime computes, node by node as the model is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, dict(inputs))]


def run_network(lowered: Network, inputs: Mapping[str, Array]) -> list[Array]:
    values = reference.evaluate(lowered, inputs)
    return [values[name] for name in lowered.outputs]


def assert_floats_are_onnx_runtime_s(lowered: Network, proto: onnx.ModelProto) -> None:
    """Float kernels add up in another order than ONNX Runtime."""
    inputs = samples(proto)
    for ours, theirs in zip(run_network(lowered, inputs), run_onnx(proto, inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def output_scale(lowered: Network, name: str) -> float:
    """What one step of an output stands for: 1 for integers."""
    made = next(operator for operator in lowered.operators if name in operator.outputs)
    return made.operation.scale if isinstance(made.operation, Dequantize) else 1.0


@dataclass(frozen=True)
class Difference:
    """Between two runs of a quantized model, over all outputs."""

    steps: int
    """The largest."""
    share: float
    """Of elements that differ."""


def difference(lowered: Network, ours: Sequence[Array], theirs: Sequence[Array]) -> Difference:
    steps = []
    for name, a, b in zip(lowered.outputs, ours, theirs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        scale = output_scale(lowered, name)
        steps.append(np.rint((a.astype(np.float64) - b.astype(np.float64)) / scale).reshape(-1))
    every = np.abs(np.concatenate(steps))
    return Difference(int(every.max(initial=0)), float(np.mean(every > 0)) if every.size else 0.0)


def sqnr(ours: Sequence[Array], floats: Sequence[Array]) -> float:
    """Signal to quantization noise over all outputs, in dB."""
    noise = sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in zip(ours, floats, strict=True))
    signal = sum(float(np.square(b.astype(np.float64)).sum()) for b in floats)
    return float(10 * np.log10(signal / noise)) if noise else float("inf")


def islands(lowered: Network) -> list[tuple[str, str, str]]:
    """(node, operator, reason) of everything computed in float."""
    return list(lowered.floats)


def samples(proto: onnx.ModelProto, seed: int = 0, scale: float = 1.0) -> Arrays:
    """Normally distributed inputs (0..255 or -128..127 for 8-bit ones)."""
    rng = np.random.default_rng(seed)
    made: Arrays = {}
    for value in proto.graph.input:
        shape = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if dtype.kind == "f":
            made[value.name] = (scale * rng.standard_normal(shape)).astype(dtype)
        else:
            limits = np.iinfo(dtype)
            made[value.name] = rng.integers(max(limits.min, -128), min(limits.max, 255), shape).astype(dtype)
    return made


# --- a quantizer of its own, so that lowering is tested on more forms than edgec's own writes ---------------


@dataclass(frozen=True)
class Form:
    """How `quantized` writes a model."""

    activations: type[np.integer[Any]] = np.int8
    symmetric: bool = False
    weights: type[np.integer[Any]] = np.int8
    per_channel: bool = True
    weight_zero_point: int = 0
    weight_steps: int = 127
    """Of a channel's largest weight."""
    float_bias: bool = False


_FORM = Form()


def quantized(
    proto: onnx.ModelProto,
    inputs: Mapping[str, Array],
    form: Form = _FORM,
    inner: Sequence[str] = (),
    one_range: bool = False,
    ranges: Mapping[str, Array] | None = None,
) -> onnx.ModelProto:
    """The float model with QuantizeLinear and DequantizeLinear at its inputs, its outputs and `inner` values.

    Weights of Conv, Gemm and MatMul become 8-bit integers, their biases int32. Ranges are those of `inputs`,
    or all that of the first one, or those of given arrays.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    del graph.node[:]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    observed = ranges or _observe(proto, inputs, inner)
    if one_range:
        observed = dict.fromkeys(observed, next(iter(inputs.values())))
    renamed: dict[str, str] = {}
    scales: dict[str, float] = {}

    def add(name: str, array: Array) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def pair(source: str, target: str, name: str) -> None:
        scale, zero_point = _parameters(observed[name], form)
        scales[target] = float(scale)
        parameters = [add(f"{target}_scale", scale), add(f"{target}_zero", zero_point)]
        quantize = helper.make_node("QuantizeLinear", [source, *parameters], [f"{target}_q"], f"{target}_Q")
        restore = helper.make_node("DequantizeLinear", [f"{target}_q", *parameters], [target], f"{target}_DQ")
        graph.node.extend([quantize, restore])

    for value in proto.graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            pair(value.name, f"{value.name}_in", value.name)
            renamed[value.name] = f"{value.name}_in"
    outputs = {value.name for value in proto.graph.output}
    for node in proto.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in constants:
            _quantize_weights(graph, copy, constants, scales.get(renamed.get(node.input[0], "")), form, add)
        elif node.op_type in ("Add", "Concat", "Div", "Max", "Min", "Mul", "PRelu", "Sub", "Where"):
            for index, name in enumerate(node.input):
                if name in constants and constants[name].size > 1:
                    copy.input[index] = _dequantized(
                        graph, f"{node.name}_{index}", constants[name], form, add
                    )
        for index, name in enumerate(copy.input):
            copy.input[index] = renamed.get(name, name)
        for index, name in enumerate(node.output):
            if name in outputs or name in inner:
                copy.output[index] = f"{name}_float"
        graph.node.append(copy)
        for name in node.output:
            if name in outputs or name in inner:
                pair(f"{name}_float", name, name)
    del graph.value_info[:]
    read = {name for node in graph.node for name in node.input}
    unread = [tensor for tensor in graph.initializer if tensor.name not in read]
    for tensor in unread:
        graph.initializer.remove(tensor)
    onnx.checker.check_model(made)
    return made


def _observe(proto: onnx.ModelProto, inputs: Mapping[str, Array], inner: Sequence[str]) -> Arrays:
    wider = onnx.ModelProto()
    wider.CopyFrom(proto)
    wider.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner)
    names = [value.name for value in wider.graph.output]
    return dict(inputs) | dict(zip(names, run_onnx(wider, inputs), strict=True))


def _parameters(array: Array, form: Form) -> tuple[Array, Array]:
    """Scale and zero point that cover an array and 0."""
    limits = np.iinfo(form.activations)
    low, high = min(float(array.min()), 0.0), max(float(array.max()), 0.0)
    if form.symmetric:
        high = max(-low, high)
        low = -high
    scale = np.float32((high - low) / 255 or 1.0)
    zero_point = np.clip(np.rint(limits.min - low / scale), limits.min, limits.max)
    return np.asarray(scale), np.asarray(zero_point, form.activations)


def _dequantized(graph: onnx.GraphProto, name: str, array: Array, form: Form, add: Any) -> str:
    scale, zero_point = _parameters(array, form)
    limits = np.iinfo(form.activations)
    codes = np.clip(np.rint(array / scale) + zero_point, limits.min, limits.max).astype(form.activations)
    names = [add(f"{name}_q", codes), add(f"{name}_scale", scale), add(f"{name}_zero", zero_point)]
    graph.node.append(helper.make_node("DequantizeLinear", names, [f"{name}_dq"], f"{name}_DQ"))
    return f"{name}_dq"


def _quantize_weights(
    graph: onnx.GraphProto, node: onnx.NodeProto, constants: Mapping[str, Array], source: float | None,
    form: Form, add: Any,
) -> None:  # fmt: skip
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    axis = 0 if node.op_type == "Conv" or transposed else 1
    weights = constants[node.input[1]].astype(np.float64)
    others = tuple(i for i in range(weights.ndim) if i != axis) if form.per_channel else None
    reach = np.abs(weights).max(axis=others, keepdims=True)
    scale = (np.where(reach > 0, reach, 1) / form.weight_steps).astype(np.float32)
    limits = np.iinfo(form.weights)
    codes = np.clip(np.rint(weights / scale) + form.weight_zero_point, limits.min, limits.max)
    flat = scale.reshape(-1) if form.per_channel else scale.reshape(())
    zeros = np.full(flat.shape, form.weight_zero_point, form.weights)
    names = [add(f"{node.name}_w", codes.astype(form.weights)), add(f"{node.name}_ws", flat)]
    names.append(add(f"{node.name}_wz", zeros))
    attributes = {"axis": axis} if form.per_channel else {}
    graph.node.append(
        helper.make_node("DequantizeLinear", names, [f"{node.name}_wdq"], f"{node.name}_W", **attributes)
    )
    node.input[1] = f"{node.name}_wdq"
    if len(node.input) < 3 or form.float_bias or source is None:
        return
    steps = (np.float64(source) * flat).astype(np.float32)
    bias = np.rint(constants[node.input[2]].astype(np.float64) / steps).astype(np.int32)
    names = [add(f"{node.name}_b", bias), add(f"{node.name}_bs", steps)]
    attributes = {"axis": 0} if form.per_channel else {}
    graph.node.append(
        helper.make_node("DequantizeLinear", names, [f"{node.name}_bdq"], f"{node.name}_B", **attributes)
    )
    node.input[2] = f"{node.name}_bdq"

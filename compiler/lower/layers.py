"""ONNX operators with an integer kernel: what each accepts, and the operation that it becomes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.compiler.graph import attribute, constant, shape_of
from edgec.compiler.lower import view
from edgec.compiler.lower.builder import Builder, Codes, affine, quantized
from edgec.compiler.lower.view import View
from edgec.kernels.operators import (
    AveragePool,
    Binary,
    Concat,
    Conv2d,
    MaxPool,
    Mean,
    Operation,
    Pad,
    Quantization,
    Rearrange,
    Softmax,
)


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


def _result(request: Request, tensor: str, seen: View) -> Codes:
    return Codes(tensor, seen, affine(request.output), request.output)


# --- products -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Weights:
    """Quantized weights, less their zero point: int8 where they fit."""

    integers: NDArray[np.int8] | NDArray[np.int16]
    scales: NDArray[np.float64]
    """[output channels]."""


def weights_of(value: onnx_ir.Value | None, axis: int) -> Weights | None:
    """Return the weights behind DequantizeLinear(constant), output channels along `axis`, or None."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "DequantizeLinear":
        return None
    integers, scales = constant(node.inputs[0]), constant(node.inputs[1])
    if integers is None or scales is None or integers.dtype not in (np.int8, np.uint8) or scales.ndim > 1:
        return None
    if scales.size > 1 and attribute(node, "axis", 1) % integers.ndim != axis:
        return None
    zero_points = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.int8)
    if zero_points is None:
        return None
    along = [-1 if i == axis else 1 for i in range(integers.ndim)]
    wide = integers.astype(np.int16) - zero_points.astype(np.int16).reshape(along if zero_points.size > 1 else ())
    # -128 is kept out of int8: some instruction sets are exact without it only, and int16 always is.
    fits = wide.size == 0 or (wide.min() >= -127 and wide.max() <= 127)
    channels = integers.shape[axis]
    return Weights(
        wide.astype(np.int8) if fits else wide, np.broadcast_to(scales.astype(np.float64).reshape(-1), channels)
    )


def _bias(value: onnx_ir.Value | None, scales: NDArray[np.float64]) -> NDArray[np.int32] | str:
    """Return the bias in steps of `scales`, or why there is none."""
    if value is None:
        return np.zeros(len(scales), np.int32)
    real = constant(value)
    node = value.producer()
    if real is None and node is not None and node.op_type == "DequantizeLinear":
        integers, steps = constant(node.inputs[0]), constant(node.inputs[1])
        if integers is not None and steps is not None:
            zero_point = constant(node.inputs[2]) if len(node.inputs) > 2 else None
            offset = 0 if zero_point is None else zero_point.astype(np.float64).reshape(-1)
            real = (integers.astype(np.float64).reshape(-1) - offset) * steps.astype(np.float64).reshape(-1)
    if real is None:
        return "its bias is no constant"
    real = real.astype(np.float64).reshape(-1)
    if real.size not in (1, len(scales)):
        return f"its bias has {real.size} elements for {len(scales)} outputs"
    rounded = np.rint(real / scales)
    if np.abs(rounded).max(initial=0) >= 2**31:
        return "its bias doesn't fit int32 at the scale of its products"
    return np.broadcast_to(rounded, scales.shape).astype(np.int32)


def _accepts_conv(node: onnx_ir.Node) -> str | None:
    shape = shape_of(node.outputs[0])
    if shape is None or len(shape) not in (3, 4):
        return "only 1-D and 2-D convolutions have an integer kernel"
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "auto_pad isn't explicit"
    return _accepts_product(node, 0)


def _accepts_gemm(node: onnx_ir.Node) -> str | None:
    if attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0 or attribute(node, "transA", 0):
        return "alpha, beta and transA have no integer form"
    return _accepts_product(node, _weights_axis(node))


def _weights_axis(node: onnx_ir.Node) -> int:
    """Which axis of a matrix of weights is the outputs'."""
    return 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1


def _accepts_product(node: onnx_ir.Node, axis: int) -> str | None:
    weights = weights_of(node.inputs[1], axis)
    if weights is None:
        return "its weights aren't int8 constants with a scale per tensor or per output channel"
    # Any scale does for the question whether the bias is constant; whether it fits is asked when lowering.
    bias = _bias(node.inputs[2] if len(node.inputs) > 2 else None, weights.scales)
    return bias if isinstance(bias, str) and "fit" not in bias else None


def _product(
    builder: Builder, request: Request, tensor: str, weights: Weights, arranged: NDArray[Any], **geometry: Any
) -> tuple[str, Conv2d]:
    """Emit a Conv2d; `arranged` are the weights as [outputs, kernel height, kernel width, inputs]."""
    node, output = request.node, request.output
    products = request.source.scale * weights.scales
    bias = _bias(node.inputs[2] if len(node.inputs) > 2 else None, products)
    if isinstance(bias, str):
        raise ValueError(bias)
    operation = Conv2d(
        weights=np.ascontiguousarray(arranged), bias=bias,
        multiplier=(products / output.scale).astype(np.float32),
        input_zero_point=request.source.zero_point, output_zero_point=output.zero_point,
        low=request.low, high=request.high, **geometry,
    )  # fmt: skip
    shape = operation.output_shape
    name = builder.emit(request.name, operation, (tensor,), shape, output, tensor=str(node.outputs[0].name))
    return name, operation


def _conv(builder: Builder, request: Request) -> Codes:
    node = request.node
    rank = len(request.inputs[0].view.shape)
    weights = weights_of(node.inputs[1], 0)
    assert weights is not None, "accepts() saw them"
    source = request.inputs[0]
    kernel = weights.integers
    strides, dilations = (attribute(node, name, [1] * (rank - 2)) for name in ("strides", "dilations"))
    pads = attribute(node, "pads", [0] * (2 * rank - 4))
    if rank == 3:  # a sequence is an image of one row
        n, c, length = source.view.shape
        image = view.reshape(source.view, (n, c, 1, length))
        assert image is not None, "a dimension of extent 1 fits everywhere"
        source = Codes(source.tensor, image, source.real, source.quantization)
        kernel = kernel[:, :, None]
        strides, dilations, pads = [1, *strides], [1, *dilations], [0, pads[0], 0, pads[1]]
    source = builder.natural(source, request.name)
    n, c, h, w = source.view.shape
    tensor, operation = _product(
        builder, request, source.tensor, weights, kernel.transpose(0, 2, 3, 1), input_shape=(n, h, w, c),
        strides=tuple(strides), pads=tuple(pads), dilations=tuple(dilations),
        groups=attribute(node, "group", 1),
    )  # fmt: skip
    n, oh, ow, outputs = operation.output_shape
    seen = view.natural((n, outputs, oh, ow))
    if rank == 3:
        row = view.reshape(seen, (n, outputs, ow))
        assert row is not None, "a dimension of extent 1 fits everywhere"
        seen = row
    return _result(request, tensor, seen)


def _gemm(builder: Builder, request: Request) -> Codes:
    node = request.node
    axis = _weights_axis(node)
    weights = weights_of(node.inputs[1], axis)
    assert weights is not None, "accepts() saw them"
    matrix = weights.integers if axis == 0 else weights.integers.T
    shape = request.inputs[0].view.shape
    source = builder.arranged(request.inputs[0], view.row_major(shape), request.name)
    rows = math.prod(shape[:-1])
    tensor, _ = _product(
        builder, request, source.tensor, weights, matrix[:, None, None, :],
        input_shape=(1, 1, rows, shape[-1]),
    )  # fmt: skip
    return _result(request, tensor, view.row_major((*shape[:-1], len(matrix))))


def _accepts_matmul(node: onnx_ir.Node) -> str | None:
    shape = shape_of(node.inputs[1]) if node.inputs[1] is not None else None
    if shape is None or len(shape) != 2:
        return "a product of two activations has no integer kernel"
    return _accepts_product(node, 1)


# --- element by element -------------------------------------------------------------------------------------


def _binary(kind: str) -> Callable[[Builder, Request], Codes]:
    def lower(builder: Builder, request: Request) -> Codes:
        output = request.output
        shape = np.broadcast_shapes(*(codes.view.shape for codes in request.inputs))
        # The result takes the order of the operand that has its shape, so that the loop runs straight.
        whole = next((codes for codes in request.inputs if codes.view.shape == shape), None)
        order = view.dense_order(whole.view) if whole is not None else None
        order = order or view.natural_order(len(shape))
        strides = [view.broadcast_strides(codes.view, shape) for codes in request.inputs]
        sources = list(request.inputs)
        for i, codes in enumerate(sources):
            if codes.view.offset:
                sources[i] = builder.natural(codes, request.name)
                strides[i] = view.broadcast_strides(sources[i].view, shape)
        scales = [codes.quantization.scale for codes in sources if codes.quantization]
        if kind == "add":
            factors = [scale / output.scale for scale in scales]
        else:
            factors = [scales[0], scales[1] / output.scale]
        operation = Binary(
            kind,
            tuple(shape[axis] for axis in order),
            (tuple(strides[0][axis] for axis in order), tuple(strides[1][axis] for axis in order)),
            tuple(codes.quantization.zero_point for codes in sources if codes.quantization),  # type: ignore[arg-type]
            (float(np.float32(factors[0])), float(np.float32(factors[1]))),
            output.zero_point, request.low, request.high,
        )  # fmt: skip
        tensor = builder.emit(
            request.name, operation, (sources[0].tensor, sources[1].tensor), operation.shape, output,
            tensor=str(request.node.outputs[0].name),
        )  # fmt: skip
        return _result(request, tensor, view.ordered(shape, order))

    return lower


# --- windows and means --------------------------------------------------------------------------------------


def _accepts_pool(node: onnx_ir.Node) -> str | None:
    shape = shape_of(node.outputs[0])
    if shape is None or len(shape) != 4:
        return "only 2-D pooling has an integer kernel"
    if any(step != 1 for step in attribute(node, "dilations", [1])):
        return "dilated pooling has no integer kernel"
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "auto_pad isn't explicit"
    if len([output for output in node.outputs if output is not None and output.uses()]) > 1:
        return "pooling that also returns indices has no integer kernel"
    return None


def _pool(builder: Builder, request: Request) -> tuple[Codes, dict[str, Any]]:
    """Return the input as NHWC and the geometry of the window."""
    node = request.node
    source = builder.natural(request.inputs[0], request.name)
    n, c, h, w = source.view.shape
    shape = shape_of(node.outputs[0])
    assert shape is not None, "accepts() saw it"
    pads = attribute(node, "pads", [0, 0, 0, 0])
    return source, {
        "input_shape": (n, h, w, c),
        "output_shape": (shape[0], shape[2], shape[3], shape[1]),
        "kernel": tuple(attribute(node, "kernel_shape", [1, 1])),
        "strides": tuple(attribute(node, "strides", [1, 1])),
        "pads": (pads[0], pads[1]),
    }


def _emit(builder: Builder, request: Request, operation: Operation, tensor: str, seen: View) -> Codes:
    """Emit an operation whose result lies dense, as `seen` says."""
    order = view.dense_order(seen)
    assert order is not None, "results are dense"
    shape = tuple(seen.shape[axis] for axis in order)
    name = str(request.node.outputs[0].name)
    output = builder.emit(request.name, operation, (tensor,), shape, request.output, tensor=name)
    return _result(request, output, seen)


def max_pool(builder: Builder, request: Request) -> Codes:
    """MaxPool at its input's own scale."""
    source, geometry = _pool(builder, request)
    shape = shape_of(request.node.outputs[0])
    assert shape is not None, "accepts() saw it"
    return _emit(builder, request, MaxPool(**geometry), source.tensor, view.natural(shape))


def _average_pool(builder: Builder, request: Request) -> Codes:
    source, geometry = _pool(builder, request)
    node = request.node
    pads = attribute(node, "pads", [0, 0, 0, 0])
    counts = []
    for axis, (extent, pad) in enumerate(zip(geometry["input_shape"][1:3], ((0, 2), (1, 3)), strict=True)):
        starts = np.arange(geometry["output_shape"][1 + axis]) * geometry["strides"][axis] - pads[pad[0]]
        ends = starts + geometry["kernel"][axis]
        first, last = (-pads[pad[0]], extent + pads[pad[1]]) if attribute(node, "count_include_pad", 0) else (0, extent)
        counts.append(np.minimum(ends, last) - np.maximum(starts, first))
    ratio = request.source.scale / request.output.scale
    multiplier = (ratio / np.outer(*counts)).astype(np.float32)
    operation = AveragePool(
        multiplier=multiplier, input_zero_point=request.source.zero_point,
        output_zero_point=request.output.zero_point, low=request.low, high=request.high, **geometry,
    )  # fmt: skip
    shape = shape_of(node.outputs[0])
    assert shape is not None, "accepts() saw it"
    return _emit(builder, request, operation, source.tensor, view.natural(shape))


def _reduced_axes(node: onnx_ir.Node) -> tuple[int, ...] | None:
    """Return the axes of a mean, or None where they are no constant."""
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    if shape is None:
        return None
    rank = len(shape)
    if node.op_type == "GlobalAveragePool":
        return tuple(range(2, rank))
    given = attribute(node, "axes", None)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        array = constant(node.inputs[1])
        if array is None:
            return None
        given = array.tolist()
    if not given:
        return () if attribute(node, "noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(axis % rank for axis in given))


def _accepts_mean(node: onnx_ir.Node) -> str | None:
    return None if _reduced_axes(node) else "its axes aren't known at compile time"


def _mean(builder: Builder, request: Request) -> Codes:
    axes = _reduced_axes(request.node)
    assert axes, "accepts() saw them"
    shape = request.inputs[0].view.shape
    source = builder.dense(request.inputs[0], request.name)
    order = view.dense_order(source.view)
    assert order is not None, "dense() said so"
    reduced = [i for i, axis in enumerate(order) if axis in axes and shape[axis] > 1]
    if reduced and reduced[-1] - reduced[0] + 1 != len(
        [i for i in range(reduced[0], reduced[-1] + 1) if order[i] in axes or shape[order[i]] == 1]
    ):
        order = (*(axis for axis in order if axis not in axes), *axes)
        source = builder.arranged(source, view.ordered(shape, order), request.name)
        reduced = [i for i, axis in enumerate(order) if axis in axes]
    first, last = (reduced[0], reduced[-1]) if reduced else (0, -1)
    count = math.prod(shape[axis] for axis in axes)
    extents = [shape[axis] for axis in order]
    operation = Mean(
        outer=math.prod(extents[:first]), reduced=count, inner=math.prod(extents[last + 1 :]),
        multiplier=float(np.float32(request.source.scale / (request.output.scale * count))),
        input_zero_point=request.source.zero_point, output_zero_point=request.output.zero_point,
        low=request.low, high=request.high,
    )  # fmt: skip
    kept = view.ordered(tuple(1 if axis in axes else n for axis, n in enumerate(shape)), order)
    wanted = shape_of(request.node.outputs[0])
    assert wanted is not None, "the frontend leaves static shapes only"
    if len(wanted) != len(shape):
        keeping = [axis for axis in range(len(shape)) if axis not in axes]
        kept = View(tuple(shape[a] for a in keeping), tuple(kept.strides[a] for a in keeping))
    return _emit(builder, request, operation, source.tensor, kept)


# --- the rest -----------------------------------------------------------------------------------------------


def _concat(builder: Builder, request: Request) -> Codes:
    node = request.node
    shapes = [codes.view.shape for codes in request.inputs]
    axis = attribute(node, "axis", 0) % len(shapes[0])
    shape = list(shapes[0])
    shape[axis] = sum(part[axis] for part in shapes)
    order = view.natural_order(len(shape))
    position = order.index(axis)
    sources = [builder.natural(codes, request.name) for codes in request.inputs]
    tables = [quantized(codes.real, request.output) for codes in sources]
    identity = quantized(affine(request.output), request.output)
    operation = Concat(
        outer=math.prod(shape[a] for a in order[:position]),
        inner=tuple(math.prod(part[a] for a in order[position:]) for part in shapes),
        tables=tuple(None if np.array_equal(table, identity) else table for table in tables),
    )
    tensor = builder.emit(
        request.name, operation, tuple(codes.tensor for codes in sources), tuple(shape[a] for a in order),
        request.output, tensor=str(node.outputs[0].name),
    )  # fmt: skip
    return _result(request, tensor, view.natural(tuple(shape)))


def _accepts_pad(node: onnx_ir.Node) -> str | None:
    if attribute(node, "mode", "constant") != "constant":
        return "only constant padding has an integer kernel"
    arrays = [constant(value) for value in node.inputs[1:] if value is not None]
    if any(array is None for array in arrays):
        return "its pads aren't known at compile time"
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        return "pads along chosen axes have no integer kernel"
    return "negative pads have no integer kernel" if (arrays[0] < 0).any() else None  # type: ignore[operator]


def _pad(builder: Builder, request: Request) -> Codes:
    node = request.node
    pads, value = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
    assert pads is not None, "accepts() saw them"
    source = builder.natural(builder.requantize(request.inputs[0], request.output, f"{request.name}_scale"), request.name)
    shape, order = source.view.shape, view.natural_order(len(source.view.shape))
    rank = len(shape)
    filling = np.array([0.0 if value is None else float(value.reshape(()))])
    operation = Pad(
        tuple(shape[axis] for axis in order),
        tuple((int(pads[axis]), int(pads[axis + rank])) for axis in order),
        int(quantized(filling, request.output)[0]),
    )
    padded = tuple(n + int(pads[axis]) + int(pads[axis + rank]) for axis, n in enumerate(shape))
    return _emit(builder, request, operation, source.tensor, view.natural(padded))


def _softmax(builder: Builder, request: Request) -> Codes:
    shape = request.inputs[0].view.shape
    axis = attribute(request.node, "axis", -1) % len(shape)
    source = builder.dense(request.inputs[0], request.name)
    order = view.dense_order(source.view)
    assert order is not None, "dense() said so"
    if order[-1] != axis:
        order = (*(a for a in range(len(shape)) if a != axis), axis)
        source = builder.arranged(source, view.ordered(shape, order), request.name)
    length = shape[axis]
    bits = math.floor(math.log2((2**31 - 1) / length))
    exponents = np.exp(-np.arange(256) * np.float64(request.source.scale))
    operation = Softmax(
        outer=math.prod(shape) // length, length=length,
        table=np.rint(exponents * 2.0 ** min(bits, 30)).astype(np.int32),
        inverse_scale=float(np.float32(1 / request.output.scale)),
        output_zero_point=request.output.zero_point,
    )  # fmt: skip
    return _emit(builder, request, operation, source.tensor, view.ordered(shape, order))


def _accepts_resize(node: onnx_ir.Node) -> str | None:
    before = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    after = shape_of(node.outputs[0])
    if attribute(node, "mode", "nearest") != "nearest" or before is None or after is None or len(before) != 4:
        return "only nearest-neighbour resizing of images has an integer kernel"
    if any(new % old for old, new in zip(before, after, strict=True)) or before[:2] != after[:2]:
        return "only resizing by whole factors has an integer kernel"
    coordinates = attribute(node, "coordinate_transformation_mode", "half_pixel")
    rounding = attribute(node, "nearest_mode", "round_prefer_floor")
    factor = max(new // old for old, new in zip(before, after, strict=True))
    plain = coordinates == "asymmetric" and (rounding == "floor" or (rounding == "round_prefer_floor" and factor <= 2))
    centred = coordinates in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round")
    return None if plain or centred else f"nearest-neighbour resizing by {coordinates} and {rounding} isn't repetition"


def resize(builder: Builder, request: Request) -> Codes:
    """Nearest-neighbour Resize at its input's own scale: every pixel repeated."""
    source = request.inputs[0]
    shape = shape_of(request.node.outputs[0])
    assert shape is not None, "accepts() saw it"
    n, c, h, w = source.view.shape
    sn, sc, sh, sw = source.view.strides
    size = math.prod(builder.tensors[source.tensor].shape)
    operation = Rearrange(
        (n, h, shape[2] // h, w, shape[3] // w, c), (sn, sh, 0, sw, 0, sc), source.view.offset, "int8", size
    )
    return _emit(builder, request, operation, source.tensor, view.natural(shape))


def _every_input(node: onnx_ir.Node) -> tuple[int, ...]:
    return tuple(range(len(node.inputs)))


LAYERS: dict[str, Layer] = {
    "Add": Layer(_binary("add"), activations=_every_input),
    "AveragePool": Layer(_average_pool, _accepts_pool),
    "Concat": Layer(_concat, activations=_every_input),
    "Conv": Layer(_conv, _accepts_conv),
    "Gemm": Layer(_gemm, _accepts_gemm),
    "GlobalAveragePool": Layer(_mean, _accepts_mean),
    "MatMul": Layer(_gemm, _accepts_matmul),
    "Mul": Layer(_binary("mul"), activations=_every_input),
    "Pad": Layer(_pad, _accepts_pad),
    "ReduceMean": Layer(_mean, _accepts_mean),
    "Softmax": Layer(_softmax),
}
"""Operators that compute numbers of a new scale: they need a QuantizeLinear behind them."""

SAME_SCALE: dict[str, Layer] = {
    "MaxPool": Layer(max_pool, _accepts_pool),
    "Resize": Layer(resize, _accepts_resize),
}
"""Operators whose results are elements of their input: int8 stays as it is."""

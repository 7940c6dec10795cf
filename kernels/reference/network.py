"""What every operation computes, and networks of them."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from edgec.arrays import Array, Arrays
from edgec.kernels.operations import (
    Attention,
    AveragePool,
    Binary,
    Chain,
    Concat,
    Conv2d,
    Dequantize,
    FloatAveragePool,
    FloatBinary,
    FloatConv2d,
    FloatMean,
    FloatNormalize,
    Interpolate,
    Island,
    Lookup,
    MaxPool,
    Mean,
    Network,
    Normalize,
    Operation,
    Pad,
    Product,
    Quantize,
    Rearrange,
    Recurrent,
    Softmax,
)
from edgec.kernels.reference import oracle
from edgec.kernels.reference.conv import chain, conv2d, float_conv2d
from edgec.kernels.reference.movement import concat, interpolate, pad, rearrange
from edgec.kernels.reference.pointwise import binary, dequantize, float_binary, lookup, quantize
from edgec.kernels.reference.product import attention, product
from edgec.kernels.reference.recurrent import recurrent
from edgec.kernels.reference.reduction import (
    average_pool,
    float_average_pool,
    float_mean,
    float_normalize,
    max_pool,
    mean,
    normalize,
    softmax,
)
from edgec.kernels.reference.rounding import FLOAT
from edgec.targets.descriptor import Requantization

SEMANTICS: dict[type[Operation], Callable[..., Array]] = {
    Attention: attention,
    AveragePool: average_pool,
    Binary: binary,
    Chain: chain,
    Concat: concat,
    Conv2d: conv2d,
    Dequantize: dequantize,
    FloatAveragePool: float_average_pool,
    FloatBinary: float_binary,
    FloatConv2d: float_conv2d,
    FloatMean: float_mean,
    FloatNormalize: float_normalize,
    Interpolate: interpolate,
    Lookup: lookup,
    MaxPool: max_pool,
    Mean: mean,
    Normalize: normalize,
    Pad: pad,
    Product: product,
    Quantize: quantize,
    Rearrange: rearrange,
    Recurrent: recurrent,
    Softmax: softmax,
}
"""What every exact operation computes."""


REQUANTIZING = (Attention, AveragePool, Binary, Chain, Conv2d, Mean, Normalize, Product, Recurrent, Softmax)
"""Those whose meaning depends on the form of requantization, their last argument."""


Evaluator = Callable[[bytes, Arrays], Arrays]
"""What ONNX says: a serialized model and its inputs by name in, its outputs by name out."""


def run_onnx(
    model: bytes,
    inputs: Iterable[Array],
    order: tuple[int, ...] | None = None,
    onnx_says: Evaluator = oracle.evaluate,
) -> list[Array]:
    """Evaluate a serialized ONNX model; inputs and result are in the model's order.

    With `order` tensors come and go with their axes in that order. Raises OracleError.
    """
    import onnx  # only float islands and float models need it

    feeds = {}
    for value, given in zip(onnx.load_from_string(model).graph.input, inputs, strict=True):
        array = given
        if order is not None:
            extents = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
            array = given.reshape([extents[axis] for axis in order]).transpose(np.argsort(order))
        feeds[value.name] = array
    results = onnx_says(model, feeds).values()
    return list(results) if order is None else [array.transpose(order) for array in results]


def compute(
    operation: Operation,
    inputs: Sequence[Array],
    requantization: Requantization = FLOAT,
    onnx_says: Evaluator = oracle.evaluate,
) -> list[Array]:
    """Return the outputs of an operation."""
    if isinstance(operation, Island):
        return run_onnx(operation.model, inputs, operation.order, onnx_says)
    form = {"requantization": requantization} if isinstance(operation, REQUANTIZING) else {}
    return [SEMANTICS[type(operation)](operation, *inputs, **form)]


def evaluate(
    network: Network,
    inputs: Arrays,
    overrides: Arrays | None = None,
    requantization: Requantization = FLOAT,
    onnx_says: Evaluator = oracle.evaluate,
) -> dict[str, Array]:
    """Return every tensor of `network`, by name, shaped as the network declares it; islands as `onnx_says`.

    `overrides` gives values for an island's outputs (a device's own, within tolerance of the reference), so
    that every integer layer behind an island can still be compared bit for bit. Raises OracleError where
    `inputs` say that a result has another shape than the model declares.
    """
    values: dict[str, Array] = {name: np.asarray(inputs[name]) for name in network.inputs}
    values.update(network.constants)
    for operator in network.operators:
        arguments = [values[name] for name in operator.inputs]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # infinities are values, too
            results = compute(operator.operation, arguments, requantization, onnx_says)
        for name, result in zip(operator.outputs, results, strict=True):
            tensor = network.tensors[name]
            value = np.asarray((overrides or {}).get(name, result))
            if value.size != math.prod(tensor.shape):  # an input says which axes are reduced, or the like
                raise oracle.OracleError(
                    f"'{name}' has the shape {list(value.shape)} for these inputs, and in the model "
                    f"{list(tensor.shape)}: give samples of inputs that fit it (--calibration, --data)"
                )
            values[name] = (value.view(tensor.dtype) if value.itemsize == 1 else value).reshape(tensor.shape)
    return values

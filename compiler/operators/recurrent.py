"""LSTM, GRU and RNN, one direction each: what of them is computed, and with which curves and steps."""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.arrays import Array
from edgec.compiler.graph import OWN_METADATA, attribute, shape_of
from edgec.compiler.operators import view
from edgec.compiler.operators.builder import Builder, Codes
from edgec.compiler.operators.constants import is_known, known
from edgec.compiler.operators.products import LARGEST_SUM, REACH, Weights, quantized
from edgec.compiler.operators.row import Operand, Request, emit
from edgec.kernels.operations import Conv2d, Quantization, Recurrent, RecurrentKind
from edgec.kernels.operations.recurrent import CURVE_BITS, CURVE_STEPS, CURVES, GATES, curve
from edgec.kernels.reference.precise_recurrent import DEFAULTS, function
from edgec.kernels.reference.precise_recurrent import activations as named

CELL_FRACTION = f"{OWN_METADATA}cell_fraction"
"""Metadata of an LSTM in a quantized model: bits of its int16 cell behind the point."""

_USUAL_FRACTION = 11
"""Bits behind the point where a model doesn't say: the cell reaches 16."""
_LEAST_CELL = 4.0
"""What a cell reaches at least: tanh tells no larger ones apart."""
_HEADROOM = 1.25
"""How far cells go beyond those of the calibration samples before they are cut."""

_WEIGHTS, _RECURRENT, _BIAS, _LENGTHS, HIDDEN, _CELL, _PEEPHOLES = range(1, 8)

_REACHES = {"Sigmoid": 16.0, "Tanh": 8.0}
"""Arguments beyond which a curve is as good as level."""
_GATES, _VALUES = ("Sigmoid", "HardSigmoid"), ("Tanh", "Sigmoid", "HardSigmoid")
"""Activations in [0, 1], and those in [-1, 1], that have an integer form."""


@dataclass(frozen=True)
class Activation:
    """One of a layer's activations."""

    name: str
    alpha: float | None
    beta: float | None

    @property
    def reach(self) -> float:
        """Return the magnitude up to which the curve goes: a power of two."""
        if self.name == "HardSigmoid":
            alpha = 0.2 if self.alpha is None else self.alpha
            beta = 0.5 if self.beta is None else self.beta
            return float(2.0 ** math.ceil(math.log2(max(abs(beta), abs(1 - beta), 1e-3) / alpha)))
        return _REACHES[self.name]

    def curve(self, reach: float, unit: float = 1.0) -> NDArray[np.int32]:
        """Return the curve over [-reach, reach], of values in units of `unit`."""
        x = np.linspace(-reach, reach, 257)
        return curve(np.asarray(function(self.name, self.alpha, self.beta)(x) / unit, np.float64))


def inputs(node: onnx_ir.Node) -> tuple[Operand, ...]:
    """Return which inputs are data: x, and initial states."""
    states = [index for index in (HIDDEN, _CELL) if index < len(node.inputs)]
    return ((node, 0), *((node, index) for index in states if node.inputs[index] is not None))


def activations(node: onnx_ir.Node) -> tuple[Activation, ...]:
    """Return the activations of a node of one direction."""
    names = attribute(node, "activations", None) or DEFAULTS[node.op_type]
    given = {name: one.value for name, one in node.attributes.items()}
    return tuple(Activation(*one) for one in named(names, given))


def kind(node: onnx_ir.Node) -> RecurrentKind:
    """Return what a step of a node computes."""
    if node.op_type == "GRU":
        return "gru-linear-before-reset" if attribute(node, "linear_before_reset", 0) else "gru"
    return "lstm" if node.op_type == "LSTM" else "rnn"


def refuses(node: onnx_ir.Node) -> str | None:
    """Return why no kernel computes a node, or None."""
    given = [*node.inputs, *[None] * 8][:8]
    if given[_LENGTHS] is not None:
        return "sequences of different lengths, or of lengths known only when it runs, have no integer kernel"
    if given[_PEEPHOLES] is not None:
        return "an LSTM with peepholes has no integer kernel"
    if attribute(node, "clip", 0.0) or attribute(node, "input_forget", 0):
        return "clip and input_forget have no integer kernel"
    weights, recurrent, bias = given[_WEIGHTS], given[_RECURRENT], given[_BIAS]
    if any(value is None or not is_known(value) for value in (weights, recurrent)):
        return "its weights aren't constant"
    if bias is not None and not is_known(bias):
        return "its bias isn't constant"
    shape = shape_of(recurrent) if recurrent is not None else None
    if attribute(node, "layout", 0) or shape is None or shape[0] != 1:
        return "its directions can't be told apart"
    if any(value is not None and shape_of(value) is None for value in given):
        return "its shape isn't known at compile time"
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return "its last cell is read, which has no integer kernel"
    return _refuses_activations(node)


def _refuses_activations(node: onnx_ir.Node) -> str | None:
    first, *others = activations(node)
    allowed = (*_VALUES, "Relu") if node.op_type == "RNN" else _GATES
    for one, names in ((first, allowed), *((one, _VALUES) for one in others)):
        if one.name not in names or (one.alpha is not None and one.alpha <= 0):
            return f"the activation {one.name} has no integer kernel there"
    return None


def refuses_quantized(node: onnx_ir.Node, sources: tuple[Quantization, ...]) -> str | None:
    """Return why a node has no integer form where its inputs are quantized so."""
    found = [_weights(node, index) for index in (_WEIGHTS, _RECURRENT)]
    if any(one is None for one in found):
        return "its weights aren't int8 constants with one scale, or one per output channel"
    products = _products(node, sources[0], sources[0], 1, 1)
    largest = [
        np.abs(one.bias.astype(np.float64)).max(initial=0)
        + REACH * np.abs(one.weights.astype(np.int64)).sum(axis=(1, 2, 3)).max(initial=0)
        for one in products
    ]
    return "its sums may leave int32" if max(largest) > LARGEST_SUM else None


def _weights(node: onnx_ir.Node, index: int) -> Weights | None:
    """Return weights scaled per output, as [gates * hidden, 1, inputs]; None where they have another form."""
    found = quantized(node.inputs[index], 1)
    return None if found is None or found.integers.dtype != np.int8 else found


def biases(node: onnx_ir.Node) -> tuple[Array, Array]:
    """Return the biases of input and hidden state, float64: the latter only what has to be reset with it."""
    shape = shape_of(node.inputs[_RECURRENT])  # type: ignore[arg-type]
    assert shape is not None, "refuses() saw it"
    given = known(node.inputs[_BIAS]) if len(node.inputs) > _BIAS else None
    of_input, of_hidden = (
        np.zeros((2, shape[1])) if given is None else given.astype(np.float64).reshape(2, shape[1])
    )
    apart = np.zeros(shape[1], bool)
    if kind(node) == "gru-linear-before-reset":
        apart[2 * shape[2] :] = True
    return np.where(apart, of_input, of_input + of_hidden), np.where(apart, of_hidden, 0.0)


def _reaches(node: onnx_ir.Node, output: Quantization) -> list[tuple[float, float]]:
    """Return the reach, and the unit of values, of each of the activations."""
    if node.op_type == "RNN" and activations(node)[0].name == "Relu":
        most = float(2.0 ** math.ceil(math.log2(max(output.ends[1], output.scale))))
        return [(most, most)]
    return [(one.reach, 1.0) for one in activations(node)]


def _products(
    node: onnx_ir.Node, source: Quantization, output: Quantization, steps: int, batch: int
) -> tuple[Conv2d, ...]:
    """Return the products by weights, in steps of the curves' arguments."""
    which = kind(node)
    of_curve = [reach / CURVE_STEPS for reach, _ in _reaches(node, output)]
    found = []
    shares = zip((_WEIGHTS, _RECURRENT), (source, output), biases(node), (steps * batch, batch), strict=True)
    for index, quantization, bias, rows in shares:
        weights = _weights(node, index)
        assert weights is not None, "refuses() saw them"
        kernel: Array = weights.integers[:, None]
        outputs, *_, inner = kernel.shape
        per_gate = np.repeat([of_curve[number] for number in CURVES[which]], outputs // GATES[which])
        unit = quantization.scale * weights.scales
        limit = float(LARGEST_SUM)
        product = Conv2d(
            (1, 1, rows, inner), np.ascontiguousarray(kernel),
            np.clip(np.rint(bias / unit), -limit, limit).astype(np.int32),
            (unit / per_gate).astype(np.float32), quantization.zero_point, 0, -128, 127,
        )  # fmt: skip
        found.append(product)
    if which == "gru":
        of_input, of_hidden = found
        cut = 2 * len(of_hidden.weights) // 3
        found = [of_input, *(_part(of_hidden, part) for part in (slice(cut), slice(cut, None)))]
    return tuple(found)


def _part(product: Conv2d, part: slice) -> Conv2d:
    """Return the product of some of the outputs."""
    return Conv2d(
        product.input_shape, product.weights[part], product.bias[part], product.multiplier[part],
        product.input_zero_point, 0, -128, 127,
    )  # fmt: skip


def fraction_of(largest: float) -> int:
    """Return the bits behind the point of an int16 state that reaches so far on calibration samples."""
    reach = max(_LEAST_CELL, _HEADROOM * largest)
    return max(0, 15 - math.ceil(math.log2(reach)))


def lower(builder: Builder, request: Request) -> Codes:
    """Walk over the steps."""
    node, output = request.node, request.output
    which = kind(node)
    x = builder.row_major(request.inputs[0], request.name)
    steps, batch, _ = x.view.shape
    begun = {index: codes for (_, index), codes in zip(inputs(node), request.inputs, strict=True)}
    tensors = [x.tensor]
    if HIDDEN in begun:
        same = builder.requantize(begun[HIDDEN], output, f"{request.name}_initial")
        tensors.append(builder.row_major(same, request.name).tensor)
    state = output
    if _CELL in begun:
        cell = builder.row_major(begun[_CELL], request.name)
        assert cell.quantization is not None, "the analysis saw it"
        tensors.append(cell.tensor)
        state = cell.quantization
    reaches = _reaches(node, output)
    curves = np.stack([one.curve(*ends) for one, ends in zip(activations(node), reaches, strict=True)])
    fraction = CURVE_BITS
    if which == "lstm":
        fraction = int(node.metadata_props.get(CELL_FRACTION, _USUAL_FRACTION))
    elif HIDDEN in begun:
        reach = max(1.0, *(abs(end) for end in output.ends))
        fraction = CURVE_BITS - math.ceil(math.log2(reach * (1 - 2.0**-8)))
    of_kind = {"lstm": 2.0 ** (-2 * CURVE_BITS), "rnn": reaches[0][1] * 2.0**-CURVE_BITS}
    unit = of_kind.get(which, 2.0**-fraction)
    cell_shift = 0
    if which == "lstm":
        cell_shift = fraction + int(math.log2(reaches[2][0] / CURVE_STEPS))
    operation = Recurrent(
        which, steps, batch, attribute(node, "direction", "forward") == "reverse",
        _products(node, request.sources[0], output, steps, batch), curves, fraction, cell_shift,
        HIDDEN in begun, _CELL in begun, float(np.float32(state.scale * 2.0**fraction)), state.zero_point,
        float(np.float32(unit / output.scale)), output.zero_point, output.dtype,
    )  # fmt: skip
    return emit(builder, request, operation, tuple(tensors), view.row_major(request.shape))

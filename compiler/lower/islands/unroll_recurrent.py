"""Recurrent layers in float, written out step by step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import FunctionProto, NodeProto, helper, numpy_helper

from edgec.kernels.reference.precise_recurrent import DEFAULTS, activations

OPERATORS = frozenset(DEFAULTS)

MOST_STEPS = 128
"""A longer sequence would take minutes to compile."""

_FUNCTIONS = {
    "Sigmoid": (), "Tanh": (), "Relu": (), "Softsign": (), "Softplus": (), "Elu": ("alpha",),
    "LeakyRelu": ("alpha",), "ThresholdedRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"),
}  # fmt: skip
"""Activations that are operators of ONNX's, and their attributes."""
_OPSET = 18


def unrolled(node: NodeProto, types: Mapping[str, onnx.TypeProto]) -> FunctionProto | None:
    """Return the definition of an LSTM, GRU or RNN of one direction; None where it can't be written out."""
    shapes = [_shape(types.get(name)) for name in node.input[:3]]
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    x, weights, recurrent = (*shapes, None, None, None)[:3]
    if x is None or weights is None or recurrent is None or len(x) != 3 or x[0] > MOST_STEPS:
        return None
    if recurrent[0] != 1 or given.get("layout") or (len(node.input) > 4 and node.input[4]):
        return None
    names = [name.decode() for name in given.get("activations", [])] or list(DEFAULTS[node.op_type])
    if not set(names) <= _FUNCTIONS.keys():
        return None
    return _Body(node, given, x, recurrent[2], activations(names, given)).written()


def _shape(kind: onnx.TypeProto | None) -> tuple[int, ...] | None:
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    dimensions = kind.tensor_type.shape.dim
    return (
        tuple(d.dim_value for d in dimensions) if all(d.HasField("dim_value") for d in dimensions) else None
    )


class _Body:
    """A definition under construction; values are their names."""

    def __init__(
        self, node: NodeProto, given: Mapping[str, Any], x: tuple[int, ...], hidden: int,
        functions: Sequence[tuple[str, float | None, float | None]],
    ) -> None:  # fmt: skip
        """Take a node, its attributes, the shape of x, the numbers of a hidden state, and activations."""
        self.node, self.given, self.functions = node, given, functions
        self.steps, self.batch, _ = x
        self.hidden = hidden
        self.nodes: list[NodeProto] = []
        inputs = [*node.input, *[""] * 8][:8]
        names = ("x", "weights", "recurrent", "bias", "lengths", "hidden", "cell", "peepholes")
        self.inputs = {name: name if given_as else "" for name, given_as in zip(names, inputs, strict=True)}

    def written(self) -> FunctionProto:
        """Return the definition."""
        transposed = [
            self._add("Transpose", self._add("Squeeze", name, self._ints(0)), perm=[1, 0])
            for name in ("weights", "recurrent")
        ]
        product, self.recurrent = self._add("MatMul", "x", transposed[0]), transposed[1]
        self.bias = ""
        gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[self.node.op_type]
        if self.inputs["bias"]:
            both = self._add("Squeeze", "bias", self._ints(0))
            of_input, self.bias = self._split(both, [gates * self.hidden] * 2, 0)
            product = self._add("Add", product, of_input)
        zero = self._constant(np.zeros((self.batch, self.hidden), np.float32))
        hidden, cell = (
            self._add("Squeeze", name, self._ints(0)) if self.inputs[name] else zero
            for name in ("hidden", "cell")
        )
        self.peepholes = [""] * 3
        if self.inputs["peepholes"]:
            self.peepholes = self._split(
                self._add("Squeeze", "peepholes", self._ints(0)), [self.hidden] * 3, 0
            )
        states = {}
        step_of = {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[self.node.op_type]
        order = range(self.steps)
        for step in order[::-1] if self.given.get("direction") == b"reverse" else order:
            index = self._constant(np.array(step, np.int64))
            hidden, cell = step_of(self._add("Gather", product, index, axis=0), hidden, cell)
            states[step] = self._add("Unsqueeze", hidden, self._ints(0, 1))
        results = [self._add("Concat", *(states[step] for step in order), axis=0)]
        results += [self._add("Unsqueeze", one, self._ints(0)) for one in (hidden, cell)]
        outputs = results[: len(self.node.output)]
        return helper.make_function(
            "edgec", self.node.op_type, [*self.inputs][: len(self.node.input)], outputs, self.nodes,
            [helper.make_opsetid("", _OPSET)],
        )  # fmt: skip

    def _lstm(self, x: str, hidden: str, cell: str) -> tuple[str, str]:
        gates = self._add("Add", x, self._product(hidden))
        i, o, f, c = self._split(gates, [self.hidden] * 4, 1)
        i = self._curve(0, self._peeped(i, 0, cell))
        if self.given.get("input_forget"):
            f = self._add("Sub", self._constant(np.float32(1)), i)
        else:
            f = self._curve(0, self._peeped(f, 2, cell))
        kept, fresh = self._add("Mul", f, cell), self._add("Mul", i, self._curve(1, c))
        cell = self._add("Add", kept, fresh)
        o = self._curve(0, self._peeped(o, 1, cell))
        return self._add("Mul", o, self._curve(2, cell, clipped=False)), cell

    def _gru(self, x: str, hidden: str, cell: str) -> tuple[str, str]:
        size = self.hidden
        if self.given.get("linear_before_reset"):
            of_hidden = self._split(self._product(hidden), [size] * 3, 1)
        else:
            rows = self._split(self.recurrent, [2 * size, size], 1)
            biases = self._split(self.bias, [2 * size, size], 0) if self.bias else ["", ""]
            both = self._product(hidden, rows[0], biases[0])
            of_hidden = [*self._split(both, [size] * 2, 1), ""]
        of_input = self._split(x, [size] * 3, 1)
        z, r = (self._curve(0, self._add("Add", of_input[number], of_hidden[number])) for number in range(2))
        if self.given.get("linear_before_reset"):
            last = self._add("Mul", r, of_hidden[2])
        else:
            last = self._product(self._add("Mul", r, hidden), rows[1], biases[1])
        fresh = self._curve(1, self._add("Add", of_input[2], last))
        rest = self._add("Sub", self._constant(np.float32(1)), z)
        state = self._add("Add", self._add("Mul", rest, fresh), self._add("Mul", z, hidden))
        return state, cell

    def _rnn(self, x: str, hidden: str, cell: str) -> tuple[str, str]:
        return self._curve(0, self._add("Add", x, self._product(hidden))), cell

    def _product(self, hidden: str, matrix: str = "", bias: str | None = None) -> str:
        product = self._add("MatMul", hidden, matrix or self.recurrent)
        added = self.bias if bias is None else bias
        return self._add("Add", product, added) if added else product

    def _peeped(self, gate: str, number: int, cell: str) -> str:
        seen = self.peepholes[number]
        return self._add("Add", gate, self._add("Mul", seen, cell)) if seen else gate

    def _curve(self, number: int, argument: str, clipped: bool = True) -> str:
        name, alpha, beta = self.functions[number]
        limit = self.given.get("clip")
        if limit and clipped:
            ends = (self._constant(np.array(end, np.float32)) for end in (-limit, limit))
            argument = self._add("Clip", argument, *ends)
        attributes = {
            key: value
            for key, value in (("alpha", alpha), ("beta", beta))
            if key in _FUNCTIONS[name] and value is not None
        }
        return self._add(name, argument, **attributes)

    def _split(self, value: str, sizes: list[int], axis: int) -> list[str]:
        outputs = [f"v{len(self.nodes)}_{i}" for i in range(len(sizes))]
        self.nodes.append(helper.make_node("Split", [value, self._ints(*sizes)], outputs, axis=axis))
        return outputs

    def _ints(self, *values: int) -> str:
        return self._constant(np.array(values, np.int64))

    def _constant(self, array: np.ndarray | np.generic) -> str:
        return self._add("Constant", value=numpy_helper.from_array(np.asarray(array)))

    def _add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

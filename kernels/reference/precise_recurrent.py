"""LSTM, GRU and RNN in numpy, for `precise`: every direction and activation, and the cell at every step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, helper
from onnx.reference.op_run import OpRun

from edgec.kernels.reference.precise_operators import Array

Function = Callable[[Array], Array]

CELL_DOMAIN = "edgec"
"""Operator set of `Cell`, which a model is given for calibration alone."""

DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
"""Activations of an operator that names none, of one direction."""


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), where nothing overflows."""
    return 0.5 * (1 + np.tanh(0.5 * x))


@dataclass(frozen=True, eq=False)
class Walk:
    """One direction of a recurrent layer, float."""

    operator: str
    """LSTM, GRU or RNN."""
    recurrent: Array
    """[gates * hidden, hidden]."""
    bias: Array
    """[gates * hidden]: what the products of the hidden state get."""
    functions: Sequence[Function]
    reverse: bool = False
    linear_before_reset: bool = False
    peepholes: Array | None = None
    """[3, hidden]: what the gates i, o, f of an LSTM see of its cell."""

    def run(self, projected: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
        """Return hidden state [steps, batch, hidden] and cell (GRU's and RNN's is the former) of every step.

        `projected` are the products of every step's input, biases included, [steps, batch, gates * hidden].
        """
        states, cells = np.empty((2, *projected.shape[:2], hidden.shape[-1]), projected.dtype)
        order = range(len(projected))[:: -1 if self.reverse else 1]
        for step in order:
            hidden, cell = self._step(projected[step], hidden, cell)
            states[step], cells[step] = hidden, cell
        return states, cells

    def _step(self, x: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
        f, *others = self.functions
        size = hidden.shape[-1]
        if self.operator == "RNN":
            state = f(x + hidden @ self.recurrent.T + self.bias)
            return state, state
        if self.operator == "LSTM":
            i, o, forget, c = np.split(x + hidden @ self.recurrent.T + self.bias, 4, axis=-1)
            seen = np.zeros((3, 1)) if self.peepholes is None else self.peepholes
            cell = f(forget + seen[2] * cell) * cell + f(i + seen[0] * cell) * others[0](c)
            return f(o + seen[1] * cell) * others[1](cell), cell
        both = x[:, : 2 * size] + hidden @ self.recurrent[: 2 * size].T + self.bias[: 2 * size]
        z, r = np.split(f(both), 2, axis=-1)
        last, bias = self.recurrent[2 * size :].T, self.bias[2 * size :]
        added = r * (hidden @ last + bias) if self.linear_before_reset else (r * hidden) @ last + bias
        state = (1 - z) * others[0](x[:, 2 * size :] + added) + z * hidden
        return state, state


def function(name: str, alpha: float | None, beta: float | None) -> Function:
    """Return an activation by ONNX's name. Raises KeyError for one that isn't there."""
    a = {"HardSigmoid": 0.2}.get(name, 1.0) if alpha is None else alpha
    b = {"HardSigmoid": 0.5}.get(name, 1.0) if beta is None else beta
    table: dict[str, Function] = {
        "Sigmoid": sigmoid,
        "Tanh": np.tanh,
        "Relu": lambda x: np.maximum(x, 0),
        "HardSigmoid": lambda x: np.clip(a * x + b, 0, 1),
    }
    return table[name]


_WITH_BETA = ("Affine", "HardSigmoid", "ScaledTanh")
_WITH_ALPHA = (*_WITH_BETA, "Elu", "LeakyRelu", "ThresholdedRelu")


def activations(
    names: Sequence[str], given: Mapping[str, Any]
) -> list[tuple[str, float | None, float | None]]:
    """Return activations with alpha and beta: those that have some take the attributes' values in turn."""
    alphas, betas = (list(given.get(f"activation_{one}") or []) for one in ("alpha", "beta"))
    return [
        (
            name,
            alphas.pop(0) if name in _WITH_ALPHA and alphas else None,
            betas.pop(0) if name in _WITH_BETA and betas else None,
        )
        for name in names
    ]


class _Recurrent(OpRun):
    """What the three have in common; ONNX's own evaluators know no activations but the first."""

    def _run(self, *inputs: Array | None, **_attributes: object) -> tuple[Array, ...]:
        states, _, ends = _evaluated(self.onnx_node, type(self).__name__, inputs)
        results = (states, *ends)
        return results[: 3 if isinstance(self, LSTM) else 2]


class LSTM(_Recurrent):
    """Hidden states, the last of them, and the last cell."""


class GRU(_Recurrent):
    """Hidden states, and the last of them."""


class RNN(_Recurrent):
    """Hidden states, and the last of them."""


class Cell(OpRun):
    """The cell of an LSTM, with its inputs and attributes, at every step: what its range is observed on."""

    op_domain = CELL_DOMAIN

    def _run(self, *inputs: Array | None, **_attributes: object) -> tuple[Array]:
        _, cells, _ = _evaluated(self.onnx_node, "LSTM", inputs)
        return (cells,)


def _evaluated(
    node: NodeProto, operator: str, inputs: Sequence[Array | None]
) -> tuple[Array, Array, tuple[Array, Array]]:
    """Return hidden states and cells of every step, and the last of both. Raises NotImplementedError."""
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    x, weights, recurrent, bias, lengths, hidden, cell, peepholes = (*inputs, *[None] * 8)[:8]
    if given.get("clip") or given.get("input_forget"):
        raise NotImplementedError("limits and coupled gates")
    x, weights, recurrent = (np.asarray(one) for one in (x, weights, recurrent))
    batch_first = bool(given.get("layout"))
    directions, gates, size = recurrent.shape
    if batch_first:
        x = x.transpose(1, 0, 2)
        hidden, cell = (one if one is None else one.transpose(1, 0, 2) for one in (hidden, cell))
    if lengths is not None and (lengths != len(x)).any():
        raise NotImplementedError("sequences that end early")
    zero = np.zeros((directions, x.shape[1], size), x.dtype)
    hidden, cell = (zero if one is None else one for one in (hidden, cell))
    biases = np.zeros((directions, 2, gates)) if bias is None else bias.reshape(directions, 2, gates)
    names = [name.decode() for name in given.get("activations", [])] or DEFAULTS[operator] * directions
    curves = [function(*one) for one in activations(names, given)]
    per_direction = len(names) // directions
    states, cells = [], []
    for d in range(directions):
        own = curves[d * per_direction : (d + 1) * per_direction]
        walk = Walk(
            operator, recurrent[d], biases[d, 1], own,
            given.get("direction", b"forward") == b"reverse" or d == 1,
            bool(given.get("linear_before_reset")),
            None if peepholes is None else peepholes[d].reshape(3, size),
        )  # fmt: skip
        found = walk.run(x @ weights[d].T + biases[d, 0], hidden[d], cell[d])
        states.append((found[0], found[0][0 if walk.reverse else -1]))
        cells.append((found[1], found[1][0 if walk.reverse else -1]))
    every = [np.stack([one for one, _ in which], axis=1) for which in (states, cells)]
    last = [np.stack([one for _, one in which]) for which in (states, cells)]
    if batch_first:
        every = [one.transpose(2, 0, 1, 3) for one in every]
        last = [one.transpose(1, 0, 2) for one in last]
    return every[0], every[1], (last[0], last[1])


RECURRENT: tuple[type[OpRun], ...] = (LSTM, GRU, RNN, Cell)

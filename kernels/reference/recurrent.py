"""Recurrent layers."""

import numpy as np

from edgec.arrays import Array
from edgec.kernels.operations import Conv2d, Recurrent
from edgec.kernels.operations.recurrent import CURVE_BITS, CURVE_STEPS, CURVES
from edgec.kernels.reference.rounding import FLOAT, requantize
from edgec.targets.descriptor import Requantization

_ONE = 1 << CURVE_BITS


def recurrent(op: Recurrent, x: Array, *initial: Array, requantization: Requantization = FLOAT) -> Array:
    """Walk over the steps: products of input and hidden state, curves of their sums, the new state."""
    hidden, gates = op.hidden, len(CURVES[op.kind])
    given = np.asarray(x).reshape(op.steps, op.batch, op.inputs)
    rest = [state.reshape(op.batch, hidden) for state in initial]
    h = rest.pop(0) if op.initial_hidden else np.full((op.batch, hidden), op.output_zero_point, np.int8)
    codes = np.full((op.batch, hidden), op.state_zero_point, np.int8)
    if op.kind != "lstm":
        codes = h
    elif op.initial_cell:
        codes = rest.pop(0)
    bounds = 0, -(2**15), 2**15 - 1, "int16"
    centred = codes.astype(np.int32) - op.state_zero_point
    state = requantize(centred, np.float32(op.state_multiplier), *bounds, requantization).astype(np.int32)
    result = np.empty((op.steps, op.batch, hidden), np.int8)
    for step in range(op.steps)[:: -1 if op.reverse else 1]:
        of_input = _preactivations(op.products[0], given[step], requantization).reshape(-1, gates, hidden)
        of_hidden = _preactivations(op.products[1], h, requantization).reshape(op.batch, -1, hidden)

        def gate(number: int, added: Array, of_input: Array = of_input) -> Array:
            return curve(op.curves[CURVES[op.kind][number]], of_input[:, number] + added)

        if op.kind == "lstm":
            i, o, f, c = (gate(number, of_hidden[:, number]) for number in range(4))
            state = _mixed(f, state, i, c, op.fraction)
            value = o * curve(op.curves[2], _shifted(state, op.cell_shift))
        elif op.kind == "rnn":
            value = gate(0, of_hidden[:, 0])
        else:
            z, r = (gate(number, of_hidden[:, number]) for number in range(2))
            if op.kind == "gru":
                factor = np.float32(op.multiplier / _ONE)
                bounds = op.output_zero_point, -128, 127, "int8"
                reset = requantize(r * state, factor, *bounds, requantization)
                added = _preactivations(op.products[2], reset, requantization)
            else:
                added = (r * of_hidden[:, 2] + _ONE // 2) >> CURVE_BITS
            value = state = _mixed(z, state, _ONE - z, gate(2, added), op.fraction)
        bounds = op.output_zero_point, -128, 127, "int8"
        h = result[step] = requantize(value, np.float32(op.multiplier), *bounds, requantization)
    return result


def _preactivations(product: Conv2d, x: Array, requantization: Requantization) -> Array:
    """Return products by weights as int16 in steps of a curve's argument."""
    weights = product.weights.reshape(len(product.weights), -1).astype(np.int64)
    total = (x.astype(np.int64) - product.input_zero_point) @ weights.T + product.bias
    if total.size and np.abs(total).max() >= 2**31:
        raise OverflowError("accumulator leaves int32")
    bounds = 0, -(2**15) + 1, 2**15 - 1, "int16"
    found = requantize(total.astype(np.int32), product.multiplier, *bounds, requantization)
    return np.asarray(found, np.int32)


def curve(entries: Array, argument: Array) -> Array:
    """Return the values of a curve, on straight lines between its 257 points, in units of 2**-15."""
    place = np.clip(argument, -CURVE_STEPS, CURVE_STEPS - 1).astype(np.int64) + CURVE_STEPS
    entry = entries[place >> 7].astype(np.int64)
    slope = ((entry & 0xFFFF) ^ 0x8000) - 0x8000
    return np.asarray((entry >> 16) + ((slope * (place & 127) + 64) >> 7), np.int32)


def _mixed(forget: Array, state: Array, fresh: Array, value: Array, fraction: int) -> Array:
    """Return forget * state + fresh * value as an int16 state; factors and value in units of 2**-15."""
    total = forget * state + ((fresh * value) >> (CURVE_BITS - fraction))
    rounded = (total.astype(np.int64) + _ONE // 2) >> CURVE_BITS
    return np.asarray(np.clip(rounded, -(2**15), 2**15 - 1), np.int32)


def _shifted(state: Array, shift: int) -> Array:
    """Return the cell in steps of its curve."""
    return np.asarray(state << -shift if shift <= 0 else (state + (1 << (shift - 1))) >> shift)

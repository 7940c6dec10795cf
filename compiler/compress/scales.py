"""Choose scale and zero point of every tensor from observed ranges."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir

from edgec.compiler.compress.int8_regions import Unit
from edgec.compiler.compress.observers import Range
from edgec.compiler.graph import constant
from edgec.compiler.operators.recurrent import HIDDEN
from edgec.kernels.operations import Quantization

_SMALLEST_RANGE = 1e-20
"""Below it a tensor counts as constant zero: smaller scales would multiply into float32 subnormals."""


def quantization(low: float, high: float) -> Quantization:
    """Return the quantization that covers [low, high] and 0, with 0 exactly representable."""
    low, high = min(low, 0.0), max(high, 0.0)
    unit = Quantization(1.0, 0)
    if high - low < _SMALLEST_RANGE:
        return unit
    scale = float(np.float32((high - low) / (unit.highest - unit.lowest)))
    zero_point = np.clip(np.rint(unit.lowest - low / scale), unit.lowest, unit.highest)
    return replace(unit, scale=scale, zero_point=int(zero_point))


def tensors(units: Sequence[Unit]) -> list[onnx_ir.Value]:
    """Return every value that is int8 somewhere, once, in the graph's order."""
    return list(dict.fromkeys(value for unit in units for value in (*unit.inputs, *unit.outputs)))


def observed(units: Sequence[Unit]) -> list[str]:
    """Return the names of the values whose ranges decide the scales."""
    moved = {value for unit in units if unit.role == "movement" for value in unit.outputs}
    return [str(value.name) for value in tensors(units) if value not in moved]


def scales(units: Sequence[Unit], ranges: Mapping[str, Range]) -> dict[str, Quantization]:
    """Return the quantization of every int8 tensor, by name.

    What moves data shares its input's. The inputs of a concatenation take over the concatenation's where
    nothing else reads them, so that it is a copy.
    """
    leader = {value: value for value in tensors(units)}

    def find(value: onnx_ir.Value) -> onnx_ir.Value:
        while leader[value] is not value:
            value = leader[value]
        return value

    for unit in units:
        if unit.role == "movement":
            for output in unit.outputs:
                leader[find(output)] = find(unit.inputs[0])
        elif unit.role == "recurrent":  # the hidden state is read as it is written, from the first step on
            for node, index in unit.row.inputs(unit.node):
                value = node.inputs[index]
                if index == HIDDEN and value in leader:
                    leader[find(value)] = find(unit.outputs[0])
    fixed = _fixed(units, ranges)
    for unit in units:
        if unit.role == "concat":
            for value in unit.inputs:
                group = [member for member in leader if find(member) is find(value)]
                if not fixed.keys() & set(group) and _read_only_by(group, unit, units):
                    leader[find(value)] = find(unit.outputs[0])

    known = {find(value): quantization for value, quantization in fixed.items()}
    extremes: dict[onnx_ir.Value, list[float]] = {}
    for value in leader:
        extremes.setdefault(find(value), []).extend(ranges.get(str(value.name), ()))
    padded: dict[onnx_ir.Value, list[float]] = {}
    for unit in units:
        if unit.role == "recurrent":
            states = [constant(node.inputs[i]) for node, i in unit.row.inputs(unit.node) if i == HIDDEN]
            ends = [float(end) for state in states if state is not None for end in (state.min(), state.max())]
            padded.setdefault(find(unit.outputs[0]), []).extend(ends)
        if unit.node.op_type == "Pad":
            padded.setdefault(find(unit.inputs[0]), []).append(_fill(unit.node))
    chosen = {
        group: _chosen(known.get(group), ends, padded.get(group, [])) for group, ends in extremes.items()
    }
    return {str(value.name): chosen[find(value)] for value in leader}


def _chosen(known: Quantization | None, ends: list[float], fills: list[float]) -> Quantization:
    """Return the quantization of values that share one: a known one unless a padding's number leaves it."""
    if known is None:
        return quantization(min([*ends, *fills]), max([*ends, *fills]))
    low, high = known.ends
    if all(low <= fill <= high for fill in fills):
        return known
    return quantization(min([low, *fills]), max([high, *fills]))


def _fixed(units: Sequence[Unit], ranges: Mapping[str, Range]) -> dict[onnx_ir.Value, Quantization]:
    """Return the tensors whose range is known beforehand, but where samples stay far from it."""
    return {
        unit.outputs[0]: known
        for unit in units
        if (known := unit.row.output) is not None
        and not (unit.row.output_narrows and _is_narrow(ranges.get(str(unit.outputs[0].name)), known))
    }


def _is_narrow(found: Range | None, known: Quantization) -> bool:
    """Whether samples show less than half of a known range."""
    whole = (known.highest - known.lowest) * known.scale
    return found is not None and 2 * (max(found[1], 0) - min(found[0], 0)) < whole


def _read_only_by(group: Sequence[onnx_ir.Value], concat: Unit, units: Sequence[Unit]) -> bool:
    """Whether nothing reads the tensors of `group` but `concat` and what moves them on their way there."""
    movers = {unit.node for unit in units if unit.role == "movement"} | {concat.node}
    return all(
        not value.is_graph_output() and all(usage.node in movers for usage in value.uses()) for value in group
    )


def _fill(node: onnx_ir.Node) -> float:
    """Return the value that a Pad node pads with."""
    array = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return 0.0 if array is None else float(array.reshape(-1)[0])

"""Lower a float island: the part of a model that Relax compiles, called through the kernels' ABI."""

import onnx

from edgec.compiler.lower.islands import refusals
from edgec.compiler.lower.islands.island_code import IslandCode, island_code
from edgec.compiler.lower.islands.relax_import import import_onnx
from edgec.compiler.lower.islands.trial import faults, filled, singles
from edgec.errors import UnsupportedError
from edgec.kernels.codegen.native import compile_object
from edgec.kernels.operations import Island, Operator
from edgec.targets.descriptor import Target


def lower_island(operator: Operator, target: Target) -> IslandCode:
    """Return the calls that compute `operator`, an island.

    Raises UnsupportedError naming every node that can't be compiled as ONNX defines it, with its operator and
    the reason.
    """
    island = operator.operation
    assert isinstance(island, Island)
    model = onnx.load_from_string(island.model)
    if refused := faults(model) or ([] if target.platform.has_c_library else _lacking(model, target)):
        raise UnsupportedError(
            "; ".join(f"node '{name}' ({kind}) can't be compiled: {why}" for name, kind, why in refused)
        )
    try:
        return island_code(import_onnx(_lying(model, island.order)), operator, target)
    except Exception as error:  # TVM raises every kind there is
        if refusals.of_this_machine(error):
            raise
        blamed = [node for node, single in singles(model) if not _schedules(single, target)]
        nodes = ", ".join(f"node '{node.name}' ({node.op_type})" for node in blamed or model.graph.node)
        how = f"for {target.device}" if blamed or len(model.graph.node) == 1 else "together"
        raise UnsupportedError(f"{nodes} can't be compiled {how}") from error


def _schedules(single: onnx.ModelProto | str, target: Target) -> bool:
    """Whether a node alone can be lowered for a target: trials see it on this machine's architecture."""
    try:
        assert not isinstance(single, str), "faults() tried it"
        _code(single, target)
    except Exception:  # TVM raises every kind there is
        return False
    return True


def _code(single: onnx.ModelProto, target: Target) -> IslandCode:
    names = tuple(v.name for v in single.graph.input), tuple(v.name for v in single.graph.output)
    return island_code(import_onnx(filled(single)), Operator("node", Island(b""), *names), target)


def _lacking(model: onnx.ModelProto, target: Target) -> list[tuple[str, str, str]]:
    """Return (name, operator, reason) of nodes whose code needs functions that firmware doesn't have."""
    found = []
    for node, single in singles(model):
        assert not isinstance(single, str), "faults() tried it"
        try:
            for symbol, function in _code(single, target).functions.items():
                compile_object(function.make(), symbol, target)
        except UnsupportedError as error:
            found.append((node.name, node.op_type, str(error)))
    return found


def _lying(model: onnx.ModelProto, order: tuple[int, ...] | None) -> onnx.ModelProto:
    """Return an island's model with shapes as its tensors lie: element by element it computes the same."""
    scalars = {constant.name for constant in model.graph.initializer}
    for value in () if order is None else (*model.graph.input, *model.graph.value_info, *model.graph.output):
        if value.name in scalars:
            continue
        dimensions = value.type.tensor_type.shape.dim
        extents = [dimension.dim_value for dimension in dimensions]
        for dimension, axis in zip(dimensions, order or (), strict=True):
            dimension.dim_value = extents[axis]
    return model

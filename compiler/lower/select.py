"""Choose a kernel for every operator: from the network to the program."""

import hashlib

from edgec.compiler.lower.island import IslandCode, lower_island
from edgec.compiler.program import Call, Function, Program
from edgec.errors import UnsupportedError
from edgec.kernels.kernel import Kernel, KernelCode
from edgec.kernels.operators import Conv2d, Island, Network, Operator
from edgec.kernels.table import candidates
from edgec.targets.descriptor import Target


def select(network: Network, target: Target) -> Program:
    """Return the program that computes `network` on `target`.

    Raises UnsupportedError, naming all of them, when operators have no kernel.
    """
    calls: list[Call] = []
    functions: dict[str, Function] = {}
    tensors = {name: t for name, t in network.tensors.items() if name not in network.constants}
    constants = dict(network.constants)
    refused = []
    for operator in network.operators:
        try:
            if isinstance(operator.operation, Island):
                lowered = lower_island(operator, target, network.tensors)
            else:
                lowered = _lower(operator, target)
        except UnsupportedError as error:
            refused.append(str(error))
            continue
        calls += lowered.calls
        functions |= lowered.functions
        tensors |= lowered.tensors
        constants |= lowered.constants
    if refused:
        raise UnsupportedError("; ".join(refused))
    return Program(
        target, tuple(calls), functions, tensors, constants,
        tuple(tensors[name] for name in network.inputs), tuple(tensors[name] for name in network.outputs),
    )  # fmt: skip


def _lower(operator: Operator, target: Target) -> IslandCode:
    """Return the call of the best kernel of the table for one operator."""
    found = next(candidates(operator.operation, target), None)
    if found is None:
        kind = type(operator.operation).__name__
        raise UnsupportedError(f"layer '{operator.name}' ({kind}) has no kernel on {target.name}")
    kernel, code = found
    constants = {f"{operator.name}.{i}": array for i, array in enumerate(code.constants)}
    symbol = _symbol(kernel, code)
    arguments = (*operator.inputs, *constants, *operator.outputs)
    call = Call(
        operator.name, kernel.name, symbol, arguments, operator.outputs, code.tiles, code.scratch_bytes,
        operator.operation.macs if isinstance(operator.operation, Conv2d) else 0,
        tuple((operator.inputs[i], operator.outputs[0]) for i in code.inplace),
    )  # fmt: skip
    function = Function(symbol, f"{kernel.name}: {code.key}", code.make, len(arguments))
    return IslandCode((call,), {symbol: function}, {}, constants)


def _symbol(kernel: Kernel, code: KernelCode) -> str:
    return f"edgec_{kernel.name}_{hashlib.sha256(code.key.encode()).hexdigest()[:12]}"

"""Choose a kernel for every operator: from the network to the program."""

from edgec.compiler.lower.islands.island import lower_island
from edgec.compiler.lower.islands.island_code import IslandCode
from edgec.compiler.program import Call, Function, Program
from edgec.compiler.records.records import Records
from edgec.errors import UnsupportedError
from edgec.kernels.kernel import Kernel, KernelCode
from edgec.kernels.operations import (
    INEXACT,
    Attention,
    Chain,
    Conv2d,
    FloatConv2d,
    Island,
    Network,
    Operator,
    Product,
    Recurrent,
)
from edgec.kernels.table import candidates
from edgec.targets.descriptor import Target

_COUNTED = Conv2d | Chain | FloatConv2d | Product | Attention | Recurrent
"""Operations whose multiply-accumulates are counted."""


def select(network: Network, target: Target, records: Records) -> Program:
    """Return the program that computes `network` on `target`.

    A layer gets the code that `records` found fastest, else the first of the table's. Raises
    UnsupportedError, naming all of them, when operators have no kernel.
    """
    calls: list[Call] = []
    functions: dict[str, Function] = {}
    tensors = {name: t for name, t in network.tensors.items() if name not in network.constants}
    constants = dict(network.constants)
    refused = []
    for operator in network.operators:
        if not operator.computes:
            continue
        try:
            if isinstance(operator.operation, Island):
                lowered = lower_island(operator, target)
            else:
                lowered = lower(operator, *choose(operator, target, records))
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


def choose(operator: Operator, target: Target, records: Records) -> tuple[Kernel, KernelCode]:
    """Return the code that the layer's record names, if there is any; else the first."""
    record = records.find(operator, target)
    first = None
    for kernel, code in candidates(operator.operation, target, operator.demands):
        first = first or (kernel, code)
        if record is None or (kernel.name, code.configuration) == (record.kernel, record.configuration):
            return kernel, code
    if first is None:
        kind = type(operator.operation).__name__
        raise UnsupportedError(f"layer '{operator.name}' ({kind}) has no kernel on {target.name}")
    return first


def lower(operator: Operator, kernel: Kernel, code: KernelCode) -> IslandCode:
    """Return the call that computes `operator` by `code` of `kernel`."""
    constants = {f"{operator.name}.{i}": array for i, array in enumerate(code.constants)}
    symbol = kernel.symbol(code)
    arguments = (*operator.reads, *constants, *operator.outputs)
    # What an operator reads twice may be read around an element that is written already.
    shared = [operator.inputs[i] for i in code.inplace if operator.inputs.count(operator.inputs[i]) == 1]
    call = Call(
        operator.name, kernel.name, symbol, arguments, operator.outputs, code.tiles, code.scratch_bytes,
        operator.operation.macs if isinstance(operator.operation, _COUNTED) else 0,
        tuple((name, operator.outputs[0]) for name in shared), code.configuration,
        checked=not isinstance(operator.operation, INEXACT),
    )  # fmt: skip
    functions = {}
    for made_by, part in ((kernel, code), *code.callees):
        called = tuple(row.symbol(callee) for row, callee in part.callees)
        function = Function(made_by.symbol(part), f"{made_by.name}: {part.key}", part.make, called)
        functions[function.symbol] = function
    return IslandCode((call,), functions, {}, constants)

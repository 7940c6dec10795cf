"""Which convolutions can be one step, and the network in which some are."""

from collections.abc import Iterable
from dataclasses import replace
from math import prod

from edgec.kernels.operations import FREE, Chain, Conv2d, Demands, Network, Operator

Members = tuple[Operator, ...]
"""Convolutions in execution order, each of the one before's result, which nobody else reads."""


def members_of(network: Network) -> dict[str, Members]:
    """Return every convolution that may be in a chain as a chain of one, by name."""
    return {operator.name: (operator,) for operator in network.operators if _may_join(operator)}


def join(network: Network, first: Members, second: Members) -> Members | None:
    """Return both as one chain, or None where `second` doesn't read `first`'s result, and it alone."""
    (result,) = first[-1].outputs
    readers = [name for operator in network.operators for name in operator.inputs].count(result)
    alone = readers == 1 and result not in network.outputs
    joined = alone and second[0].inputs == (result,)
    # A residual is added by the last convolution only, and its operand may come as late as that.
    with_residual = alone and len(second) == 1 and second[0].inputs[0] == result
    plain = len(first[-1].inputs) == 1
    return (*first, *second) if plain and (joined or with_residual) else None


def around_depthwise(network: Network) -> list[Members]:
    """Return a chain for each depthwise convolution, no convolution in two of them.

    expand -> depthwise -> project: with the convolution before, and the pointwise one behind.
    """
    single = members_of(network)
    made_by = {name: operator.name for operator in network.operators for name in operator.outputs}
    read_by = {operator.inputs[0]: operator.name for operator in network.operators if operator.inputs}
    found: list[Members] = []
    taken: set[str] = set()
    for operator in network.operators:
        if operator.name not in single or not _depthwise(operator):
            continue
        members = single[operator.name]
        before = single.get(made_by.get(operator.inputs[0], ""))
        if before is not None and before[0].name not in taken and not _depthwise(before[0]):
            members = join(network, before, members) or members
        after = single.get(read_by.get(operator.outputs[0], ""))
        if after is not None and _pointwise(after[0]):
            members = join(network, members, after) or members
        if len(members) > 1:
            found.append(members)
            taken.update(member.name for member in members)
    return found


def between_waists(network: Network) -> list[Members]:
    """Return the chains between tensors that are smaller than those before and behind them.

    first -> depthwise, pointwise -> depthwise at stride 2: each begins where tensors grow again.
    """
    found: list[Members] = []
    shrunk = False
    for members in members_of(network).values():
        operation = members[0].operation
        assert isinstance(operation, Conv2d), "chains are of convolutions"
        change = prod(operation.output_shape) - prod(operation.input_shape)
        joined = join(network, found[-1], members) if found and not (shrunk and change > 0) else None
        if joined is None:
            found.append(members)
            shrunk = change < 0
        else:
            found[-1] = joined
            shrunk = shrunk or change < 0
    return [members for members in found if len(members) > 1]


def fused(network: Network, chosen: Iterable[Members]) -> Network:
    """Return `network` with each of `chosen` as one operator, in the place of its last."""
    last = {members[-1].name: members for members in chosen}
    inner = {member.name for members in last.values() for member in members[:-1]}
    gone = {member.outputs[0] for members in last.values() for member in members[:-1]}
    operators = tuple(
        operator if operator.name not in last else joined(last[operator.name])
        for operator in network.operators
        if operator.name not in inner
    )
    tensors = {name: tensor for name, tensor in network.tensors.items() if name not in gone}
    return replace(network, operators=operators, tensors=tensors)


def name_of(members: Members) -> str:
    """Return what a chain is called: like the layers that it joins."""
    return "+".join(member.name for member in members)


def operation_of(members: Members) -> Chain:
    """Return what a chain computes."""
    return Chain(tuple(m.operation for m in members if isinstance(m.operation, Conv2d)))


def joined(members: Members) -> Operator:
    """Return a chain as one operator."""
    # The first's input, and the last's residual if it has one.
    inputs = members[0].inputs[0], *members[-1].inputs[1:]
    stages = tuple(member.demands for member in members)
    demands = Demands(stages=stages if any(stage != FREE for stage in stages) else ())
    return Operator(name_of(members), operation_of(members), inputs, members[-1].outputs, demands)


def _may_join(operator: Operator) -> bool:
    """Whether it is a convolution whose weights no instruction set refuses.

    One that does would leave the whole chain to slower instructions. Groups of several channels are no loss.
    """
    operation = operator.operation
    if not isinstance(operation, Conv2d) or operation.weights.dtype != "int8":
        return False
    return int(operation.weights.min()) > -128 and (operation.groups == 1 or _depthwise(operator))


def _depthwise(operator: Operator) -> bool:
    operation = operator.operation
    assert isinstance(operation, Conv2d), "asked of convolutions only"
    return operation.groups == operation.input_shape[3] == len(operation.weights) > 1


def _pointwise(operator: Operator) -> bool:
    operation = operator.operation
    assert isinstance(operation, Conv2d), "asked of convolutions only"
    return operation.groups == 1 and operation.weights.shape[1:3] == (1, 1)

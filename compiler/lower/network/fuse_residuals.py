"""Let convolutions add what is added to their results: one pass over memory instead of two."""

from collections import Counter
from dataclasses import replace

import numpy as np

from edgec.kernels.operations import Binary, Conv2d, FloatBinary, FloatConv2d, Network, Operator


def fuse_residuals(network: Network) -> Network:
    """Return `network` with additions to a convolution's result, where nobody else reads that, fused into it.

    The convolution moves to where the addition was. Where both operands come from convolutions, the later one
    takes the addition, as its input would have to be kept for the shorter time.
    """
    readers = Counter(name for operator in network.operators for name in operator.inputs)
    readers.update(network.outputs)
    convolutions: dict[str, Operator] = {}  # by the tensor that they compute
    kept: dict[str, Operator] = {}
    for operator in network.operators:
        kept[operator.name] = operator
        operation = operator.operation
        if isinstance(operation, Conv2d | FloatConv2d) and _takes_addition(operation):
            convolutions[operator.outputs[0]] = operator
        elif (
            isinstance(operation, Binary | FloatBinary) and operation.kind == "add" and operation.elementwise
        ):
            own = [name for name in convolutions if name in operator.inputs and readers[name] == 1]
            if own:
                taken = convolutions.pop(own[-1])
                del kept[taken.name]
                kept[operator.name] = _fused(taken, operator)
    gone = {operator.outputs[0] for operator in network.operators}
    gone -= {name for operator in kept.values() for name in operator.outputs}
    tensors = {name: tensor for name, tensor in network.tensors.items() if name not in gone}
    return replace(network, operators=tuple(kept.values()), tensors=tensors)


def _takes_addition(operation: Conv2d | FloatConv2d) -> bool:
    """Whether a convolution's epilogue can add; a float one clips last."""
    if operation.residual or operation.groups > 1:
        return False
    return isinstance(operation, Conv2d) or (operation.low, operation.high) == (-np.inf, np.inf)


def _fused(convolution: Operator, addition: Operator) -> Operator:
    operation, added = convolution.operation, addition.operation
    if isinstance(operation, FloatConv2d):
        assert isinstance(added, FloatBinary), "both are float"
        other = next((name for name in addition.inputs if name != convolution.outputs[0]), None)
        assert other is not None, "the convolution's result is read once"
        clipping = replace(operation, residual=True, low=added.low, high=added.high)
        return Operator(
            f"{convolution.name}+{addition.name}", clipping, (*convolution.inputs, other), addition.outputs
        )
    assert isinstance(operation, Conv2d), "found by its type"
    assert isinstance(added, Binary), "found by its type"
    _, other = addition.inputs
    if other == convolution.outputs[0]:  # the sum of two floats has no order
        other, _ = addition.inputs
        (z, z_other), (f, f_other) = added.zero_points, added.factors
        added = replace(added, zero_points=(z_other, z), factors=(f_other, f))
    return Operator(
        f"{convolution.name}+{addition.name}",
        replace(operation, residual=added),
        (*convolution.inputs, other),
        addition.outputs,
    )

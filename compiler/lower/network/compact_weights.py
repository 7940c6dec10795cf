"""Ask for kernels that store weights as they are, whatever it takes."""

from dataclasses import replace

from edgec.kernels.operations import Conv2d, Network, Operator


def compact_weights(network: Network) -> Network:
    """Return `network` with compact weights in every convolution.

    conv(int8 weights, stored as is fastest)  -->  conv(int8 weights, stored as int8, once)
    """
    return replace(network, operators=tuple(map(_compact, network.operators)))


def _compact(operator: Operator) -> Operator:
    if not isinstance(operator.operation, Conv2d):
        return operator
    return replace(operator, demands=replace(operator.demands, compact=True))

"""Let convolutions whose channels have one multiplier keep it once, where a model becomes smaller by it."""

from collections import defaultdict
from dataclasses import replace

from edgec.kernels.operations import Conv2d, Network
from edgec.kernels.table import candidates
from edgec.targets.descriptor import Target

FUNCTION_BYTES = 2400
"""More than any function takes that layers share; its tests hold it below."""


def share_multipliers(network: Network, target: Target) -> Network:
    """Return `network` with `uniform` convolutions, as far as that makes it smaller on `target`.

    conv(a multiplier for every channel, all the same)  -->  conv(one multiplier)

    Layers whose multipliers differ take another function than uniform ones. So of layers that share one all
    become uniform or none, unless the multipliers saved take more than a function.
    """
    sharing: defaultdict[str, list[tuple[str, Conv2d]]] = defaultdict(list)
    for operator in network.operators:
        found = next(candidates(operator.operation, target, operator.demands), None)
        if isinstance(operator.operation, Conv2d) and found is not None:
            kernel, code = found
            sharing[kernel.symbol(code)].append((operator.outputs[0], operator.operation))
    uniform: set[str] = set()
    for layers in sharing.values():
        alike = {name: layer for name, layer in layers if (layer.multiplier == layer.multiplier[:1]).all()}
        if len(alike) == len(layers) or sum(o.multiplier.nbytes for o in alike.values()) > FUNCTION_BYTES:
            uniform |= alike.keys()
    return replace(
        network,
        operators=tuple(
            replace(operator, demands=replace(operator.demands, uniform=True))
            if operator.outputs[0] in uniform
            else operator
            for operator in network.operators
        ),
    )

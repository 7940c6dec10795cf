"""What a bundle's self-test compares of the golden run: checksums of what is exact, values of the rest."""

import numpy as np

from edgec.arrays import Array, Arrays
from edgec.compiler.emit.golden import Near, checksum
from edgec.compiler.program import Program
from edgec.kernels.operations import INEXACT, Island, Network
from edgec.kernels.reference import precise

RELATIVE_TOLERANCE = 1e-3
ABSOLUTE_TOLERANCE = 1e-4
"""How near float islands and float convolutions must come to the reference. The absolute one is a share of
the tensor's largest magnitude: float32 sums in another order differ by some 1e-6 of it, and approximated
exponentials by 1e-5."""

_BITS = 12
"""Bits that are kept of floats that are compared within a tolerance: exact to an eighth of it."""
SAMPLES = 256
"""Elements that are kept, at least, of a tensor that nothing exact follows: a wrong kernel is wrong in more
than one place, and a bundle of floats would otherwise be larger by all its activations."""


def expectations(
    network: Network, program: Program, values: Arrays
) -> tuple[tuple[int | None, ...], dict[str, Near]]:
    """Return `checksums` and `near` of the `Golden` of `program`, where the reference has `values`."""
    exact = {*network.inputs, *network.constants}
    near: dict[str, Near] = {}
    for operator in network.operators:
        if not isinstance(operator.operation, INEXACT) and exact.issuperset(operator.inputs):
            exact.update(operator.outputs)
            continue
        for name in operator.outputs:
            near[name] = _near(values[name], _jumps(network, name))
            if near[name].stride == 1:
                exact.add(name)
    computed = exact - near.keys()
    checksums = (
        checksum(values[name] for name in call.outputs) if computed.issuperset(call.outputs) else None
        for call in program.calls
    )
    return tuple(checksums), near


def to_tolerance(values: Array) -> Array:
    """Round floats that are compared within a tolerance, so that they are the same on every machine."""
    return precise.rounded(values, _BITS).astype(values.dtype) if values.dtype.kind == "f" else values


def magnitudes(array: Array) -> Array:
    """Return absolute values, flat in float64, 0 for what isn't finite."""
    values = np.abs(np.asarray(array, np.float64).reshape(-1))
    return np.where(np.isfinite(values), values, 0.0)


def _jumps(network: Network, name: str) -> bool:
    """Whether the last bits of a tensor may decide about codes, indices or choices that follow."""
    readers = [operator for operator in network.operators if name in operator.inputs]
    following = [name, *(output for operator in readers for output in operator.outputs)]
    kinds = {np.dtype(network.tensors[output].dtype).kind for output in following}
    return kinds != {"f"} or any(isinstance(operator.operation, Island) for operator in readers)


def _near(values: Array, jumps: bool) -> Near:
    flat = np.ascontiguousarray(values).reshape(-1)
    # An odd stride meets every channel, of which there is mostly an even number.
    stride = 1 if jumps or flat.size <= SAMPLES else flat.size // SAMPLES | 1
    kept = to_tolerance(flat)[::stride].copy() if stride > 1 else flat  # the latter goes on, to exact layers
    absolute = ABSOLUTE_TOLERANCE * float(magnitudes(to_tolerance(flat)).max(initial=0.0))
    return Near(kept, stride, absolute)

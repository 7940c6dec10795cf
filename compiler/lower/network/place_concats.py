"""Let what is concatenated be computed where it belongs in the result: no copy, and no memory of its own."""

import operator as arithmetic
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import Any

from edgec.kernels.operations import (
    AveragePool,
    Binary,
    Concat,
    Conv2d,
    FloatAveragePool,
    FloatBinary,
    FloatConv2d,
    Island,
    Lookup,
    MaxPool,
    Network,
    Operation,
    Place,
    Rearrange,
    Runs,
    Tensor,
)


def most_alive(network: Network) -> int:
    """Return the bytes of intermediate tensors alive at the operator where they are the most."""
    outside = {*network.inputs, *network.outputs, *network.constants}
    lifetimes: dict[str, tuple[int, int]] = {}
    for index, operator in enumerate(network.operators):
        for tensor in (*operator.inputs, *operator.outputs):
            place = network.tensors[tensor].place
            home = tensor if place is None else place.tensor
            if home not in outside:
                lifetimes[home] = (lifetimes.get(home, (index, index))[0], index)
    alive = [0] * len(network.operators)
    for home, (first, last) in lifetimes.items():
        for index in range(first, last + 1):
            alive[index] += network.tensors[home].bytes
    return max(alive, default=0)


def place_concats(network: Network, alive: Callable[[Network], int] = most_alive) -> Network:
    """Return `network` with inputs of concatenations placed in their results.

    c = f(a); y = concat(b, c)  -->  y = concat(b), in which f has written c, one run of it per pixel of y

    Placed is what only the concatenation reads, at the result's own scale, if its kernel can write so. The
    result is then alive from the first of its parts on: where that takes more memory at the operator that
    needs the most, by `alive`, an input is copied after all.
    """
    concats = [operator for operator in network.operators if isinstance(operator.operation, Concat)]
    least = alive(network) if concats else 0
    for operator in reversed(concats):  # a result may be part of a later one's
        for index in reversed(range(len(operator.inputs))):  # the latest first: it gives memory back
            placed = _placed(network, operator.name, index)
            if (needed := alive(placed)) <= least:
                network, least = placed, needed
    return network


def _placed(network: Network, name: str, index: int) -> Network:
    """Return `network` with one input of a concatenation placed, if it can be."""
    operators = {operator.name: operator for operator in network.operators}
    concat = operators[name]
    operation, tensor = concat.operation, network.tensors[concat.inputs[index]]
    assert isinstance(operation, Concat), "it was found by its type"
    reads = [read for operator in network.operators for read in operator.inputs]
    producer = next((o for o in network.operators if tensor.name in o.outputs), None)
    alone = (*reads, *network.outputs).count(tensor.name) == 1
    place = _part(network.tensors[concat.outputs[0]], operation, index)
    own_scale = operation.tables[index] is None
    if producer is None or not alone or not own_scale or not _writes(producer.operation, place.runs):
        return network
    if place.runs is not None:
        operators[producer.name] = replace(producer, demands=replace(producer.demands, runs=place.runs))
    placed = tuple(sorted({*concat.demands.placed, index}))
    operators[name] = replace(concat, demands=replace(concat.demands, placed=placed))
    tensors = network.tensors | {tensor.name: replace(tensor, place=place)}
    return replace(network, operators=tuple(operators.values()), tensors=tensors)


def _part(result: Tensor, operation: Concat, index: int) -> Place:
    """Return where an input lies in the result of a concatenation, which may be part of another itself."""
    whole = result.place or Place(result.name, 0, None)
    start, length = sum(operation.inner[:index]), operation.inner[index]
    pitch = sum(operation.inner) if whole.runs is None else whole.runs.pitch
    runs = None if whole.runs is None and operation.outer == 1 else Runs(length, pitch)
    return Place(whole.tensor, whole.offset + start, runs)


def _writes(operation: Operation, runs: Runs | None) -> bool:
    """Whether kernels can leave a result lying so; of an island they can't be asked to."""
    if runs is None:
        return not isinstance(operation, Island)
    fits = _LENGTHS.get(type(operation))
    return fits is not None and fits(operation, runs.length)


def _pixels(operation: Any, length: int) -> bool:
    return bool(length == operation.output_shape[-1])


def _inner_dimensions(operation: Any, length: int) -> bool:
    """Whether a run is all of some last dimensions; single elements would be written one by one."""
    return length > 1 and length in accumulate(reversed(operation.shape), arithmetic.mul)


_LENGTHS: dict[type, Callable[[Any, int], bool]] = {
    AveragePool: _pixels,
    Binary: _inner_dimensions,
    Concat: lambda operation, length: length == sum(operation.inner),
    Conv2d: _pixels,
    FloatAveragePool: _pixels,
    FloatBinary: _inner_dimensions,
    FloatConv2d: _pixels,
    Lookup: lambda operation, length: operation.size % length == 0,
    MaxPool: _pixels,
    Rearrange: _inner_dimensions,
}
"""Operations whose kernels leave runs apart, and whether they do for runs of this length."""

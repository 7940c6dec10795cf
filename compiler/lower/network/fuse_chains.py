"""Let convolutions that follow each other be one step, where that is faster or takes less memory.

expand -> depthwise -> project  -->  one step, and no tensors between them
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import prod

from edgec.compiler.lower.network import chains
from edgec.compiler.lower.network.chains import Members
from edgec.compiler.lower.network.levels import common_call
from edgec.compiler.lower.network.plan import needs
from edgec.compiler.lower.network.select import choose, lower
from edgec.compiler.program import Call, Program
from edgec.compiler.records.records import Records
from edgec.errors import UnsupportedError
from edgec.kernels.codegen.stripe import LEAST_TILES
from edgec.kernels.operations import Chain, Conv2d, Island, Network, Operator
from edgec.options import Optimize
from edgec.targets.descriptor import Target

# Part of the L2 cache that a convolution's input and output can take; the rest is for weights and stripes.
# (With AVX2, chains of layers that took between half and three quarters were 1 to 4 % slower.)
_CACHE = 0.75
# Part of a chain's products that threads may compute twice; what else it gains was measured as up to 15 %.
_TWICE = 0.1


def fuse_chains(
    network: Network, target: Target, records: Records, optimize: Optimize, arena_io: bool = False
) -> Network:
    """Return `network` with chains of convolutions as one operator each, the same for all levels of `target`.

    For speed those that pay; for ram what lowers the arena, in which with `arena_io` inputs and outputs lie
    too, and less scratch for whatever needs the most. Float convolutions stay.
    """
    around = chains.around_depthwise(network)
    paying = [members for members in around if pays(chains.operation_of(members), target)]
    if optimize == "ram":
        starts = around, chains.between_waists(network)
        return _Search(network, target, records, arena_io).smallest(starts, paying)
    return chains.fused(network, paying)


def pays(operation: Chain, target: Target) -> bool:
    """Whether a chain is expected to be faster than its convolutions by themselves.

    It is where one of them reads and writes more than the L2 cache holds, so that the next finds little of it
    there, unless tiles of few rows would compute much twice. Without a cache there is nothing to gain.
    """
    leaves = target.l2_bytes > 0 and any(
        prod(stage.input_shape) + prod(stage.output_shape) > _CACHE * target.l2_bytes
        for stage in operation.stages
    )
    return leaves and twice(operation) < _TWICE


def twice(operation: Chain) -> float:
    """Return the part of a chain's products that its tiles, the least that there are, compute twice."""
    rows = needed = -(-operation.output_shape[1] // LEAST_TILES)
    again = 0.0
    for stage, before in zip(reversed(operation.stages[1:]), reversed(operation.stages[:-1]), strict=True):
        reach = (stage.weights.shape[1] - 1) * stage.dilations[0] + 1
        rows *= stage.strides[0]
        needed = (needed - 1) * stage.strides[0] + reach
        again += before.macs * max(0, needed - rows) / rows
    return again / operation.macs


class _Search:
    """Looks for the chains with which a network needs the least memory."""

    def __init__(self, network: Network, target: Target, records: Records, arena_io: bool) -> None:
        self._network, self._target, self._records, self._arena_io = network, target, records, arena_io
        self._single = chains.members_of(network)
        self._calls: dict[tuple[str, int | None], Call] = {}

    def smallest(self, starts: Iterable[Sequence[Members]], paying: Sequence[Members]) -> Network:
        """Return the network with the least peak found from `starts`, and of equal ones that with `paying`.

        Every step then gets the scratch that it is fastest with, or as much of it as the peak leaves.
        """
        found, chosen = min(map(self._improved, starts), key=lambda one: one[0][0])
        peak = found[0]
        for members in list(chosen):
            inside = [one for one in paying if {m.name for m in one} <= {m.name for m in members}]
            option = [*(one for one in chosen if one is not members), *inside]
            if self._sorted(option)[0] <= peak:
                chosen = option
        needed = self._needs(chosen)
        fastest = chains.fused(self._network, chosen)
        return replace(
            fastest, operators=tuple(self._within(o, peak - needed[o.name]) for o in fastest.operators)
        )

    def _improved(self, start: Sequence[Members]) -> tuple[list[int], list[Members]]:
        """Return what `_sorted` says, and chains: joined or cut at the busiest step as long as that helps."""
        chosen = [members for members in start if self._has_kernel(members)]
        found = self._sorted(chosen)
        while True:
            options = [(self._sorted(option), option) for option in self._changes(chosen)]
            least, option = min(options, key=lambda one: one[0], default=(found, chosen))
            if least >= found:
                return found, chosen
            found, chosen = least, option

    def _sorted(self, chosen: Sequence[Members]) -> list[int]:
        """Return the bytes that every step needs, the most first."""
        return sorted(self._needs(chosen).values(), reverse=True) or [0]

    def _needs(self, chosen: Sequence[Members]) -> dict[str, int]:
        """Return the bytes alive at every step, by its name, where steps take the least scratch they can."""
        network = chains.fused(self._network, chosen)
        operators = network.operators
        tensors = {name: t for name, t in network.tensors.items() if name not in network.constants}
        program = Program(
            self._target, tuple(self._call(_limited(operator, 0)) for operator in operators), {}, tensors, {},
            tuple(tensors[name] for name in network.inputs), tuple(tensors[name] for name in network.outputs),
            self._arena_io,
        )  # fmt: skip
        return dict(zip((operator.name for operator in operators), needs(program), strict=True))

    def _within(self, operator: Operator, room: int) -> Operator:
        """Return the operator as it is fastest with the least scratch and `room` bytes more."""
        least = self._call(_limited(operator, 0)).scratch_bytes
        if self._call(operator).scratch_bytes <= least + room:
            return operator
        return _limited(operator, least + room)

    def _call(self, operator: Operator) -> Call:
        """Return a call that needs what any level's does; of an island its tensors only."""
        key = operator.name, operator.demands.scratch
        if key not in self._calls:
            if isinstance(operator.operation, Island):
                arguments = (*operator.inputs, *operator.outputs)
                call = Call(operator.name, "", "", arguments, operator.outputs, 1, 0, 0)
            else:
                levels = self._target.levels
                ways = [lower(operator, *choose(operator, level, self._records)) for level in levels]
                call = common_call([way.calls[0] for way in ways])
            self._calls[key] = call
        return self._calls[key]

    def _has_kernel(self, members: Members) -> bool:
        """Whether every level can compute a chain."""
        try:
            self._call(_limited(chains.joined(members), 0))
        except UnsupportedError:
            return False
        return True

    def _changes(self, chosen: Sequence[Members]) -> Iterator[list[Members]]:
        """Yield other choices of chains, which differ at the step that needs most."""
        needed = self._needs(chosen)
        busiest = max(needed, key=lambda name: needed[name])
        by_member = self._single | {member.name: members for members in chosen for member in members}
        steps = list({chains.name_of(members): members for members in by_member.values()}.items())
        here = dict(steps).get(busiest)
        if here is None:
            return
        for _, other in steps:
            for one, two in ((here, other), (other, here)):
                joined = chains.join(self._network, one, two)
                if joined is not None and self._has_kernel(joined):
                    yield [*(each for each in chosen if each is not one and each is not two), joined]
        rest = [each for each in chosen if each is not here]
        for cut in range(1, len(here)):
            parts = (here[:cut], here[cut:])
            yield [*rest, *(part for part in parts if len(part) > 1)]


def _limited(operator: Operator, scratch: int) -> Operator:
    if not isinstance(operator.operation, Conv2d | Chain):
        return operator
    return replace(operator, demands=replace(operator.demands, scratch=scratch))

"""The layers of a network that can be computed in several ways, ready to be measured: the search's bench."""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgec.arrays import Array, Arrays
from edgec.compiler.lower.islands.island_code import IslandCode
from edgec.compiler.lower.network.select import choose, lower, select
from edgec.compiler.native.objects import is_cached
from edgec.compiler.records.records import Records
from edgec.compiler.records.signature import signature
from edgec.compiler.tune import probe
from edgec.compiler.tune.probe import Meter, Probe
from edgec.kernels.kernel import Kernel, KernelCode
from edgec.kernels.operations import Island, Network, Operator
from edgec.kernels.table import applicable
from edgec.targets.descriptor import Target


@dataclass(frozen=True, eq=False)
class Way:
    """One way to compute some layers of one shape."""

    kernel: str
    configuration: str
    codes: tuple[IslandCode, ...]
    """Per layer: they differ in their constants."""


@dataclass(frozen=True, eq=False)
class Group:
    """Layers of one shape, which are computed in the same way."""

    operators: tuple[Operator, ...]
    kernels: tuple[Kernel, ...]
    """Those worth trying; first the one that is taken without tuning."""
    first: str
    """The configuration that is taken without tuning."""
    ways: list[Way] = field(default_factory=list)
    """Those asked for so far."""


class Layers:
    """The `search.Bench` of a network on a device."""

    def __init__(
        self,
        network: Network,
        target: Target,
        inputs: Arrays,
        meter: Meter,
        records: Records,
        decided: Callable[[Operator], bool],
        folder: Path,
        progress: Callable[[str], None],
    ) -> None:
        """Take the layers of `network` that have a choice and aren't `decided`; the others are as in a build.

        Programs are written to `folder`.
        """
        self.exact = meter.exact
        self._target, self._inputs, self._meter, self._folder = target, inputs, meter, folder
        self._progress = progress
        self._program = select(network, target, records)
        self._arrays: dict[bytes, Array] = {}
        self.groups = self._groups(network, records, decided)
        self.kernels: Sequence[Sequence[Iterator[int]]] = [
            [self._ways(group, k) for k in group.kernels] for group in self.groups
        ]
        calls = {call.name: index for index, call in enumerate(self._program.calls)}
        self._steps = [[calls[operator.name] for operator in group.operators] for group in self.groups]
        self._rest = sorted(set(range(len(calls))) - set(chain.from_iterable(self._steps)))
        self._built: Probe | None = None
        self._positions: list[dict[int, int]] = []

    def made(self, layer: int, way: int) -> bool:
        """Whether a way was compiled before, so that preparing it takes next to no time."""
        codes = self.groups[layer].ways[way].codes
        functions = (function for code in codes for function in code.functions.values())
        return all(is_cached(function, self._target) for function in functions)

    def prepare(self, ways: Sequence[Sequence[int]]) -> float:
        """Build a probe of these ways of each layer; returns the seconds that compiling took of it.

        Raises RuntimeError where two ways compute different results: a bug.
        """
        offered: dict[int, list[IslandCode]] = {}
        for group, steps, chosen in zip(self.groups, self._steps, ways, strict=True):
            for index, step in enumerate(steps):
                offered[step] = [group.ways[way].codes[index] for way in chosen]
        self._positions = [{way: position for position, way in enumerate(chosen)} for chosen in ways]
        folder = Path(tempfile.mkdtemp(dir=self._folder))

        def compiled(done: int, total: int) -> None:
            self._progress(f"compiling kernel {done} of {total}")

        self._built = probe.build(self._program, offered, self._inputs, folder, compiled)
        self._check(ways)
        return self._built.compile_seconds

    def run(self, choices: NDArray[np.intp]) -> NDArray[np.float64]:
        """Run the network once per row of [runs, layers], which says what way each layer takes.

        Returns [runs, layers + 1]: what each layer cost, and last all that has no choice.
        """
        assert self._built is not None, "prepare() comes first"
        costs = self._built.costs(self._meter, self._schedule(choices))
        of_groups = [costs[:, steps].sum(axis=1) for steps in self._steps]
        return np.stack([*of_groups, costs[:, self._rest].sum(axis=1)], axis=1)

    def _schedule(self, choices: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return what each step does, [runs, steps], by its position among the ways that it has."""
        schedule = np.zeros((len(choices), len(self._program.calls)), np.uint8)
        for index, (steps, positions) in enumerate(zip(self._steps, self._positions, strict=True)):
            chosen = [positions[way] for way in choices[:, index].tolist()]
            schedule[:, steps] = np.array(chosen, np.uint8)[:, np.newaxis]
        return schedule

    def _check(self, ways: Sequence[Sequence[int]]) -> None:
        """Run every way once and compare what it computes, bit for bit.

        Float layers, which may differ in their last bits, take one way throughout.
        """
        assert self._built is not None
        exact = [
            of_layer if all(self._program.calls[step].checked for step in steps) else of_layer[:1]
            for of_layer, steps in zip(ways, self._steps, strict=True)
        ]
        runs = max(map(len, exact), default=1)
        choices = np.array([[of[min(run, len(of) - 1)] for of in exact] for run in range(runs)], np.intp)
        found = self._built.differing(self._meter, self._schedule(choices))
        if found is None:
            return
        run, step = found
        name = self._program.calls[step].name
        for group, steps, chosen in zip(self.groups, self._steps, choices[run], strict=True):
            if step in steps:
                way = group.ways[chosen]
                name = f"{name}: {way.kernel} ({way.configuration})"
        raise RuntimeError(f"layer {name} does not compute what another kernel does: a bug in edgec")

    def _groups(self, network: Network, records: Records, decided: Callable[[Operator], bool]) -> list[Group]:
        """Return the layers that have a choice, by shape, in the order of the network."""
        groups: dict[tuple[object, ...], Group] = {}
        for operator in network.operators:
            if isinstance(operator.operation, Island) or not operator.computes or decided(operator):
                continue
            taken, code = choose(operator, self._target, records)
            kernels = _worth_trying(operator, self._target, taken)
            key = (signature(operator.operation, operator.demands), kernels, code.configuration)
            group = groups.get(key, Group((), kernels, code.configuration))
            groups[key] = replace(group, operators=(*group.operators, operator))
        return [group for group in groups.values() if self._has_choice(group)]

    def _has_choice(self, group: Group) -> bool:
        first = group.operators[0]
        codes = (code for kernel in group.kernels for code in self._codes(kernel, first))
        return next(codes, None) is not None and next(codes, None) is not None

    def _codes(self, kernel: Kernel, operator: Operator) -> Iterable[KernelCode]:
        return kernel.codes(operator.operation, self._target, operator.demands)

    def _ways(self, group: Group, kernel: Kernel) -> Iterator[int]:
        """Yield the numbers of a kernel's ways, which are made as they are asked for."""
        first, *others = group.operators
        wanted = group.first if kernel is group.kernels[0] else None
        found = [_Configurations(self._codes(kernel, operator)) for operator in others]
        for code in _beginning_with(wanted, self._codes(kernel, first)):
            codes = [code, *(configurations.get(code.configuration) for configurations in found)]
            lowered = [
                self._shared(lower(operator, kernel, code))
                for operator, code in zip(group.operators, codes, strict=True)
                if code is not None
            ]
            if len(lowered) == len(codes):  # weights may forbid what other weights of the shape allow
                group.ways.append(Way(kernel.name, code.configuration, tuple(lowered)))
                yield len(group.ways) - 1

    def _shared(self, code: IslandCode) -> IslandCode:
        """Return `code` with constants that others have too stored once."""
        constants = {}
        for name, array in code.constants.items():
            content = np.ascontiguousarray(array)
            digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + content.tobytes()).digest()
            constants[name] = self._arrays.setdefault(digest, array)
        return replace(code, constants=constants)


def _worth_trying(operator: Operator, target: Target, taken: Kernel) -> tuple[Kernel, ...]:
    """Return `taken`, and of each other family of kernels the first that computes the layer.

    A family is one algorithm; the table has its best instruction set first.
    """
    found = {_family(taken): taken}
    for kernel in applicable(operator.operation, target):
        if _family(kernel) not in found and kernel.code(operator.operation, target, operator.demands):
            found[_family(kernel)] = kernel
    return tuple(found.values())


def _family(kernel: Kernel) -> str:
    return kernel.name.rpartition("_")[0]


class _Configurations:
    """A kernel's codes for a layer, by configuration; made in their order, and no more than are asked for."""

    def __init__(self, codes: Iterable[KernelCode]) -> None:
        self._codes = iter(codes)
        self._waiting: dict[str, KernelCode] = {}

    def get(self, configuration: str) -> KernelCode | None:
        """Return a code, once, or None if there is none."""
        while configuration not in self._waiting:
            code = next(self._codes, None)
            if code is None:
                return None
            self._waiting[code.configuration] = code
        return self._waiting.pop(configuration)


def _beginning_with(configuration: str | None, codes: Iterable[KernelCode]) -> Iterator[KernelCode]:
    """Yield `codes`, one of them before all others."""
    later = []
    rest = iter(codes)
    for code in rest if configuration is not None else ():
        if code.configuration == configuration:
            yield code
            break
        later.append(code)
    yield from later
    yield from rest

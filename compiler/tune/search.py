"""The search: which ways of computing its layers make a network fastest, within a budget of time.

Batches of ways are made ready and raced. What is tried next is where the network's time is; a way drops out
of its race as soon as it is sure not to win by more than `TOLERANCE`. All that is known of devices and
kernels here is the `Bench`: ways are numbers.
"""

import heapq
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.005
"""Relative cost: what might be gained by racing on is not worth more runs."""
_DEVIATIONS = 2.0
"""Standard errors between an estimate and what counts as sure."""
_FLOOR = 0.01
"""The least relative spread of a round's minima that is believed: two rounds that agree prove little."""
_HOPELESS = 1.5
"""Ratio to the leader at which one round is enough."""
_ROUNDS = 16
"""Rounds of a race: what isn't decided by then is as good as equal."""
_LEAST_ROUNDS, _RACE_SHARE, _ROUND_SHARE = 3, 1 / 12, 1 / 60
"""After the least rounds, the share of the budget that a race may take; and that a round may. Other ways may
be worth more."""
_SAMPLES = 6
"""Runs of each way in a round, of which the minimum counts: enough that one of them is rarely disturbed."""
_LEAST_SECONDS = 1.0
"""What a batch of ways must have to be worth linking."""
_MADE_SECONDS = 0.005
"""Time to take a way from the cache, which was compiled before."""


class Bench(Protocol):
    """Layers whose ways can be measured."""

    exact: bool
    """Whether every run costs the same."""
    kernels: Sequence[Sequence[Iterator[int]]]
    """Per layer and kernel: the kernel's ways, the likeliest fastest first. A layer's ways are numbered from
    0, the one that is taken without tuning, in the order in which the iterators are asked."""

    def made(self, layer: int, way: int) -> bool:
        """Whether a way was compiled before, so that preparing it takes next to no time."""

    def prepare(self, ways: Sequence[Sequence[int]]) -> float:
        """Make ready to run these ways of each layer; returns the seconds that compiling took of it."""

    def run(self, choices: NDArray[np.intp]) -> NDArray[np.float64]:
        """Run the network once per row of [runs, layers], which says what way each layer takes.

        Returns [runs, layers + 1]: what each layer cost, and last all that has no choice.
        """


@dataclass
class _Kernel:
    """One kernel of a layer in the search."""

    ways: Iterator[int]
    tried: int = 0
    best: float = math.inf
    spent: bool = False
    """Has no way left, or isn't worth asking."""


@dataclass
class _Layer:
    """One layer in the search."""

    kernels: list[_Kernel]
    alive: list[int] = field(default_factory=list)
    """Ways that may be the fastest, the leader first."""
    owner: dict[int, int] = field(default_factory=dict)
    """Way -> kernel."""
    cost: float = 0.0
    """Cost of the leader."""
    first_cost: float = 0.0
    """Cost of way 0."""


@dataclass(frozen=True)
class Choice:
    """What was found for one layer."""

    way: int
    cost: float
    first_cost: float
    """Cost of way 0, measured beside it."""
    tried: int
    complete: bool
    """Whether all ways were tried that were worth it, and none but this one is left."""


@dataclass(frozen=True)
class Outcome:
    """What was found for the network."""

    choices: tuple[Choice, ...]
    """Per layer."""
    rest: float
    """Cost of all that has no choice."""


class Search:
    """A search that can be stopped at any time: `outcome` is what was found so far."""

    def __init__(
        self,
        bench: Bench,
        budget: float,
        clock: Callable[[], float],
        progress: Callable[[str], None],
    ) -> None:
        """Search on `bench` for `budget` seconds of `clock`; `progress` is told what was done."""
        self._bench, self._budget, self._clock, self._progress = bench, budget, clock, progress
        self._start = clock()
        self._layers = [_Layer([_Kernel(ways) for ways in kernels]) for kernels in bench.kernels]
        self._compile_seconds = 0.1  # of one way; corrected by every batch
        self._fixed_seconds = 1.0  # of a batch
        self._run_seconds = 0.0  # of one run of the network
        self._learnt = False
        self._unmade = 0  # ways asked for that have yet to be compiled
        self._rest = 0.0
        self._random = np.random.default_rng(0)

    def run(self) -> Outcome:
        """Search until nothing is left to gain or the budget is spent; returns the outcome."""
        new = self._first()
        while any(new):
            self._race(new)
            new = self._next()
        if any(len(layer.alive) > 1 for layer in self._layers) and self._left() > self._reserve():
            self._race(new)
        self._confirm()
        return self.outcome()

    @property
    def tried(self) -> int:
        """Ways measured, of all layers."""
        return sum(kernel.tried for layer in self._layers for kernel in layer.kernels)

    def outcome(self) -> Outcome:
        """Return what was found so far; no choices before the first race is over."""
        choices = tuple(self._choice(layer) for layer in self._layers if layer.alive)
        found = choices if len(choices) == len(self._layers) else ()
        return Outcome(found, self._rest)

    def _choice(self, layer: _Layer) -> Choice:
        complete = len(layer.alive) == 1 and all(kernel.spent for kernel in layer.kernels)
        tried = sum(kernel.tried for kernel in layer.kernels)
        return Choice(layer.alive[0], layer.cost, layer.first_cost, tried, complete)

    # ---- What to try -------------------------------------------------------------------------------------

    def _first(self) -> list[list[int]]:
        """Return the way of each layer that is taken without tuning, to learn where the time is."""
        new: list[list[int]] = [[] for _ in self._layers]
        for index in range(len(self._layers)):
            self._ask(index, 0, new)
        return new

    def _ask(self, index: int, kernel: int, new: list[list[int]]) -> float | None:
        """Add a kernel's next way, if it has one, to a layer's new ones; returns the seconds it will take."""
        layer = self._layers[index]
        way = next(layer.kernels[kernel].ways, None)
        if way is None:
            layer.kernels[kernel].spent = True
            return None
        layer.kernels[kernel].tried += 1
        layer.owner[way] = kernel
        new[index].append(way)
        # Where costs are modelled that may take longer than compiling, which then says little.
        if self._bench.made(index, way) and not self._bench.exact:
            return _MADE_SECONDS
        self._unmade += 1
        return self._compile_seconds

    def _next(self) -> list[list[int]]:
        """Return the ways to try next, as many as there is time to compile: where the most may be gained.

        That is a layer's cost over the number of the way: the later ones are likelier slower, and so are
        kernels that aren't the first.
        """
        new: list[list[int]] = [[] for _ in self._layers]
        left = self._left() - self._reserve()
        # Half of what is left, so that a machine that becomes slower doesn't break the budget.
        batch = min(left / 2, max(self._budget / 6, 6 * self._fixed_seconds)) - self._fixed_seconds
        if batch < _LEAST_SECONDS:
            return new
        # Of one layer, so that a round is short beside what is left.
        most = sys.maxsize if self._bench.exact else int(left / 8 / self._run_seconds)
        waiting = [
            (-self._promise(layer, kernel), index, number)
            for index, layer in enumerate(self._layers)
            for number, kernel in enumerate(layer.kernels)
            if self._worth(layer, kernel)
        ]
        heapq.heapify(waiting)
        while waiting and batch > 0:
            _, index, number = heapq.heappop(waiting)
            layer = self._layers[index]
            kernel = layer.kernels[number]
            if len(new[index]) < most and (seconds := self._ask(index, number, new)) is not None:
                batch -= seconds
                if kernel.best < math.inf:  # else its first way is to show whether to ask for more
                    heapq.heappush(waiting, (-self._promise(layer, kernel), index, number))
        return new

    @staticmethod
    def _worth(layer: _Layer, kernel: _Kernel) -> bool:
        """Whether a kernel is to be asked again; one that is far behind isn't."""
        kernel.spent = kernel.spent or (kernel.tried > 0 and kernel.best > _HOPELESS * layer.cost)
        return not kernel.spent

    @staticmethod
    def _promise(layer: _Layer, kernel: _Kernel) -> float:
        return layer.cost / (1 + kernel.tried + (kernel is not layer.kernels[0]))

    def _left(self) -> float:
        return self._budget - (self._clock() - self._start)

    def _reserve(self) -> float:
        """Seconds to keep for the last comparison."""
        return self._fixed_seconds + max(self._budget / 20, 4 * self._run_seconds)

    # ---- Racing ------------------------------------------------------------------------------------------

    def _race(self, new: Sequence[Sequence[int]]) -> None:
        """Race each layer's new ways with those that are left of the others."""
        started = self._clock()
        ways = [[*layer.alive, *more] for layer, more in zip(self._layers, new, strict=True)]
        compiling = self._bench.prepare(ways)
        if self._learnt:  # the first batch also pays for what happens once
            self._fixed_seconds = self._clock() - started - compiling
        if not self._run_seconds:
            self._time([[of_layer[0] for of_layer in ways]])
        racing = [list(of_layer) for of_layer in ways]
        minima: list[dict[int, list[float]]] = [{way: [] for way in of_layer} for of_layer in ways]
        racing_since = self._clock()
        for number in range(1 if self._bench.exact else _ROUNDS):
            self._round(racing, minima)
            for index, of_layer in enumerate(racing):
                racing[index] = self._decide(minima[index], of_layer)
            tried, layers = self.tried, sum(len(of_layer) > 1 for of_layer in racing)
            self._progress(f"{tried} measured, {layers} layers undecided")
            seconds = self._clock() - racing_since
            if not layers or self._left() < self._reserve() + seconds / (number + 1):
                break
            if any(new) and number >= _LEAST_ROUNDS and seconds > self._budget * _RACE_SHARE:
                break
        else:  # as good as equal
            racing = [of_layer[:1] for of_layer in racing]
        if self._bench.exact:
            compiling += self._clock() - racing_since
        if self._unmade:
            self._compile_seconds = max(_MADE_SECONDS, compiling / self._unmade)
        self._unmade, self._learnt = 0, True
        for layer, of_layer, costs in zip(self._layers, racing, minima, strict=True):
            self._settle(layer, of_layer, costs)

    def _round(self, racing: Sequence[Sequence[int]], minima: Sequence[dict[int, list[float]]]) -> None:
        """Let the ways of each layer take turns, and add the least cost of each to its `minima`."""
        most = max(map(len, racing))
        runs = most if self._bench.exact else most * self._samples(most)
        choices = np.empty((runs, len(racing)), np.intp)
        for index, of_layer in enumerate(racing):
            turns = [self._random.permutation(of_layer) for _ in range(-(-runs // len(of_layer)))]
            choices[:, index] = np.concatenate(turns)[:runs]
        costs = self._time(choices)
        for index, of_layer in enumerate(racing):
            for way in of_layer:
                minima[index][way].append(float(costs[choices[:, index] == way, index].min()))

    def _time(self, choices: Sequence[Sequence[int]] | NDArray[np.intp]) -> NDArray[np.float64]:
        """Run the bench, and take note of how long a run takes."""
        started = self._clock()
        costs = self._bench.run(np.asarray(choices, np.intp))
        self._run_seconds = (self._clock() - started) / len(costs)
        self._rest = float(costs[:, -1].min())
        return costs

    def _samples(self, most: int) -> int:
        """Return how often each way runs in a round: less where a round would take too long."""
        return max(1, min(_SAMPLES, int(self._budget * _ROUND_SHARE / (most * self._run_seconds))))

    def _decide(self, minima: dict[int, list[float]], racing: Sequence[int]) -> list[int]:
        """Return the ways that may still win, the leader first.

        Ways are compared round by round, so that what disturbs a whole round disturbs neither.
        """
        rounds = len(minima[racing[0]])
        logs = {way: np.log(np.maximum(minima[way], 1e-9)) for way in racing}
        if self._bench.exact:
            return [min(racing, key=lambda way: minima[way][-1])]
        ordered = sorted(racing, key=lambda way: float(logs[way].mean()))
        leader = ordered[0]
        left = [leader]
        for way in ordered[1:]:
            gap = logs[way] - logs[leader]
            if rounds == 1:
                sure = float(gap[0]) > math.log(_HOPELESS)
            else:
                error = max(float(gap.std(ddof=1)), _FLOOR) / math.sqrt(rounds)
                sure = float(gap.mean()) - _DEVIATIONS * error > -TOLERANCE
            if not sure:
                left.append(way)
        return left

    @staticmethod
    def _settle(layer: _Layer, left: list[int], minima: dict[int, list[float]]) -> None:
        """Take a race's result over into the layer."""
        layer.alive = left
        layer.cost = min(minima[left[0]])
        if 0 in minima:
            layer.first_cost = min(minima[0])
        for way, costs in minima.items():
            kernel = layer.kernels[layer.owner[way]]
            kernel.best = min(kernel.best, *costs)

    # ---- The last comparison -----------------------------------------------------------------------------

    def _confirm(self) -> None:
        """Compare the network as found with the untuned one, in turns; what isn't faster is taken back."""
        first = [0] * len(self._layers)
        found = [layer.alive[0] for layer in self._layers]
        if not self._layers or found == first:
            return
        self._bench.prepare([sorted({a, b}) for a, b in zip(first, found, strict=True)])
        pairs = 1
        if not self._bench.exact:
            seconds = max(self._budget / 20, min(self._left(), self._budget / 10))
            pairs = max(2, min(200, int(seconds / (2 * max(self._run_seconds, 1e-6)))))
        costs = self._bench.run(np.array([first, found] * pairs, np.intp))
        before, after = costs[0::2], costs[1::2]
        for index, layer in enumerate(self._layers):
            layer.first_cost = float(before[:, index].min())
            layer.cost = float(after[:, index].min())
            if layer.alive[0] == 0 or layer.cost >= layer.first_cost:
                layer.alive = [0]
                layer.cost = layer.first_cost = min(layer.cost, layer.first_cost)

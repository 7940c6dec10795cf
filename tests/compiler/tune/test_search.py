"""The tuner's search on a made-up device with a clock of its own, whose noise is known."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from edgec.compiler.tune.search import Outcome, Search

Costs = Sequence[Sequence[Sequence[float]]]
"""[layer][kernel][way], in the kernel's order: milliseconds of a run."""


class Device:
    """Compiles in 0.2 s a way, is slower at times, and is disturbed in one measurement of eight."""

    def __init__(self, costs: Costs, noise: float, exact: bool = False, compile_seconds: float = 0.2) -> None:
        self.exact = exact
        self.now = 0.0
        self.built: set[tuple[int, int]] = set()
        self.ways: list[list[float]] = [[] for _ in costs]
        self.kernels: list[list[Iterator[int]]] = [
            [self._numbers(layer, ways) for ways in kernels] for layer, kernels in enumerate(costs)
        ]
        self._noise, self._compile_seconds = noise, compile_seconds
        self._random = np.random.default_rng(7)

    def clock(self) -> float:
        return self.now

    def made(self, layer: int, way: int) -> bool:
        return (layer, way) in self.built

    def prepare(self, ways: Sequence[Sequence[int]]) -> float:
        wanted = {(layer, way) for layer, of_layer in enumerate(ways) for way in of_layer}
        seconds = self._compile_seconds * len(wanted - self.built)
        self.built |= wanted
        self.now += 1.0 + seconds
        return seconds

    def run(self, choices: NDArray[np.intp]) -> NDArray[np.float64]:
        true = np.array([[self.ways[i][way] for i, way in enumerate(row)] + [0.1] for row in choices])
        slower = 1 + 0.3 * self._noise * self._random.random()  # all through this call
        jitter = 1 + 0.1 * self._noise * self._random.exponential(size=true.shape)
        disturbed = 1 + 2 * self._noise * (self._random.random(true.shape) < 1 / 8)
        costs = true * slower * jitter * disturbed
        self.now += float(costs.sum()) / 1e3
        return costs

    def _numbers(self, layer: int, ways: Sequence[float]) -> Iterator[int]:
        for cost in ways:
            self.ways[layer].append(cost)
            yield len(self.ways[layer]) - 1


def search(
    device: Device, budget: float, progress: Callable[[str], None] = lambda _text: None
) -> tuple[Outcome, float]:
    """What was found, and what a run of it costs without noise."""
    outcome = Search(device, budget, device.clock, progress).run()
    return outcome, sum(device.ways[i][choice.way] for i, choice in enumerate(outcome.choices))


def random_costs(layers: int, ways: int, seed: int) -> Costs:
    """Layers of very different weight; a first way that is good, but not the best."""
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(0, 1.5, layers)
    return [[(weight * np.append(1.1, rng.uniform(0.9, 2, ways - 1))).tolist()] for weight in weights]


def best(costs: Costs) -> float:
    return sum(min(min(ways) for ways in kernels) for kernels in costs)


@pytest.mark.parametrize("seed", range(5))
def test_with_time_enough_it_finds_the_fastest_through_noise(seed: int) -> None:
    costs = random_costs(10, 12, seed)
    outcome, found = search(Device(costs, noise=1.0), budget=600)
    assert found < best(costs) * 1.01
    assert all(choice.tried == 12 and choice.complete for choice in outcome.choices)


def test_it_stops_when_nothing_is_left_to_try() -> None:
    device = Device(random_costs(5, 6, 0), noise=1.0)
    search(device, budget=3600)
    assert device.now < 60


@pytest.mark.parametrize("budget", [15, 30, 60, 120])
def test_it_keeps_to_the_budget(budget: float) -> None:
    device = Device(random_costs(30, 30, 1), noise=1.0)
    search(device, budget)
    assert device.now < budget * 1.05 + 2


def test_it_keeps_to_the_budget_where_a_run_is_slow() -> None:
    device = Device([[(1000.0, 900.0, 800.0, 700.0)], [(2000.0, 1900.0)]], noise=1.0)
    search(device, 60)
    assert device.now < 70


def test_a_small_budget_goes_where_the_time_is() -> None:
    heavy, light = [[100.0, 90, 80, 70, 60, 50]], [[0.1, 0.09, 0.08, 0.07, 0.06, 0.05]]
    outcome, _ = search(Device([light, heavy, light, light, light], noise=0.5, compile_seconds=1), budget=25)
    tried = [choice.tried for choice in outcome.choices]
    assert tried[1] == 6
    assert sum(tried) < 30


def test_it_never_takes_what_is_slower_than_the_first() -> None:
    costs = [[(1.0, *np.linspace(1.001, 1.05, 8))] for _ in range(12)]
    outcome, found = search(Device(costs, noise=1.0), budget=300)
    assert found < 12 * 1.006
    assert all(choice.cost <= choice.first_cost for choice in outcome.choices)


def test_a_kernel_that_is_far_behind_is_asked_once() -> None:
    outcome, _ = search(Device([[(1.0, 0.9, 0.8), (5.0, 0.1)]], noise=0.1), budget=100)
    assert outcome.choices[0].tried == 4
    assert outcome.choices[0].complete


def test_another_kernel_may_win() -> None:
    outcome, found = search(Device([[(1.0, 0.9, 0.8), (0.85, 0.5)]], noise=0.1), budget=100)
    assert found == 0.5
    assert outcome.choices[0].tried == 5


def test_where_costs_are_exact_each_way_runs_once_and_the_earlier_of_equals_wins() -> None:
    device = Device([[(3.0, 2.0, 2.0)], [(1.0, 1.0)]], noise=0.0, exact=True)
    outcome, _ = search(device, budget=100)
    assert [choice.way for choice in outcome.choices] == [1, 0]
    assert (outcome.choices[0].cost, outcome.choices[0].first_cost) == (2.0, 3.0)


def test_a_network_without_choices() -> None:
    outcome, found = search(Device([], noise=1.0), budget=10)
    assert (outcome.choices, found) == ((), 0)


def test_what_was_found_before_an_interruption_stays() -> None:
    device = Device(random_costs(10, 12, 3), noise=1.0)

    def interrupt(text: str) -> None:
        if device.now > 20:
            raise KeyboardInterrupt

    running = Search(device, 600, device.clock, interrupt)
    with pytest.raises(KeyboardInterrupt):
        running.run()
    outcome = running.outcome()
    assert len(outcome.choices) == 10
    assert all(choice.cost <= choice.first_cost for choice in outcome.choices)

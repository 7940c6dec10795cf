"""Timing engines side by side: in turns, so that what else the machine does meets them all alike."""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

WARMUP_RUNS = 3
WARMUP_SHARE = 0.1
"""Share of a turn's runs that isn't timed: caches hold another engine's data when a turn begins."""
PAUSE_SECONDS = 0.02
"""Before a turn: the threads of the engine before may spin for a while before they sleep."""
MIN_RUNS, MAX_RUNS = 5, 5000


class Contender(Protocol):
    """Something that can be timed."""

    def __call__(self, warmup: int, runs: int) -> Sequence[int]:
        """Run `warmup` inferences and then `runs` more; return the nanoseconds of each of the latter."""


@dataclass(frozen=True)
class Timing:
    """One engine's times over all turns, in milliseconds."""

    best: float
    """The median of the best turn: a busy machine makes others longer, and not for all engines alike."""
    median: float
    """The median over the turns of their medians."""


def take_turns(contenders: Mapping[str, Contender], turns: int, turn_seconds: float) -> dict[str, Timing]:
    """Time every contender `turns` times, one after the other, about `turn_seconds` each."""
    runs = {name: _runs_in(contender, turn_seconds) for name, contender in contenders.items()}
    medians: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, contender in contenders.items():
            time.sleep(PAUSE_SECONDS)
            warmup = max(WARMUP_RUNS, round(WARMUP_SHARE * runs[name]))
            medians[name].append(float(np.median(contender(warmup, runs[name]))) / 1e6)
    return {name: Timing(min(times), statistics.median(times)) for name, times in medians.items()}


def _runs_in(contender: Contender, seconds: float) -> int:
    """Return how many inferences take about `seconds`."""
    nanoseconds = float(np.median(contender(WARMUP_RUNS, MIN_RUNS)))
    return int(np.clip(seconds * 1e9 / max(nanoseconds, 1), MIN_RUNS, MAX_RUNS))


def geometric_mean(ratios: Sequence[float]) -> float:
    """Return the mean that treats twice as fast and half as fast alike."""
    return math.exp(statistics.fmean(map(math.log, ratios)))


def median_index(values: Sequence[float]) -> int:
    """Return which of the values is the median, the lower one of two."""
    return sorted(range(len(values)), key=values.__getitem__)[(len(values) - 1) // 2]

"""Look for what goes wrong until the time is up: `python -m tests.fuzz --for 60m`, or `make fuzz FOR=60m`.

It goes on where it was stopped. Of models that fail, the first of each kind lies in failures/, made small.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.devices import DEVICES, device_outcomes
from tests.fuzz.draw import draw
from tests.fuzz.files import FILE, judged_files
from tests.fuzz.runs import outcomes, smallest
from tests.fuzz.state import State, save

_UNITS = {"s": 1, "m": 60, "h": 3600}
_GRAPHS, _FILES = 50, 200
"""Of a batch: some seconds of work each."""


@dataclass
class Run:
    """One run of the fuzzer."""

    state: State
    folder: Path
    end: float
    compiled: int
    """One graph in so many is compiled and run: that takes ten times the time of everything before."""

    def graphs(self) -> None:
        """Judge random graphs."""
        cases = [draw(seed) for seed in self._next("graphs", _GRAPHS)]
        for outcome in outcomes(cases, lambda case: case.seed // 3 % self.compiled == 0):
            if self.state.count(outcome.stage, outcome.case.seed, outcome.verdict):
                shrinks = outcome.verdict.failed and time.monotonic() < self.end
                model = smallest(outcome) if shrinks else outcome.case.model
                data = model.SerializeToString()
                self._keep(save(self.folder, outcome.stage, outcome.case.seed, outcome.verdict, data))

    def devices(self) -> None:
        """Judge as many graphs on another machine; each has its turn."""
        seeds = self._next("devices", _GRAPHS)
        device = DEVICES[seeds[0] // _GRAPHS % len(DEVICES)]
        for outcome in device_outcomes([draw(seed) for seed in seeds], device):
            if self.state.count(outcome.stage, outcome.case.seed, outcome.verdict):
                data = outcome.case.model.SerializeToString()
                self._keep(save(self.folder, outcome.stage, outcome.case.seed, outcome.verdict, data))

    def files(self) -> None:
        """Judge damaged files."""
        for file, verdict in judged_files(self._next("files", _FILES)):
            if self.state.count(FILE, file.seed, verdict):
                self._keep(save(self.folder, FILE, file.seed, verdict, file.data))

    def _next(self, kind: str, count: int) -> range:
        first = self.state.next_seed.get(kind, 0)
        self.state.next_seed[kind] = first + count
        return range(first, first + count)

    def _keep(self, path: Path) -> None:
        print(path.with_suffix(".txt").read_text().splitlines()[0], path, flush=True)


KINDS: dict[str, Callable[[Run], None]] = {"graphs": Run.graphs, "devices": Run.devices, "files": Run.files}
_ROUND = ("graphs", "graphs", "files", "graphs", "graphs", "devices")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}; all by default")
    parser.add_argument("--for", dest="duration", default="10m", help="such as 90s, 60m, 2h")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--seed", type=int, help="where to begin; else where the last run ended")
    parser.add_argument("--compiled", type=int, default=4, help="compile one graph in so many")
    options = parser.parse_args()
    state = State.read(options.folder)
    if options.seed is not None:
        state.next_seed = dict.fromkeys(KINDS, options.seed)
    end = time.monotonic() + int(options.duration[:-1]) * _UNITS[options.duration[-1]]
    run = Run(state, options.folder, end, options.compiled)
    batches = 0
    chosen = [kind for kind in _ROUND if kind in (options.kinds or KINDS)]
    while time.monotonic() < end:
        KINDS[chosen[batches % len(chosen)]](run)
        batches += 1
        state.write(options.folder)
        print(state, flush=True)
    for name, seeds in sorted(state.failures.items(), key=lambda item: -len(item[1])):
        print(f"{len(seeds):5} {name} (seeds {seeds[:4]})")
    sys.exit(bool(state.failures))


if __name__ == "__main__":
    main()

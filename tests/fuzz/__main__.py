"""Look for what goes wrong until the time is up: `python -m tests.fuzz --for 60m`, or `make fuzz FOR=60m`.

It goes on where it was stopped. Of models that fail, the first of each kind lies in failures/, made small.
"""

import argparse
import time
from pathlib import Path

from tests.fuzz.draw import draw
from tests.fuzz.runs import outcomes, smallest
from tests.fuzz.state import State, save

_BATCH = 50
_UNITS = {"s": 1, "m": 60, "h": 3600}
_COMPILED_SHARE = 4
"""One graph in so many is compiled and run: that takes ten times the time of everything before."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--for", dest="duration", default="10m", help="such as 90s, 60m, 2h")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--seed", type=int, help="where to begin; else where the last run ended")
    parser.add_argument("--compiled", type=int, default=_COMPILED_SHARE, help="compile one graph in so many")
    options = parser.parse_args()
    end = time.monotonic() + int(options.duration[:-1]) * _UNITS[options.duration[-1]]
    state = State.read(options.folder)
    while time.monotonic() < end:
        graphs(state, options, end)
        print(f"{state}", flush=True)
    for name, seeds in sorted(state.failures.items(), key=lambda item: -len(item[1])):
        print(f"{len(seeds):5} {name} (seeds {seeds[:4]})")


def graphs(state: State, options: argparse.Namespace, end: float) -> None:
    """Judge one batch of random graphs."""
    first = options.seed if options.seed is not None else state.next_seed.get("graphs", 0)
    options.seed = None
    cases = [draw(seed) for seed in range(first, first + _BATCH)]
    for outcome in outcomes(cases, lambda case: case.seed // 3 % options.compiled == 0):
        if state.count(outcome.stage, outcome.case.seed, outcome.verdict):
            model = smallest(outcome) if time.monotonic() < end else outcome.case.model
            path = save(
                options.folder / "failures", outcome.stage, outcome.case.seed, outcome.verdict,
                model.SerializeToString(),
            )  # fmt: skip
            print(f"{path}: {outcome.verdict.kind}: {outcome.verdict.text}", flush=True)
    state.next_seed["graphs"] = first + _BATCH
    state.write(options.folder)


if __name__ == "__main__":
    main()

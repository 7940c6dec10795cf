"""Compile and run the ONNX project's own models and count: `python -m tests.backend`.

--update writes the list of refused ones (refused.txt); names after the options choose models. --json prints
what became of each, for `--part 1/4` of them.
"""

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict

from tests.backend import refused
from tests.backend.cases import cases
from tests.backend.verdicts import CRASH, PASS, REFUSED, WRONG, verdicts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.backend")
    parser.add_argument("names", nargs="*", help="of models, or parts of them")
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    chosen = [
        case for case in cases() if not options.names or any(name in case.name for name in options.names)
    ][part - 1 :: parts]
    found = verdicts(chosen)
    if options.json:
        json.dump([asdict(verdict) for verdict in found], sys.stdout)
        return
    for verdict in found:
        if verdict.kind in (WRONG, CRASH) or options.names:
            print(f"{verdict.kind:8}{verdict.name}: {verdict.text}")
    counts = Counter(verdict.kind for verdict in found)
    print(
        f"{len(found)} models: "
        + ", ".join(f"{counts[kind]} {kind}" for kind in (PASS, WRONG, CRASH, REFUSED))
    )
    if options.update:
        refused.write(found)


if __name__ == "__main__":
    main()

"""Batches of cases: judged in processes of their own, compiled into one library, run."""

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import onnx

from edgec.kernels.isolation import Died
from edgec.targets import loader
from edgec.targets.descriptor import Target
from tests.fuzz.draw import Drawn, draw
from tests.fuzz.judge import Judged, Verdict, judge, judge_run
from tests.inprocess import Library, isolated

SECONDS = 60
"""Of one case: more is a hang."""
MEMORY = 4 << 30
_RUN_SECONDS = 20
_DEVICES = ("x86-64-v4", "x86-64-v3", "x86-64-v3", "x86-64")


@dataclass
class Figures:
    """What became of all cases so far."""

    stages: dict[str, dict[str, int]] = field(default_factory=dict)
    """By stage, cases by kind."""
    refusals: dict[str, int] = field(default_factory=dict)
    """By what they have in common."""

    def count(self, stage: str, verdict: Verdict) -> None:
        kinds = self.stages.setdefault(stage, {})
        kinds[verdict.kind] = kinds.get(verdict.kind, 0) + 1
        if verdict.kind == "refused":
            self.refusals[verdict.key] = self.refusals.get(verdict.key, 0) + 1

    def __str__(self) -> str:
        lines = []
        for stage, kinds in self.stages.items():
            listed = ", ".join(f"{kinds[kind]} {kind}" for kind in sorted(kinds))
            lines.append(f"{stage}: {sum(kinds.values())} ({listed})")
        return "; ".join(lines)


def target_of(drawn: Drawn) -> Target:
    """A device of this machine's, in turn: each has kernels of its own."""
    devices = _local()
    return loader.load(f"{devices[drawn.seed // 3 % len(devices)]}-{drawn.precision}")


@cache
def _local() -> list[str]:
    here = loader.load("host-int8").features
    return [name for name in _DEVICES if loader.load(f"{name}-int8").levels[-1].features <= here] or ["host"]


def batch(seeds: Sequence[int], compiles: Callable[[int], bool]) -> Iterable[tuple[Drawn, str, Verdict]]:
    """Yield what became of each seed's model at every stage that it came to: `reference`, `code`."""
    drawn = [draw(seed) for seed in seeds]
    with tempfile.TemporaryDirectory(dir=_memory()) as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = name  # else thousands of objects would stay

        def judged(case: Drawn) -> Judged:
            target = target_of(case) if compiles(case.seed) else None
            return judge(case.model, case.precision, case.samples, folder, target)

        made = isolated(drawn, judged, SECONDS, MEMORY)
        programs: list[tuple[Drawn, Judged]] = []
        for case, result in zip(drawn, made, strict=True):
            if isinstance(result, Judged):
                yield case, "reference", result.verdict
                if result.compiled is not None:
                    programs.append((case, result))
            else:
                yield case, "reference", Verdict("crash", f"died: {result.how}")
        yield from _run(programs, folder)


def _run(programs: Sequence[tuple[Drawn, Judged]], folder: Path) -> Iterable[tuple[Drawn, str, Verdict]]:
    if not programs:
        return
    objects = [one.compiled.objects for _, one in programs if one.compiled is not None]
    libraries: list[Library] = []  # linked and loaded in the processes that run it: this one lives long

    def run(judged: Judged) -> Verdict:
        if not libraries:
            libraries.append(Library(objects, folder))
        return judge_run(judged, libraries[0])

    verdicts = isolated([one for _, one in programs], run, _RUN_SECONDS)
    for (case, _), verdict in zip(programs, verdicts, strict=True):
        yield case, "code", verdict if isinstance(verdict, Verdict) else Verdict("crash", f"died: {verdict.how}")


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


__all__ = ["Counter", "Died", "asdict", "json", "onnx", "shutil", "time"]

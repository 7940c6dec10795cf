"""Cases in batches: judged in processes of their own, compiled into one library, run; shrunk if they fail."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx

from edgec.targets import loader
from edgec.targets.descriptor import Target
from tests.fuzz.draw import SAMPLES, Drawn
from tests.fuzz.judge import Judged, Verdict, judge, judge_run
from tests.fuzz.shrink import samples_for, shrink
from tests.inprocess import Library, isolated

SECONDS = 60
"""Of one case: more is a hang."""
MEMORY = 4 << 30
_RUN_SECONDS = 20
_DEVICES = ("x86-64-v4", "x86-64-v3", "x86-64")

REFERENCE, CODE = "reference", "code"
"""Stages: lowered and computed in numpy; compiled and run on this machine."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a case at one stage."""

    case: Drawn
    stage: str
    verdict: Verdict


def target_of(case: Drawn) -> Target:
    """A device of this machine's, in turn: each has kernels of its own."""
    devices = _local()
    return loader.load(f"{devices[case.seed // 3 % len(devices)]}-{case.precision}")


@cache
def _local() -> list[str]:
    here = loader.load("host-int8").features
    return [name for name in _DEVICES if loader.load(f"{name}-int8").levels[-1].features <= here] or ["host"]


@contextmanager
def scratch() -> Iterator[Path]:
    """Within it, a folder in memory that compiled objects are cached in, too: nobody wants them again."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        before = os.environ.get("XDG_CACHE_HOME")
        os.environ["XDG_CACHE_HOME"] = name
        try:
            yield Path(name)
        finally:
            os.environ.pop("XDG_CACHE_HOME")
            if before is not None:
                os.environ["XDG_CACHE_HOME"] = before


def outcomes(cases: Sequence[Drawn], compiles: Callable[[Drawn], bool]) -> Iterator[Outcome]:
    """Yield what became of every case at every stage that it came to."""
    with scratch() as folder:

        def judged(case: Drawn) -> Judged:
            target = target_of(case) if compiles(case) else None
            return judge(case.model, case.precision, case.samples, folder, target)

        programs: list[tuple[Drawn, Judged]] = []
        for case, result in zip(cases, isolated(cases, judged, SECONDS, MEMORY), strict=True):
            if not isinstance(result, Judged):
                yield Outcome(case, REFERENCE, Verdict("crash", f"died: {result.how}"))
                continue
            yield Outcome(case, REFERENCE, result.verdict)
            if result.compiled is not None:
                programs.append((case, result))
        yield from _run(programs, folder)


def _run(programs: Sequence[tuple[Drawn, Judged]], folder: Path) -> Iterator[Outcome]:
    objects = [one.compiled.objects for _, one in programs if one.compiled is not None]
    loaded: list[Library] = []  # linked and loaded in the processes that run it: this one lives long

    def run(judged: Judged) -> Verdict:
        if not loaded:
            loaded.append(Library(objects, folder))
        return judge_run(judged, loaded[0])

    verdicts = isolated([one for _, one in programs], run, _RUN_SECONDS)
    for (case, _), verdict in zip(programs, verdicts, strict=True):
        died = None if isinstance(verdict, Verdict) else Verdict("crash", f"died: {verdict.how}")
        yield Outcome(case, CODE, died or verdict)


def smallest(outcome: Outcome) -> onnx.ModelProto:
    """Return the smallest model found that fails as the outcome says."""

    def fails(model: onnx.ModelProto) -> bool:
        case = Drawn(outcome.case.seed, outcome.case.precision, model, samples_for(model, SAMPLES))
        found = outcomes([case], lambda _case: outcome.stage == CODE)
        return any((one.stage, one.verdict.key) == (outcome.stage, outcome.verdict.key) for one in found)

    return shrink(outcome.case.model, fails)

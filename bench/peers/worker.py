"""One engine in a process of its own: a job as JSON in argv[1], then a line per turn on stdin.

To quantize: {"do": "quantize", "engine": NAME, "model": FILE, "samples": NPZ, "folder": DIR}. It prints
{"model": FILE} and ends.

To run: {"do": "run", "engine": NAME, "model": FILE, "samples": NPZ, "outputs": NPZ, "threads": N,
"cpu_time": BOOL}.
It writes what the engine computes for the samples and prints {"ready": true}. Each line `WARMUP RUNS` is then
answered with the nanoseconds of each of RUNS inferences (of CPU time, if so asked) as a JSON list.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgec.bench.peers.engines import PEERS, Engine, Sample


def main() -> None:
    """Do the job in argv[1]."""
    job = json.loads(sys.argv[1])
    answers = _private_stdout()
    engine = next(peer for peer in PEERS if peer.name == job["engine"])
    samples = read_samples(Path(job["samples"]))
    if job["do"] == "quantize":
        assert engine.quantize is not None
        _answer(answers, {"model": str(engine.quantize(Path(job["model"]), samples, Path(job["folder"])))})
    else:
        _serve(engine, job, samples, answers)


def _serve(engine: Engine, job: dict[str, Any], samples: list[Sample], answers: IO[str]) -> None:
    session = engine.load(Path(job["model"]), job["threads"], samples[0])
    per_sample = [session.outputs(sample) for sample in samples]
    stacked = {str(index): np.stack(arrays) for index, arrays in enumerate(zip(*per_sample, strict=True))}
    np.savez(job["outputs"], **stacked)  # type: ignore[arg-type]
    session.outputs(samples[0])
    _answer(answers, {"ready": True})
    clock = time.process_time_ns if job["cpu_time"] else time.perf_counter_ns
    for line in sys.stdin:
        warmup, runs = map(int, line.split())
        _answer(answers, _timed(session.infer, warmup, runs, clock))


def _timed(infer: Callable[[], object], warmup: int, runs: int, clock: Callable[[], int]) -> list[int]:
    """Return the nanoseconds of each of `runs` inferences."""
    for _ in range(warmup):
        infer()
    taken = []
    for _ in range(runs):
        before = clock()
        infer()
        taken.append(clock() - before)
    return taken


def write_samples(path: Path, samples: list[Sample]) -> Path:
    """Write samples for a worker to `path`, an .npz of [S, ...] by input name."""
    np.savez(path, **{name: np.stack([sample[name] for sample in samples]) for name in samples[0]})  # type: ignore[arg-type]
    return path


def read_samples(path: Path) -> list[Sample]:
    """Return the samples that `write_samples` wrote."""
    with np.load(path) as stacked:
        arrays = dict(stacked)
    count = len(next(iter(arrays.values())))
    return [{name: np.ascontiguousarray(array[i]) for name, array in arrays.items()} for i in range(count)]


def _private_stdout() -> IO[str]:
    """Return stdout for answers alone: what libraries print goes to stderr from here on."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _answer(answers: IO[str], value: object) -> None:
    print(json.dumps(value), file=answers, flush=True)


if __name__ == "__main__":
    main()

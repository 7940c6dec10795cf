"""Starting workers and talking to them: the other end of `worker.py`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import edgec
from edgec.bench.peers.engines import Engine
from edgec.bench.peers.turns import Contender
from edgec.errors import DeviceError

ISA_LIMITS = {"avx2": "AVX2"}
"""`--isa` -> the value that oneDNN's ONEDNN_MAX_CPU_ISA has for it."""
END_SECONDS = 10.0
"""What a worker may take to end once its stdin is closed."""


def quantize(engine: Engine, model: Path, samples: Path, folder: Path) -> Path:
    """Return the engine's int8 form of `model`, a file in `folder`; raises DeviceError where it has none."""
    job = {"do": "quantize", "engine": engine.name, "model": model, "samples": samples, "folder": folder}
    errors = folder / f"{engine.name}.stderr"
    with _process(engine, job, None, errors) as process:
        return Path(_answer(process, errors)["model"])


@contextmanager
def start(
    engine: Engine, model: Path, samples: Path, outputs: Path, threads: int, isa: str | None, cpu_time: bool
) -> Iterator[Contender]:
    """Load `model` in a worker, which writes its `outputs` for the samples, and return it ready to be timed.

    `isa` is a key of ISA_LIMITS, or None; with `cpu_time` it counts the processor's time. Raises DeviceError
    where the engine can't run the model.
    """
    job = {"do": "run", "engine": engine.name, "model": model, "samples": samples, "outputs": outputs}
    errors = outputs.with_suffix(".stderr")
    with _process(engine, job | {"threads": threads, "cpu_time": cpu_time}, isa, errors) as process:
        _answer(process, errors)

        def run(warmup: int, runs: int) -> Sequence[int]:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it ended: there will be no answer either
                process.stdin.write(f"{warmup} {runs}\n")
                process.stdin.flush()
            taken: list[int] = _answer(process, errors)
            return taken

        yield run


@contextmanager
def _process(
    engine: Engine, job: Mapping[str, Any], isa: str | None, errors: Path
) -> Iterator["subprocess.Popen[str]"]:
    """Start a worker, which ends with its stdin; what it says goes to the file `errors`."""
    packages = str(Path(edgec.__file__).parents[1])
    path = os.pathsep.join(filter(None, (packages, os.environ.get("PYTHONPATH"))))
    limits = {variable: ISA_LIMITS[isa] for variable in engine.isa_variables} if isa else {}
    command = [sys.executable, "-m", "edgec.bench.peers.worker", json.dumps(job, default=str)]
    with errors.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            encoding="utf-8",
            env=os.environ | {"PYTHONPATH": path} | limits,
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        try:
            process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answer(process: "subprocess.Popen[str]", errors: Path) -> Any:
    """Return a worker's next answer; raises DeviceError with its last words where it ends without one."""
    assert process.stdout is not None
    if line := process.stdout.readline():
        return json.loads(line)
    said = errors.read_text("utf-8", errors="replace").strip().splitlines()
    raise DeviceError(said[-1] if said else f"its process ended with exit code {process.wait()}")

"""What becomes of each of the ONNX project's models: right, refused with a reason, wrong, or a crash."""

import tempfile
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.compiler.frontend.load import load
from edgec.compiler.model import Model, is_qdq
from edgec.errors import EdgecError
from edgec.kernels import reference
from edgec.targets import loader
from tests.backend.cases import Case
from tests.inprocess import Compiled, Died, Library, compiled, isolated

PASS, REFUSED, WRONG, CRASH = "pass", "refused", "wrong", "crash"

RTOL, ATOL = 1e-3, 1e-5
"""Of float outputs. Integers are compared exactly."""

SECONDS = 180
"""That one model may take."""


@dataclass(frozen=True)
class Verdict:
    name: str
    kind: str
    text: str = ""
    """Why it was refused, what differs, or what was raised where."""


def verdicts(cases: Sequence[Case]) -> list[Verdict]:
    """Compile and run every model, in processes of their own, all in one library."""
    with tempfile.TemporaryDirectory() as folder:
        made = isolated(cases, lambda case: _compiled(case, Path(folder)), SECONDS)
        programs = [(case, one) for case, one in zip(cases, made, strict=True) if isinstance(one, Compiled)]
        library = Library((one.objects for _, one in programs), Path(folder))
        ran = isolated(programs, lambda program: _compared(library, *program), SECONDS)
    results = iter(ran)
    found = [next(results) if isinstance(one, Compiled) else one for one in made]
    return [
        Verdict(case.name, CRASH, one.how) if isinstance(one, Died) else one
        for case, one in zip(cases, found, strict=True)
    ]


def _compiled(case: Case, folder: Path) -> Compiled | Verdict:
    path = folder / "model.onnx"
    path.write_bytes(case.model.SerializeToString())
    warnings.simplefilter("error")
    try:
        model = load(path, shapes(case))
        return compiled(model, loader.load(target(model)))
    except EdgecError as error:
        return Verdict(case.name, REFUSED, str(error).removeprefix(f"{path.name}: "))
    except Exception as error:
        return Verdict(case.name, CRASH, _where(error))


def target(model: Model) -> str:
    """Return what a model is built for: it isn't quantized here, but may be already."""
    return "host-int8" if is_qdq(model) else "host-fp32"


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Return the shapes that a user would have to give with --shape."""
    inputs, _ = case.data[0]
    return {
        value.name: array.shape
        for value, array in zip(case.model.graph.input, inputs, strict=False)
        if isinstance(array, np.ndarray)
        and not all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim)
    }


def _compared(library: Library, case: Case, program: Compiled) -> Verdict:
    warnings.simplefilter("error")
    names = [value.name for value in case.model.graph.output]
    for inputs, outputs in case.data:
        given = zip((value.name for value in case.model.graph.input), inputs, strict=False)
        feed = {name: array for name, array in given if name in program.network.inputs}
        expected = dict(zip(names, outputs, strict=True))
        try:
            ways = {
                "reference": reference.evaluate(program.network, feed),
                "kernels": library.run(program, feed),
            }
            for way, computed in ways.items():
                for name, wanted in expected.items():
                    if how := difference(wanted, computed[name]):
                        return Verdict(case.name, WRONG, f"{way}: output '{name}' {how}")
        except Exception as error:
            return Verdict(case.name, CRASH, _where(error))
    return Verdict(case.name, PASS)


def difference(expected: Any, computed: Any) -> str | None:
    """Return how an output differs from what it must be, None where it doesn't."""
    if not isinstance(expected, np.ndarray):
        return f"is {computed.dtype} {computed.shape}, not {expected!r:.60}"
    if (computed.shape, computed.dtype) != (expected.shape, expected.dtype):
        return f"is {computed.dtype} {computed.shape}, not {expected.dtype} {expected.shape}"
    if computed.dtype.kind in "biu":
        return None if np.array_equal(computed, expected) else _example(expected, computed)
    wide = np.complex128 if computed.dtype.kind == "c" else np.float64
    close = np.isclose(computed.astype(wide), expected.astype(wide), RTOL, ATOL, equal_nan=True)
    return None if close.all() else _example(expected, computed)


def _example(expected: Any, computed: Any) -> str:
    different = ~np.isclose(
        computed.astype(np.float64), expected.astype(np.float64), RTOL, ATOL, equal_nan=True
    )
    index = np.unravel_index(np.argmax(different), different.shape)
    return f"{different.sum()} of {different.size} differ, first {computed[index]} for {expected[index]}"


def _where(error: Exception) -> str:
    """Return an exception and the last line of edgec's that it came through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].name}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} in {place}: {' '.join(str(error).split())[:300]}"

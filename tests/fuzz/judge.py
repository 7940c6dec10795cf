"""What becomes of a model: right, refused in one line, wrong, or a crash."""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray

from edgec.compiler.compress.calibration import load_calibration
from edgec.compiler.compress.quantize import quantize
from edgec.compiler.frontend.load import load
from edgec.compiler.lower.check import check
from edgec.compiler.lower.floating import floating
from edgec.compiler.lower.fuse_residuals import fuse_residuals
from edgec.compiler.lower.integer import integer
from edgec.compiler.model import Model, is_qdq, serialize
from edgec.errors import EdgecError
from edgec.kernels import oracle, reference
from edgec.kernels.operators import Island, Network
from edgec.targets import loader
from tests.fuzz import agreement
from tests.fuzz.agreement import WrongError
from tests.fuzz.qdq import cut, exposed

Arrays = Mapping[str, NDArray[Any]]
Kind = Literal["ok", "refused", "wrong", "crash", "invalid"]

COARSE = 2 / 255
"""What may be wrong with every value of a model in int8: some steps of its range."""
_TELLS = re.compile(r"\b(relax|tvm|tir|tirx|llvm|zig|ziglang|lld|clang|python|numpy|traceback)\b", re.IGNORECASE)
_LONGEST = 2000


@dataclass(frozen=True)
class Verdict:
    """The end of a case."""

    kind: Kind
    text: str = ""
    """One line: the reason of a refusal, what differs, or what was raised and where."""

    @property
    def failed(self) -> bool:
        return self.kind in ("wrong", "crash")

    @property
    def key(self) -> str:
        """What verdicts have in common that have the same cause: the text without names and numbers."""
        text = re.sub(r"'[^']*'|\"[^\"]*\"", "'_'", self.text)
        return f"{self.kind}: " + re.sub(r"\[[^\]]*\]|-?\d[\d.e+-]*|\bnan\b|\binf\b", "#", text)[:160]


@dataclass(frozen=True, eq=False)
class Lowered:
    """A model that got as far as a network."""

    network: Network
    source: Model
    """Normalized, as the file has it."""
    model: Model
    """What was lowered: the source, or that quantized."""


@contextmanager
def _quiet() -> Iterator[None]:
    """numpy's warnings are about values, which are compared."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def judge(model: onnx.ModelProto, precision: str, samples: Arrays, folder: Path) -> Verdict:
    """Load, quantize and lower a model, and compare the reference with the oracle; nothing is compiled.

    `samples` has [samples, *shape] per input: the first is what is compared, all are calibration.
    """
    with _quiet():
        path = folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        feed = {name: array[0] for name, array in samples.items()}
        try:
            expected = oracle.evaluate(model.SerializeToString(), feed)
        except oracle.OracleError as error:
            return Verdict("invalid", str(error))
        return verdict_of(lambda: _compare(lower(path, precision, samples), model, expected, feed))


def verdict_of(attempt: Any) -> Verdict:
    """What a function's exception says, or ok."""
    try:
        attempt()
    except EdgecError as error:
        return refusal(str(error))
    except WrongError as error:
        return Verdict("wrong", str(error))
    except Exception as error:
        return crash(error)
    return Verdict("ok")


def refusal(text: str) -> Verdict:
    """A refusal, if it is one that a user can read."""
    told = _TELLS.search(text)
    if "\n" in text or len(text) > _LONGEST:
        return Verdict("crash", f"a message of {len(text)} characters, {text.count(chr(10)) + 1} lines: {text[:200]!r}")
    return Verdict("crash", f"a message that says {told[0]}: {text}") if told else Verdict("refused", text)


def crash(error: BaseException) -> Verdict:
    """An exception that is none of edgec's, with the last place in edgec that it came through."""
    place, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if any(f"/{part}/" in name for part in ("compiler", "kernels", "bench")) and "site-packages" not in name:
            place = f"{Path(name).parent.name}/{Path(name).name}:{trace.tb_frame.f_code.co_name}"
        trace = trace.tb_next
    return Verdict("crash", f"{type(error).__name__} in {place}: {' '.join(str(error).split())[:400]}")


def lower(path: Path, precision: str, samples: Arrays) -> Lowered:
    """As a build does, up to the network. Raises an EdgecError."""
    target = loader.load(f"host-{precision}")
    source = load(path)
    check(source, target)
    if precision == "fp32":
        return Lowered(floating(source), source, source)
    model = source
    if not is_qdq(source):
        model = quantize(source, load_calibration(dict(samples), source))
    return Lowered(network_of(model), source, model)


def network_of(model: Model) -> Network:
    return fuse_residuals(integer(model) if is_qdq(model) else floating(model))


def _compare(lowered: Lowered, model: onnx.ModelProto, expected: Arrays, feed: Arrays) -> None:
    """Raise WrongError where any step from the file to the network changed what is computed."""
    original = model.SerializeToString()
    network = lowered.network
    values = reference.evaluate(network, feed)
    outputs = {name: values[name] for name in network.outputs}
    if lowered.model is lowered.source and not is_qdq(lowered.model):
        agreement.check(outputs, expected, original, feed, what="reference")
        return
    normalized = oracle.evaluate(serialize(lowered.source), feed)
    agreement.check(normalized, expected, original, feed, what="normalized", steps=1)
    if is_qdq(lowered.model):
        _compare_layers(lowered.model, network, outputs, feed)
    if lowered.source is not lowered.model:
        agreement.resembles(outputs, expected, original, feed, what="int8", noise=COARSE)


def _compare_layers(model: Model, network: Network, outputs: Arrays, feed: Arrays) -> None:
    """Every layer from the reference's own inputs: what ONNX says of it, within one step."""
    proto = onnx.load_from_string(serialize(model))
    wide = exposed(proto)
    whole = network_of(replace(model, ir=onnx_ir.from_proto(wide)))
    values = reference.evaluate(whole, feed)
    if not any(isinstance(operator.operation, Island) for operator in network.operators):
        for name, array in outputs.items():
            if not np.array_equal(array, values[name], equal_nan=array.dtype.kind == "f"):
                raise WrongError(f"reference: '{name}' is another one where more is an output")
    layers = cut(wide)
    given = {**feed, **{f"{name}_given": array for name, array in values.items()}}
    given = {value.name: given[value.name] for value in layers.graph.input}
    expected = oracle.evaluate(layers.SerializeToString(), given)
    ours = {name: values[name] for name in expected}
    agreement.check(ours, expected, layers.SerializeToString(), given, what="layer", steps=1)

"""What becomes of a model: right, refused in one line, wrong, or a crash."""

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from edgec.compiler.compress.calibration import load_calibration
from edgec.compiler.compress.quantize import quantize
from edgec.compiler.frontend.load import load
from edgec.compiler.lower.graph.check import check
from edgec.compiler.lower.network.int8_io import as_real, int8_io, quantized_as
from edgec.compiler.model import Model, is_qdq, serialize
from edgec.compiler.pipeline import to_network
from edgec.errors import EdgecError, UnsupportedError
from edgec.kernels import reference
from edgec.kernels.operations import INEXACT, Conv2d, Island, Network, Recurrent
from edgec.kernels.reference import oracle
from edgec.targets import loader
from edgec.targets.descriptor import Target
from tests import inprocess
from tests.fuzz import agreement
from tests.fuzz.agreement import WrongError
from tests.fuzz.qdq import cut, exposed
from tests.inprocess import Compiled, Library

Arrays = Mapping[str, NDArray[Any]]
Kind = Literal["ok", "refused", "wording", "wrong", "crash", "invalid"]
"""`wording`: refused in words that aren't the user's. `invalid`: nobody can say what is right."""

COARSE = 2 / 255
"""What may be wrong with every value of a model in int8: some steps of its range."""
_TELLS = re.compile(
    r"\b(relax|tvm|tir|tirx|llvm|zig|ziglang|lld|clang|python|numpy|traceback)\b|\.(?:cc|h|py)\b|onnxruntime::",
    re.IGNORECASE,
)
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
def quiet() -> Iterator[None]:
    """Leave out numpy's warnings: they are about values, which are compared."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True, eq=False)
class Judged:
    """A case as far as it came without being run as machine code, and what that is compared with."""

    verdict: Verdict
    model: bytes = b""
    """What was lowered: QDQ where it is quantized."""
    compiled: Compiled | None = None
    """Where it was asked for, and everything before was right."""
    feed: Arrays = field(default_factory=dict)
    expected: Arrays = field(default_factory=dict)
    """The oracle's outputs of `model`."""


def judge(
    model: onnx.ModelProto, precision: str, samples: Arrays, folder: Path, target: Target | None = None
) -> Judged:
    """Load, quantize and lower a model, and compare the reference with the oracle; compile it for `target`.

    `samples` has [samples, *shape] per input: the first is what is compared, all are calibration.
    """
    with quiet():
        path = folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        feed = {name: array[0] for name, array in samples.items()}
        try:
            expected = oracle.evaluate(model.SerializeToString(), feed)
        except oracle.OracleError as error:
            return Judged(Verdict("invalid", str(error)))
        made: list[Any] = []

        def attempt() -> None:
            lowered = lower(path, precision, samples)
            _compare(lowered, model, expected, samples)
            if target is not None:
                quantized = serialize(lowered.model)
                calibration = load_calibration(dict(samples), lowered.model)
                made.append(inprocess.compiled(lowered.model, target, calibration))
                made.append(quantized)

        verdict = verdict_of(attempt)
        if verdict.kind == "wrong" and not oracle_agrees(model, feed, expected):
            return Judged(Verdict("invalid", "ONNX Runtime and ONNX's reference differ"))
        if not made or verdict.kind != "ok":
            return Judged(verdict)
        compiled, quantized = made
        wanted = expected if precision == "fp32" else oracle.evaluate(quantized, feed)
        return Judged(verdict, quantized, compiled, feed, wanted)


def judge_run(judged: Judged, library: Library) -> Verdict:
    """Run what was compiled: exact operations as the reference has them, the rest near the oracle."""
    compiled = judged.compiled
    assert compiled is not None

    def attempt() -> None:
        ours = library.run(compiled, judged.feed)
        network = compiled.network
        exact = _by_place(reference.evaluate(network, judged.feed), network, judged.expected)
        if not any(isinstance(operator.operation, INEXACT) for operator in network.operators):
            for name, array in ours.items():
                wanted = exact[name]
                if not np.array_equal(array, wanted, equal_nan=array.dtype.kind == "f"):
                    at = tuple(int(i) for i in np.argwhere(array != wanted)[0])
                    raise WrongError(f"code: '{name}' {list(at)} is {array[at]} instead of {wanted[at]}")
        elif compiled.program.target.precision == "int8":
            agreement.check_network(ours, exact, network, judged.feed, what="code")
        else:
            agreement.check(ours, judged.expected, judged.model, judged.feed, what="code", steps=1)

    with quiet():
        verdict = verdict_of(attempt)
        if verdict.kind == "wrong" and _compares_nan(judged):
            return Verdict("invalid", "ONNX doesn't say what an operator makes of NaN")
        return verdict


_LEFT_OPEN = frozenset(
    {
        "ArgMax", "ArgMin", "GlobalMaxPool", "GridSample", "Hardmax", "MaxPool", "ReduceMax", "ReduceMin",
        "Resize", "RoiAlign", "TopK",
    }
)  # fmt: skip
"""Operators for which ONNX doesn't say what NaN compares as, or what zero times infinity, of a neighbour that
has no weight, counts for: ONNX Runtime's own results differ among elements that should be equal."""


def _compares_nan(judged: Judged) -> bool:
    """Whether a value is NaN somewhere in a model with operators whose result for it is left open."""
    model = onnx.load_from_string(judged.model)
    if _LEFT_OPEN.isdisjoint(node.op_type for node in model.graph.node):
        return False
    values = agreement.every_value(model, judged.feed)
    return any(np.isnan(array).any() for array in values.values() if array.dtype.kind == "f")


def oracle_agrees(model: onnx.ModelProto, feed: Arrays, expected: Arrays) -> bool:
    """Whether ONNX's reference, where it runs the model, has the values that ONNX Runtime has."""
    try:
        with np.errstate(all="ignore"):
            evaluator = ReferenceEvaluator(model)
            outputs = dict(zip(evaluator.output_names, evaluator.run(None, dict(feed)), strict=True))
        agreement.check(outputs, expected, model.SerializeToString(), feed, what="oracle")
    except WrongError:
        return False
    except Exception:  # it has every kind of failure
        return True
    return True


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
        return Verdict(
            "wording", f"a message of {len(text)} characters, {text.count(chr(10)) + 1} lines: {text[:200]!r}"
        )
    return Verdict("wording", f"{told[0]}: {text}") if told else Verdict("refused", text)


def crash(error: BaseException) -> Verdict:
    """An exception that is none of edgec's, with the last place in edgec that it came through."""
    place, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if (
            any(f"/{part}/" in name for part in ("compiler", "kernels", "bench"))
            and "site-packages" not in name
        ):
            place = f"{Path(name).parent.name}/{Path(name).name}:{trace.tb_frame.f_code.co_name}"
        trace = trace.tb_next
    return Verdict("crash", f"{type(error).__name__} in {place}: {' '.join(str(error).split())[:400]}")


def lower(path: Path, precision: str, samples: Arrays) -> Lowered:
    """As a build does, up to the network. Raises an EdgecError."""
    target = loader.load(f"host-{precision}")
    source = load(path)
    check(source, target)
    if precision == "fp32":
        return Lowered(to_network(source), source, source)
    model = source
    if not is_qdq(source):
        model = quantize(source, load_calibration(dict(samples), source))
    return Lowered(to_network(model), source, model)


def _compare(lowered: Lowered, model: onnx.ModelProto, expected: Arrays, samples: Arrays) -> None:
    """Raise WrongError where any step from the file to the network changed what is computed."""
    original, feed = model.SerializeToString(), {name: array[0] for name, array in samples.items()}
    values = reference.evaluate(lowered.network, feed)
    outputs = _by_place(values, lowered.network, expected)
    if not is_qdq(lowered.model):
        agreement.check(outputs, expected, original, feed, what="reference")
        return
    normalized = oracle.evaluate(serialize(lowered.source), feed)
    agreement.check(normalized, expected, original, feed, what="normalized", steps=1)
    _compare_layers(lowered.model, lowered.network, outputs, feed)
    _compare_ends(lowered.network, values, feed)
    if lowered.source is not lowered.model:
        agreement.resembles(outputs, expected, original, samples, what="int8", noise=COARSE)


def _compare_layers(model: Model, network: Network, outputs: Arrays, feed: Arrays) -> None:
    """Every layer from the reference's own inputs: what ONNX says, within a step of it or half a sum's."""
    wide = exposed(onnx.load_from_string(serialize(model)))
    whole = to_network(replace(model, ir=onnx_ir.from_proto(wide)))
    values = reference.evaluate(whole, feed)
    named = _by_place(values, whole, [value.name for value in wide.graph.output])
    if not any(isinstance(operator.operation, Island) for operator in network.operators):
        for name, array in outputs.items():
            if not np.array_equal(array, named[name], equal_nan=array.dtype.kind == "f"):
                raise WrongError(f"reference: '{name}' is another one where more is an output")
    layers = cut(wide)
    given = {value.name: named.get(value.name.removesuffix("_given")) for value in layers.graph.input}
    given |= feed
    expected = oracle.evaluate(layers.SerializeToString(), given)
    ours = {name: named[name] for name in expected}
    coarsest = max(
        (o.operation.multiplier.max() for o in whole.operators if isinstance(o.operation, Conv2d)), default=0
    )
    # docs/semantics.md: a bias is rounded to a step of the sum, a gate's argument to 2**-11
    tensors = [whole.tensors[o.outputs[0]] for o in whole.operators if isinstance(o.operation, Recurrent)]
    finest = min((t.quantization.scale for t in tensors if t.quantization is not None), default=1.0)
    steps = max(1, math.ceil(coarsest / 2), math.ceil(2.0**-10 / finest))
    agreement.check(ours, expected, layers.SerializeToString(), given, what="layer", steps=steps)


def _compare_ends(network: Network, values: Arrays, feed: Arrays) -> None:
    """Where inputs and outputs can be int8 themselves, they are the codes of what they are in float."""
    try:
        ends = int8_io(network)
    except UnsupportedError:
        return
    codes = reference.evaluate(ends, {name: quantized_as(ends.tensors[name], a) for name, a in feed.items()})
    for name in network.outputs:
        float_end = network.tensors[name].dtype == "float32"
        ours = as_real(ends.tensors[name], codes[name]) if float_end else codes[name]
        if not np.array_equal(ours, values[name]):
            raise WrongError(f"int8 ends: '{name}' is another one than in float")


def _by_place(values: Arrays, network: Network, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Outputs by the model's names: an input that is an output, too, has another one in the network."""
    return {name: values[own] for name, own in zip(names, network.outputs, strict=True)}

"""Damaged files, judged: an EdgecError, or what the oracle computes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from edgec.compiler import pipeline
from edgec.compiler.compress.calibration import synthetic
from edgec.compiler.compress.quantize import quantize
from edgec.compiler.frontend.load import load
from edgec.compiler.lower.graph.check import check
from edgec.compiler.model import is_qdq
from edgec.compiler.pipeline import to_network
from edgec.kernels import reference
from edgec.kernels.reference import oracle
from edgec.options import BuildOptions
from edgec.targets import loader
from tests.compiler import onnx_models
from tests.fuzz import agreement
from tests.fuzz.draw import draw
from tests.fuzz.judge import Verdict, verdict_of
from tests.fuzz.mutate import mutated
from tests.fuzz.runs import MEMORY, SECONDS, scratch
from tests.inprocess import isolated

_EXAMPLES = Path(__file__).parents[2] / "examples"
_LARGEST = 1 << 19
"""Of a real file: what is damaged in a larger one is mostly a weight."""
_BUILT_SHARE = 50
"""One file in so many goes all the way to a bundle."""
FILE = "file"


@dataclass(frozen=True, eq=False)
class Damaged:
    """A file that is to be read."""

    seed: int
    data: bytes


def damaged(seed: int) -> Damaged:
    """The same for the same seed: of a real model, a quantized one, or a drawn one of many operators."""
    dice = np.random.default_rng([seed, 0xF11E])
    kind = dice.random()
    if kind < 0.3:
        model = _real()[int(dice.integers(len(_real())))]
    elif kind < 0.45:
        model = _quantized()
    else:
        model = draw(int(dice.integers(1 << 30))).model
    return Damaged(seed, mutated(model, dice))


@cache
def _real() -> list[onnx.ModelProto]:
    found = sorted(path for path in _EXAMPLES.glob("*.onnx") if path.stat().st_size <= _LARGEST)
    return [onnx.load(path) for path in found]


@cache
def _quantized() -> onnx.ModelProto:
    """Convolutions and an addition in int8, as tools write them."""
    plain = onnx_models.model(
        "(float[1,3,8,8] x) => (float y) { a = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(a) s = Add(r, x)"
        " p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(s) y = Concat<axis=1>(p, p) }",
        {
            "w": np.random.default_rng(0).standard_normal((3, 3, 3, 3)).astype(np.float32),
            "b": np.ones(3, np.float32),
        },
    )
    return onnx_models.quantized(plain, onnx_models.samples(plain), inner=("r", "s"))


def judged_files(seeds: Sequence[int]) -> Iterator[tuple[Damaged, Verdict]]:
    """Yield what became of every seed's file."""
    files = [damaged(seed) for seed in seeds]
    with scratch() as folder:
        found = isolated(files, lambda file: judge_file(file, folder), SECONDS, MEMORY)
    for file, verdict in zip(files, found, strict=True):
        died = None if isinstance(verdict, Verdict) else Verdict("crash", f"died: {verdict.how}")
        yield file, died or verdict


def judge_file(file: Damaged, folder: Path) -> Verdict:
    """Read a file, lower it for int8 or float, and compare; one in some is built."""
    path = folder / "model.onnx"
    path.write_bytes(file.data)

    def attempt() -> None:
        with np.errstate(all="ignore"):
            _attempt(path, file)

    return verdict_of(attempt)


def _attempt(path: Path, file: Damaged) -> None:
    model = load(path)
    float_target = file.seed % 2 and not is_qdq(model)
    target = loader.load("host-fp32" if float_target else "host-int8")
    check(model, target)
    data = synthetic(model)
    lowered = model if float_target or is_qdq(model) else quantize(model, data)
    network = to_network(lowered, target=target)
    feed = data.feed(0)
    values = reference.evaluate(network, feed)
    if file.seed % _BUILT_SHARE == 0:
        pipeline.build(path, BuildOptions(target=target.name, output=path.parent / "built.edgec"))
    if lowered is not model or is_qdq(model) or _loaded_elsewhere(file):
        return
    try:
        expected = oracle.evaluate(_nameless(file.data), feed)
    except oracle.OracleError:
        return  # nobody can say what is right
    ours = {name: values[own] for name, own in zip(expected, network.outputs, strict=True)}
    agreement.check(ours, expected, file.data, feed, what="file")


def _nameless(data: bytes) -> bytes:
    """Return the model without names of nodes: they mean nothing, but ONNX Runtime takes none twice."""
    model = onnx.load_from_string(data)
    for node in model.graph.node:
        node.name = ""
    return model.SerializeToString()


def _loaded_elsewhere(file: Damaged) -> bool:
    """Whether a constant lies in another file, which the oracle isn't given."""
    graph = onnx.load_from_string(file.data).graph
    return any(tensor.data_location == TensorProto.EXTERNAL for tensor in graph.initializer)

"""Whether two runs of a model agree, as far as rounding lets them.

Where plain tolerances are exceeded, the model itself says what rounding may do: it is run again with a little
noise on every value, and what moves by as much as the difference doesn't count.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgec.compiler.operators.table import OPERATORS
from edgec.kernels import reference
from edgec.kernels.operations import Network
from edgec.kernels.reference import oracle

Arrays = Mapping[str, NDArray[Any]]

RELATIVE, ABSOLUTE = 1e-3, 1e-5
_NOISE = 2.0**-19
"""Of a value's size: some units in the last place, as sums of many terms have them."""
_RUNS = 12
_MARGIN = 4.0


class WrongError(Exception):
    """Two runs disagree; the text says where and by how much."""


def check(
    ours: Arrays,
    theirs: Arrays,
    model: bytes,
    inputs: Arrays,
    *,
    what: str,
    noise: float = _NOISE,
    steps: int = 0,
) -> None:
    """Raise WrongError where `ours` isn't what `model` computes from `inputs`, which is `theirs`.

    8-bit integers may be `steps` off. `noise` is what may be wrong with every value inside, in parts of it.
    """

    def noisy() -> dict[str, NDArray[Any]]:
        sizes = _sizes(model, inputs, noise)
        return _spread(lambda seed: oracle.evaluate(_with_noise(model, sizes, seed), inputs), theirs)

    _check(ours, theirs, noisy, what, steps)


def check_network(ours: Arrays, theirs: Arrays, network: Network, inputs: Arrays, *, what: str) -> None:
    """Raise WrongError where `ours` isn't what an int8 network computes, which is `theirs` by the reference.

    Only islands have noise inside: all that is integers is exact, and moves only as they move it.
    """

    def run(seed: int) -> Arrays:
        def with_noise(model: bytes, given: Arrays) -> Arrays:
            return oracle.evaluate(_with_noise(model, _sizes(model, given, _NOISE), seed), given)

        values = reference.evaluate(network, inputs, onnx_says=with_noise)
        return {name: values[own] for name, own in zip(theirs, network.outputs, strict=True)}

    _check(ours, theirs, lambda: _spread(run, theirs), what, steps=0)


def _check(
    ours: Arrays, theirs: Arrays, noisy: Callable[[], dict[str, NDArray[Any]]], what: str, steps: int
) -> None:
    doubtful = [name for name in theirs if _excess(ours[name], theirs[name], None, steps)]
    if not doubtful:
        return
    spread = noisy()
    for name in doubtful:
        if found := _excess(ours[name], theirs[name], spread.get(name), steps):
            raise WrongError(f"{what}: '{name}' {found}")


def resembles(
    ours: Arrays, theirs: Arrays, model: bytes, samples: Arrays, *, what: str, noise: float
) -> None:
    """Raise WrongError where an output is further from `theirs`, on average, than noise brings it.

    `ours` and `theirs` are of the first of `samples`; noise is a part of the largest that a value is on any.
    """
    spread = None
    inputs = {name: array[0] for name, array in samples.items()}
    sizes = cache(lambda: _reach(model, samples, noise))

    def run(seed: int) -> Arrays:
        return oracle.evaluate(_with_noise(model, sizes(), seed), inputs)

    for name, exact in theirs.items():
        if (ours[name].shape, ours[name].dtype) != (exact.shape, exact.dtype):
            raise WrongError(f"{what}: '{name}' {_excess(ours[name], exact, None, 0)}")
        if exact.dtype.kind != "f":
            continue
        off = ours[name].astype(np.float64) - exact
        largest = np.abs(exact[np.isfinite(exact)]).max(initial=0)
        if np.abs(off[np.isfinite(off)]).max(initial=0) <= 3 * noise * largest:
            continue
        spread = spread or _spread(run, theirs)
        # What noise moves by more than the largest value lies beside a pole, where anything may come out.
        counted = np.isfinite(off) & (spread[name] <= largest)
        if not counted.any():
            continue
        found, allowed = (float(np.sqrt(np.mean(np.square(e[counted])))) for e in (off, spread[name]))
        if found > _MARGIN * allowed + noise * largest:
            raise WrongError(
                f"{what}: '{name}' is {found:.4g} off on average, noise brings it {allowed:.4g} off"
            )


def _excess(a: NDArray[Any], b: NDArray[Any], spread: NDArray[Any] | None, steps: int) -> str:
    """Say how an output differs by more than it may; empty where it doesn't."""
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return f"is {a.dtype}{list(a.shape)} instead of {b.dtype}{list(b.shape)}"
    if a.dtype.kind == "b":
        a, b = a.astype(np.int8), b.astype(np.int8)
    exact, other = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        allowed = np.zeros(a.shape) + (steps if a.dtype.itemsize == 1 else 0)
        if a.dtype.kind == "f":
            allowed = allowed + ABSOLUTE + RELATIVE * np.abs(np.nan_to_num(other))
        if spread is not None:
            allowed = allowed + _MARGIN * spread
        near = np.abs(exact - other) <= allowed
        equal = near | (exact == other) | (np.isnan(exact) & np.isnan(other))
        equal |= np.isinf(allowed)
    if equal.all():
        return ""
    index = tuple(int(i) for i in np.argwhere(~equal)[0])
    return f"{list(index)} is {a[index]} instead of {b[index]} ({np.mean(~equal):.0%} of it differ)"


def _sizes(model: bytes, inputs: Arrays, noise: float) -> dict[str, NDArray[Any]]:
    """Return the noise of every element of every float: a part of its own size and of the tensor's mean."""
    found = {}
    for name, array in _floats(model, inputs).items():
        size = np.abs(np.where(np.isfinite(array), array, 0)).astype(np.float64)
        found[name] = noise * (size + size.mean())
    return found


def _reach(model: bytes, samples: Arrays, noise: float) -> dict[str, NDArray[Any]]:
    """Return the noise of every float: a part of the largest it is on any sample, or that its range has."""
    found: dict[str, NDArray[Any]] = {}
    for name, array in samples.items():
        if array.dtype == np.float32:
            found[name] = np.full(array.shape[1:], noise * np.abs(array).max())
    for index in range(min(map(len, samples.values()))):
        for name, array in _floats(model, {key: every[index] for key, every in samples.items()}).items():
            largest = noise * np.abs(array[np.isfinite(array)].astype(np.float64)).max(initial=0)
            found[name] = np.maximum(found.get(name, 0), np.full(array.shape, largest))
    for node in onnx.load_from_string(model).graph.node:
        row = OPERATORS.get(node.op_type)
        if row is not None and row.output is not None and node.output[0] in found:
            scale = row.output.scale  # probabilities have steps of 1/256, however small they all are
            found[node.output[0]] = np.maximum(found[node.output[0]], noise * scale * 256)
    return found


def _floats(model: bytes, inputs: Arrays) -> dict[str, NDArray[Any]]:
    values = every_value(onnx.load_from_string(model), inputs)
    return {name: array for name, array in values.items() if array.dtype == np.float32 and array.size}


def _spread(run: Callable[[int], Arrays], clean: Arrays) -> dict[str, NDArray[Any]]:
    """Return how far noise moves every element of every output; infinite where it decides between kinds.

    `run` computes the outputs with noise of a seed, `clean` is without any.
    """
    largest: dict[str, NDArray[Any]] = {}
    for seed in range(_RUNS):
        noisy = run(seed)
        for name, base in clean.items():
            moved = noisy[name].astype(np.float64) - base.astype(np.float64)
            same = (noisy[name] == base) | (np.isnan(moved) & np.isnan(base.astype(np.float64)))
            moved = np.where(same, 0, np.where(np.isfinite(moved), np.abs(moved), np.inf))
            if base.dtype.kind != "f" and base.dtype.itemsize > 1:
                moved = np.where(moved > 0, np.inf, 0)
            largest[name] = np.maximum(largest.get(name, 0), moved)
    return largest


def _with_noise(model: bytes, sizes: Mapping[str, NDArray[Any]], seed: int) -> bytes:
    """Return the model with noise of these sizes added to its floats, by name."""
    proto = onnx.load_from_string(model)
    dice = np.random.default_rng(seed)
    nodes = []
    for value in proto.graph.input:
        if value.name in sizes:
            drawn = np.asarray(dice.uniform(-1, 1, sizes[value.name].shape) * sizes[value.name], np.float32)
            proto.graph.initializer.append(numpy_helper.from_array(drawn, f"{value.name}_noise"))
            nodes.append(
                helper.make_node("Add", [value.name, f"{value.name}_noise"], [f"{value.name}_noisy"])
            )
    noisy = {value.name: f"{value.name}_noisy" for value in proto.graph.input if value.name in sizes}
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = noisy.get(name, name)
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name not in sizes or node.op_type == "DequantizeLinear":
                continue
            drawn = np.asarray(dice.uniform(-1, 1, sizes[name].shape) * sizes[name], np.float32)
            node.output[index] = f"{name}_clean"
            proto.graph.initializer.append(numpy_helper.from_array(drawn, f"{name}_noise"))
            nodes.append(helper.make_node("Add", [f"{name}_clean", f"{name}_noise"], [name]))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return bytes(proto.SerializeToString())


def every_value(proto: onnx.ModelProto, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Return what the oracle computes for every value of a model that has a known type."""
    wider = onnx.shape_inference.infer_shapes(proto)
    known = {value.name for value in wider.graph.output}
    kept = [v for v in wider.graph.value_info if v.type.tensor_type.elem_type != TensorProto.UNDEFINED]
    produced = {name for node in wider.graph.node for name in node.output}
    wider.graph.output.extend(v for v in kept if v.name in produced - known)
    return oracle.evaluate(wider.SerializeToString(), inputs)

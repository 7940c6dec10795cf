"""Every node of a float island is tried alone before it is believed.

It is converted, compiled, run, and compared with what ONNX Runtime or ONNX's own reference computes, on data
that reaches its corners. What reads a node wrongly would be wrong on the device and in the bundle's own
reference alike. A node that differs, dies or has nobody to compare with is refused, by name. What is tried is
the code that a bundle gets, but for the processor: the plainest that this machine's is one of. Verdicts are
kept, in the user's cache too: a node's shapes, types and attributes decide one, not what its weights are.
Neither deaths nor a want of memory are kept there.
"""

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec import cache
from edgec.arrays import Array
from edgec.compiler.lower.islands import refusals
from edgec.compiler.lower.islands.trial_data import feeds
from edgec.errors import UnsupportedError
from edgec.kernels.operations import Island, Operator
from edgec.kernels.reference import oracle
from edgec.kernels.reference.isolation import Died, isolated
from edgec.kernels.version import code_version
from edgec.targets import detect, loader

_SECONDS = 120
"""How long one node may take. The largest product of matrices in a model for edge devices takes one."""

_WEIGHTS = 64
"""Elements of a float constant beyond which its values aren't looked at but made up."""

_RTOL, _ATOL = 1e-3, 1e-5
"""How near results in float32 must come, the latter as a share of an output's largest element: sums may be
added up in another order."""

_RTOL_HALF, _ATOL_HALF = 1e-2, 1e-3
"""How near results in float16 must come."""

_verdicts: dict[str, str] = {}
"""By content: empty for a node that computes what ONNX defines, else the reason why it can't be compiled."""


def faults(model: onnx.ModelProto) -> list[tuple[str, str, str]]:
    """Return (name, operator, reason) of the nodes of a model that can't be compiled as ONNX defines them."""
    alone = singles(model)
    verdicts = iter(judge([single for _, single in alone if not isinstance(single, str)]))
    found = []
    for node, single in alone:
        reason = single if isinstance(single, str) else _named(next(verdicts), node)
        if reason:
            found.append((node.name, node.op_type, reason))
    return found


def singles(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, onnx.ModelProto | str]]:
    """Return every node of a model with a model of it alone, or with why there is none.

    Weights have no values there, `filled` makes them up.
    """
    graph = model.graph
    types = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    constants = {constant.name: _without_weights(constant) for constant in graph.initializer}
    return [(node, _alone(model, node, types, constants)) for node in graph.node]


def filled(single: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of one node with weights."""
    model = onnx.ModelProto()
    model.CopyFrom(single)
    for constant in model.graph.initializer:
        if not constant.raw_data and math.prod(constant.dims) > _WEIGHTS:
            dtype, shape = helper.tensor_dtype_to_np_dtype(constant.data_type), tuple(constant.dims)
            array = np.random.default_rng(shape).standard_normal(shape).astype(dtype)
            constant.CopyFrom(numpy_helper.from_array(array, constant.name))
    return model


def judge(models: Sequence[onnx.ModelProto]) -> list[str]:
    """Return a verdict on every model of one node, from the cache where there is one."""
    keys = [_key(single) for single in models]
    missing: dict[str, onnx.ModelProto] = {}
    for key, single in zip(keys, models, strict=True):
        if key not in _verdicts and key not in missing:
            stored = cache.read(_entry(key))
            if stored is None:
                missing[key] = single
            else:
                _verdicts[key] = stored.decode()
    if missing:
        from edgec.compiler.lower.islands import relax_import

        del relax_import
        oracle.runtime()
        results = isolated([partial(_tried, single) for single in missing.values()], _SECONDS)
        for (key, single), result in zip(missing.items(), results, strict=True):
            if isinstance(result, Died):  # perhaps for want of time or memory: the next build tries again
                took = _TOOK.get(result.how)
                _verdicts[key] = refusals.untried(took) if took else refusals.form(single)
            else:
                _verdicts[key] = result
                cache.write(_entry(key), result.encode())
        cache.trim()
    return [_verdicts[key] for key in keys]


def _alone(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    types: Mapping[str, onnx.ValueInfoProto],
    constants: Mapping[str, onnx.TensorProto],
) -> onnx.ModelProto | str:
    """Return a model of one node, or why there is none; the model's names are forgotten."""
    names = dict.fromkeys(name for name in node.input if name)
    for name in (*names, *(name for name in node.output if name)):
        if name not in types and name not in constants:
            return f"the shape of '{name}' isn't known"
    given = {name: f"input{i}" for i, name in enumerate(names)}
    made = {name: f"output{i}" for i, name in enumerate(node.output) if name}
    single = helper.make_node(
        node.op_type,
        [given.get(name, "") for name in node.input],
        [made.get(name, "") for name in node.output],
        domain=node.domain,
    )
    single.attribute.extend(node.attribute)
    graph = helper.make_graph(
        [single],
        "node",
        [_renamed(types[name], given[name]) for name in names if name not in constants],
        [_renamed(types[name], made[name]) for name in made],
        [_constant(constants[name], given[name]) for name in names if name in constants],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _named(reason: str, node: onnx.NodeProto) -> str:
    """Return a reason with the node's own names of its inputs."""
    names = list(dict.fromkeys(name for name in node.input if name))
    return re.sub(r"'input(\d+)'", lambda found: f"'{names[int(found[1])]}'", reason)


def _renamed(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto(name=name, type=value.type)


def _constant(constant: onnx.TensorProto, name: str) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(constant)
    copy.name = name
    return copy


def _without_weights(constant: onnx.TensorProto) -> onnx.TensorProto:
    """Return a constant in one form; floats without values where there are many."""
    floats = helper.tensor_dtype_to_np_dtype(constant.data_type).kind == "f"
    if floats and math.prod(constant.dims) > _WEIGHTS:
        return onnx.TensorProto(dims=constant.dims, data_type=constant.data_type)
    return numpy_helper.from_array(numpy_helper.to_array(constant))


_TOOK = {"memory": refusals.MEMORY, "SIGKILL": refusals.MEMORY, "timeout": refusals.TIME}
"""By what a trial died of: what it took. Linux kills what takes all memory."""


def _tried(single: onnx.ModelProto) -> str | Died:
    """Return why a node can't be compiled, or an empty string; Died where memory didn't suffice to see."""
    if reason := refusals.unknown_type(single):
        return reason
    single = filled(single)
    try:
        run = _compiled(single)
    except Exception as error:  # TVM raises every kind there is
        if refusals.of_this_machine(error):
            return Died("memory")
        return refusals.reason(single, error)
    serialized = single.SerializeToString()
    for inputs in feeds(single):
        try:
            expected = oracle.evaluate(serialized, inputs)
        except UnsupportedError as error:
            return Died("memory") if refusals.of_this_machine(error) else refusals.no_oracle(single)
        for (name, wanted), found in zip(expected.items(), run(inputs), strict=True):
            if not _equal(wanted, found):
                return refusals.differs(single, name, wanted, found)
    return ""


def _compiled(single: onnx.ModelProto) -> Any:
    """Return a function from inputs to a list of outputs: the node as an island would compute it."""
    from tvm import relax

    from edgec.compiler.lower.islands.island_code import island_code, result_kinds
    from edgec.compiler.lower.islands.relax_import import import_onnx
    from edgec.compiler.lower.islands.tir_blocks import foreign, is_sequential
    from edgec.kernels.codegen.in_process import loaded

    module = import_onnx(single)
    for _, function in module.functions_items():
        if not isinstance(function, relax.Function) and (foreign(function) or is_sequential(function)):
            raise refusals.SequentialError
    names, outputs = (tuple(v.name for v in values) for values in (single.graph.input, single.graph.output))
    operator = Operator("node", Island(b""), names, outputs)
    target = loader.load(f"{detect.host_arch()}-fp32")
    code = island_code(module, operator, target)
    functions = {symbol: function.make() for symbol, function in code.functions.items()}
    steps = [(call.symbol, call.arguments, call.tiles) for call in code.calls]
    compute = loaded(functions, steps, target)
    kinds = dict(zip(outputs, result_kinds(module), strict=True))
    kinds |= {name: (tensor.shape, tensor.dtype) for name, tensor in code.tensors.items()}

    def run(inputs: dict[str, Array]) -> list[Array]:
        arrays = {name: _room(*kind) for name, kind in kinds.items()}
        for name, array in (inputs | code.constants).items():
            arrays[name] = _room(array.shape, array.dtype.name)
            arrays[name][...] = array
        compute({name: array.ctypes.data for name, array in arrays.items()})
        return [arrays[name] for name in outputs]

    return run


_ALIGNMENT = 64
"""Bytes: what an arena has, and kernels rely on."""


def _room(shape: tuple[int, ...], dtype: str) -> Array:
    """Return memory for a tensor, full of what nobody computed."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.full(size + _ALIGNMENT, 0x5A, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _equal(wanted: Array, found: Array) -> bool:
    """Whether two outputs are the same: to the bit but for floats."""
    if (wanted.shape, wanted.dtype) != (found.shape, found.dtype):
        return False
    if wanted.dtype.kind != "f":
        return np.array_equal(wanted, found)
    rtol, atol = (_RTOL_HALF, _ATOL_HALF) if wanted.itemsize == 2 else (_RTOL, _ATOL)
    finite = np.abs(wanted[np.isfinite(wanted)].astype(np.float64))
    scale = max(1.0, float(finite.max(initial=0)))
    with np.errstate(all="ignore"):
        return np.allclose(
            found.astype(np.float64), wanted.astype(np.float64), rtol=rtol, atol=atol * scale, equal_nan=True
        )


def _key(single: onnx.ModelProto) -> str:
    return hashlib.sha256(_sources() + single.SerializeToString(deterministic=True)).hexdigest()


def _entry(key: str) -> Path:
    return cache.folder() / "nodes" / key


@functools.cache
def _sources() -> bytes:
    """Return what else decides a verdict: versions, and how nodes are converted, compiled and judged."""
    packages = ("apache-tvm", "apache-tvm-ffi", "numpy", "onnx", "onnxruntime")
    folder = Path(__file__).parent
    parts = [[package, metadata.version(package)] for package in packages]
    parts += [["kernels", code_version()]]
    parts += [[path.name, path.read_text(encoding="utf-8")] for path in sorted(folder.rglob("*.py"))]
    return hashlib.sha256(json.dumps(parts).encode()).digest()

"""What ONNX says: a model evaluated by somebody else, as it is written.

ONNX Runtime without graph optimizations is asked first, on one thread; where it can't run a model (an opset,
type or operator that it lacks), ONNX's own reference implementation is. Neither shares edgec's reading of it.
"""

import importlib
import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from edgec import processes
from edgec.arrays import Array, Arrays
from edgec.errors import UnsupportedError
from edgec.kernels.reference.isolation import Died, isolated

_SECONDS = 600
"""How long a run in a process of its own may take: longer than any model takes that an edge device is for."""
_LONGEST = 300
"""Characters of what a library says: ONNX's reference lists all operators that it knows."""


_INSIDES = (
    (r"<class '[^']*'>", "an array"),
    (r"\bPython int(eger)?\b", "an integer"),
    (r"\[ONNXRuntimeError\] : \d+ : \w+ : ", ""),
    (
        r"Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: ",
        r"node '\2' (\1): ",
    ),
    (r"\[\w*InferenceError\] ", ""),
    (r"No registered implementation for operator '(\w+)'.*", r"it has no operator '\1'"),
    (
        r"/\S+\.\w+:\d+ [^()]*(?:\(\))?\([^()]*\)(?: const)?(?: \[[^\]]*\])? (?:.*? was false\. ?)?",
        "",
    ),  # file, function, check
    (r"\b\w+\.(?:cc|h):\d+ \w+ ", ""),
)
"""What a library's messages hold that says nothing to who gave it a model, and what is put in its place."""


class OracleError(UnsupportedError):
    """Neither can run the model; the text says why, in one line."""


def runtime() -> Any:
    """Return the module onnxruntime, its telemetry off; the one place that imports it in the compiler."""
    # Read when it is imported: from 1.32 on it keeps a device id and a database in the user's cache folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if "onnxruntime" in sys.modules:
        return sys.modules["onnxruntime"]
    with processes.unheard():  # without /sys its library of what a CPU is complains in six lines
        return importlib.import_module("onnxruntime")  # slow


def session(model: bytes, *, threads: int = 1) -> Any:
    """Return an `onnxruntime.InferenceSession` of a serialized model, nothing optimized, nothing logged.

    One thread sums in the same order on every number of cores. Raises what onnxruntime raises.
    """
    ort = runtime()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def evaluate(model: bytes, inputs: Arrays) -> dict[str, Array]:
    """Return the outputs of a serialized ONNX model, by name.

    Inputs must have the model's dtypes; they are reshaped to its shapes. Raises OracleError.
    """
    (outputs,) = evaluate_each(model, [inputs])
    return outputs


def evaluate_each(model: bytes, samples: Sequence[Arrays]) -> list[dict[str, Array]]:
    """Return the outputs of several runs as `evaluate` does, for the price of opening the model once."""
    if _divides_integers(model):  # by zero, ONNX Runtime would take this process with it
        (result,) = isolated([partial(_by_runtime, model, samples)], _SECONDS)
    else:
        result = _by_runtime(model, samples)
    if isinstance(result, list):
        return result
    refused = result.how if isinstance(result, Died) else result
    try:
        return _by_reference(model, samples)
    except Exception as error:  # numpy, which the reference is written in, has every kind of failure
        raise OracleError(
            f"no outputs to compare with: ONNX Runtime says {refused!r}, ONNX's reference {line(error)!r}"
        ) from error


def _by_runtime(model: bytes, samples: Sequence[Arrays]) -> list[dict[str, Array]] | str:
    """Return the outputs, or why there are none."""
    try:
        opened = session(model)
        names = [spec.name for spec in opened.get_outputs()]
        found = []
        for inputs in samples:
            feeds = {spec.name: _shaped(inputs[spec.name], spec.shape) for spec in opened.get_inputs()}
            found.append(dict(zip(names, map(np.asarray, opened.run(None, feeds)), strict=True)))
        return found
    except Exception as error:  # onnxruntime has a class of its own for every kind of failure
        return line(error)


def _divides_integers(model: bytes) -> bool:
    if b"Div" not in model and b"Mod" not in model:
        return False
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model)).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    divisors = [node.input[1] for node in graph.node if node.op_type in ("Div", "Mod")]
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    return any(kinds.get(name) not in floats for name in divisors)


def _by_reference(model: bytes, samples: Sequence[Arrays]) -> list[dict[str, Array]]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    from edgec.kernels.reference.precise_operators import BatchNormalization

    proto = onnx.load_from_string(model)
    evaluator = ReferenceEvaluator(proto, new_ops=[BatchNormalization])
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in proto.graph.input
    }
    found = []
    for inputs in samples:
        feeds = {name: _shaped(inputs[name], shapes[name]) for name in evaluator.input_names}
        with np.errstate(all="ignore"):
            outputs = evaluator.run(None, feeds)
        names = map(str, evaluator.output_names)
        found.append({name: np.asarray(y) for name, y in zip(names, outputs, strict=True)})
    return found


def _shaped(array: Array, shape: list[int | str]) -> Array:
    fixed = all(isinstance(extent, int) for extent in shape)
    return np.asarray(array).reshape([int(extent) for extent in shape]) if fixed else np.asarray(array)


def line(error: Exception) -> str:
    """Return what a library says: one line, without its own insides, not longer than can be read."""
    said = " ".join(str(error).split())
    for found, instead in _INSIDES:
        said = re.sub(found, instead, said)
    return (said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ...") or type(error).__name__

"""Why a float node can't be compiled, in ONNX's own words."""

import re
from collections.abc import Container, Iterable, Sequence

import numpy as np
import onnx
from onnx import helper

from edgec.arrays import Array
from edgec.compiler.names import C_TYPES

LATEST = onnx.defs.onnx_opset_version()

NO_KERNEL = "edgec has no kernel for this operator"


class SequentialError(Exception):
    """A node that can't be computed in tiles: one that sorts, for example."""


class NoConverterError(Exception):
    """An operator that nothing here converts."""


def reason(single: onnx.ModelProto, error: Exception) -> str:
    """Return why the one node of a model can't be compiled, from what was raised when it was tried."""
    if isinstance(error, NoConverterError):
        return NO_KERNEL
    if isinstance(error, SequentialError):
        return "every element of its result needs those before it, and edgec has no kernel for that"
    (node,) = single.graph.node
    constants = {constant.name for constant in single.graph.initializer}
    version = next((o.version for o in single.opset_import if o.domain == node.domain), 1)
    return variable(variable_settings(node.op_type, node.input, constants, version, node.domain)) or form(
        single
    )


_OUT_OF_MEMORY = re.compile(r"bad_alloc|[Ff]ailed to allocate|[Cc]annot allocate memory")
"""What libraries say whose errors have no class for it."""


def of_this_machine(error: BaseException) -> bool:
    """Whether an error says something of this machine now, its memory or its disk, and nothing of a model."""
    if isinstance(error, MemoryError | OSError) or _OUT_OF_MEMORY.search(str(error)):
        return True
    return error.__cause__ is not None and of_this_machine(error.__cause__)


MEMORY, TIME = "more memory than there is", "too long"
"""What trying a node may take."""


def untried(took: str) -> str:
    """Return that a node could not be tried here; `took` is MEMORY or TIME."""
    return f"edgec tries every float node before it believes it, and that took {took}: try another machine"


def variable(settings: Sequence[tuple[str, str]]) -> str | None:
    """Return that such inputs of a node are no constants, None where there are none."""
    if not settings:
        return None
    listed = " and ".join(f"'{formal}' ('{name}')" for formal, name in settings)
    if len(settings) == 1:
        return f"its input {listed} is no constant: edgec has to know it to compile; make it an initializer"
    return f"its inputs {listed} are no constants: edgec has to know them to compile; make them initializers"


_SETTINGS = {
    "axes", "axis", "blocksize", "condition", "depth", "ends", "image_shape", "k", "kernel_shape", "limit",
    "max_output_boxes_per_class", "output_shape", "pads", "ratio", "repeats", "roi", "scales", "shape",
    "size", "sizes", "split", "starts", "steps", "training_mode",
}  # fmt: skip
"""Names that ONNX has for inputs that say what is computed, not on what."""


def variable_settings(
    operator: str, inputs: Iterable[str], constants: Container[str], version: int = LATEST, domain: str = ""
) -> list[tuple[str, str]]:
    """Return inputs of a node that say what is computed and are no constants: ONNX's name and the model's."""
    try:
        schema = onnx.defs.get_schema(operator, version, domain)
    except onnx.defs.SchemaError:
        return []
    return [
        (formal.name, name)
        for formal, name in zip(schema.inputs, inputs, strict=False)
        if formal.name in _SETTINGS and name and name not in constants
    ]


def unknown_type(single: onnx.ModelProto) -> str | None:
    """Return that a node has an input or output of a type that no kernel has, None where it hasn't."""
    values = [(v.name, v.type.tensor_type.elem_type) for v in (*single.graph.input, *single.graph.output)]
    values += [(constant.name, constant.data_type) for constant in single.graph.initializer]
    for name, element in values:
        kind = onnx.TensorProto.DataType.Name(element).lower()
        if element == onnx.TensorProto.UNDEFINED:
            return "it has an input or output that is no tensor"
        if helper.tensor_dtype_to_np_dtype(element).name not in C_TYPES:
            which = "input" if name.startswith("input") else "output"
            return f"its {which} {name.removeprefix(which)} is {kind}, and edgec has no kernel for that type"
    return None


def form(single: onnx.ModelProto) -> str:
    """Return that there is no kernel for a node as it is: its attributes, and the types of its inputs."""
    return f"edgec has no kernel for it with {_described(single)}"


def no_oracle(single: onnx.ModelProto) -> str:
    """Return that nobody can be asked what a node computes."""
    return (
        "neither ONNX Runtime nor ONNX's reference runs it, so that nothing shows what it should compute "
        f"with {_described(single)}"
    )


def differs(single: onnx.ModelProto, name: str, wanted: Array, found: Array) -> str:
    """Return that a node computes something else than ONNX defines, and how much."""
    which = f"output {name.removeprefix('output')}"
    if (wanted.shape, wanted.dtype) != (found.shape, found.dtype):
        how = f"{which} is {_type(found)}, not {_type(wanted)}"
    else:
        both = np.isfinite(wanted) & np.isfinite(found) if wanted.dtype.kind == "f" else np.ones(wanted.shape)
        with np.errstate(all="ignore"):
            error = np.abs(wanted.astype(np.float64) - found.astype(np.float64))[np.asarray(both, bool)]
        largest = float(error.max(initial=0))
        how = f"{which} differs by up to {largest:.3g}" if largest else f"{which} differs"
    return f"edgec would compute something else than ONNX defines for {_described(single)}: {how}"


def _described(single: onnx.ModelProto) -> str:
    (node,) = single.graph.node
    types = {value.name: value.type.tensor_type for value in single.graph.input}
    constants = {constant.name: constant for constant in single.graph.initializer}
    inputs = []
    for name in node.input:
        if name in types:
            kind = types[name]
            inputs.append(_named(kind.elem_type, [d.dim_value for d in kind.shape.dim]))
        elif name in constants:
            inputs.append("constant " + _named(constants[name].data_type, list(constants[name].dims)))
        else:
            inputs.append("none")
    attributes = [f"{a.name}={_short(helper.get_attribute_value(a))}" for a in node.attribute]
    parts = ["inputs " + ", ".join(inputs)] if inputs else []
    parts += ["attributes " + ", ".join(attributes)] if attributes else []
    return " and ".join(parts) or "no inputs"


def _named(element: int, extents: list[int]) -> str:
    return f"{onnx.TensorProto.DataType.Name(element).lower()}{extents}"


def _type(array: Array) -> str:
    return f"{array.dtype.name}{list(array.shape)}"


def _short(value: object) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    shown = " ".join(str(list(text) if isinstance(text, tuple) else text).split())
    return shown if len(shown) <= 40 else f"{shown[:37]}..."

"""Give every input a static shape: the model's own, or the one the user gives with --shape."""

from collections.abc import Mapping

import onnx_ir

from edgec.compiler.graph import shape_of
from edgec.errors import ModelError


def fix_shapes(model: onnx_ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> onnx_ir.Model:
    """Return the model with inputs of static shape.

    x[N, 3, H, W], {"x": (1, 3, 48, 320)} --> x[1, 3, 48, 320]

    Raises ModelError when a name or rank in `shapes` fits no input, or an input is left with a dynamic shape.
    """
    model = model.clone()
    graph = model.graph
    inputs = {str(value.name): value for value in graph.inputs if not value.is_initializer()}
    for name, shape in shapes.items():
        if name not in inputs:
            raise ModelError(f"--shape {name}: the model has no such input; it has {', '.join(inputs)}")
        given, declared = "x".join(map(str, shape)), inputs[name].shape
        if declared is not None and len(declared) != len(shape):
            raise ModelError(
                f"--shape {name}={given}: input '{name}' has {len(declared)} dimensions {_text(declared)}"
            )
        if any(extent < 1 for extent in shape):
            raise ModelError(f"--shape {name}={given}: every dimension must be at least 1")
        inputs[name].shape = onnx_ir.Shape(shape)
    dynamic = [value for value in inputs.values() if _is_dynamic(value)]
    if dynamic:
        listed = ", ".join(f"'{value.name}' {_text(value.shape)}" for value in dynamic)
        options = " ".join(f"--shape {value.name}={_example(value.shape)}" for value in dynamic)
        raise ModelError(f"inputs with dynamic dimensions: {listed}; fix them, for example with {options}")
    kept = [value for value in graph.inputs if not value.is_initializer()]
    graph.inputs.clear()  # inputs with a default are constants: nothing on a device overrides them
    graph.inputs.extend(kept)
    _forget_shapes(graph, every=bool(shapes))
    return model


def _is_dynamic(value: onnx_ir.Value) -> bool:
    shape = shape_of(value)
    return shape is None or min(shape, default=0) < 0  # -1 is how some tools write it


def _forget_shapes(graph: onnx_ir.Graph, every: bool) -> None:
    """Drop shapes noted for other input shapes (every), or with -1 for what wasn't known."""
    for node in graph.all_nodes():
        for output in node.outputs:
            if every or any(isinstance(extent, int) and extent < 0 for extent in output.shape or ()):
                output.shape = None


def _text(shape: onnx_ir.Shape | None) -> str:
    """Return `[N, 3, 224, 224]`, unnamed dimensions as `?`."""
    if shape is None:
        return "of unknown rank"
    extents = (extent if isinstance(extent, int) else extent.value for extent in shape)
    return f"[{', '.join('?' if extent is None else str(extent) for extent in extents)}]"


def _example(shape: onnx_ir.Shape | None) -> str:
    """Return a shape to type, in the spelling of --shape: batch 1, unknown extents as letters to fill in."""
    if shape is None:
        return "1x..."
    letters = iter("HWDKLMPQRSTUV")
    return "x".join(
        str(extent) if isinstance(extent, int) and extent >= 0 else "1" if axis == 0 else next(letters)
        for axis, extent in enumerate(shape)
    )

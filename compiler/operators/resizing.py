"""Resize of images: pixels repeated, or interpolated linearly."""

from dataclasses import dataclass

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgec.compiler.graph import attribute, constant, shape_of
from edgec.compiler.operators import arrangement, view, window
from edgec.compiler.operators.builder import Builder, Codes, Seen
from edgec.compiler.operators.row import FloatRequest, LayerNode, Request, emit, emit_float
from edgec.kernels.operations import WEIGHT_BITS, Interpolate, Operation

_COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")


@dataclass(frozen=True, eq=False)
class _Places:
    """Between which elements of the input those of the result lie."""

    neighbours: NDArray[np.int32]
    """[results, 2]."""
    weights: NDArray[np.float64]
    """[results]: the second one's."""


def refuses(node: onnx_ir.Node) -> str | None:
    """Return why no kernel resizes so, or None."""
    scales = node.inputs[2] if len(node.inputs) > 2 else None
    if scales is not None and scales.shape != (0,) and constant(scales) is None:
        return "its factors aren't constant, and those of its shapes may be others"
    return _no_interpolation(node) if attribute(node, "mode", "nearest") == "linear" else no_repetition(node)


def _no_interpolation(node: onnx_ir.Node) -> str | None:
    before = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    after = shape_of(node.outputs[0])
    if before is None or after is None or len(before) != 4 or before[:2] != after[:2] or 0 in before:
        return "only resizing of height and width has an integer kernel"
    coordinates = attribute(node, "coordinate_transformation_mode", "half_pixel")
    special = any(attribute(node, name, 0) for name in ("antialias", "exclude_outside"))
    if special or coordinates not in _COORDINATES:
        return "linear resizing with antialias, exclude_outside or a crop has no integer kernel"
    if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return "resizing that keeps the aspect ratio has no integer kernel"
    return None


def _places(node: onnx_ir.Node, axis: int) -> _Places:
    """Return where the results of an axis lie, as ONNX's Resize says."""
    before, after = (shape_of(value) if value else None for value in (node.inputs[0], node.outputs[0]))
    assert before is not None, "refuses() saw it"
    assert after is not None, "refuses() saw it"
    old, new = before[axis], after[axis]
    scale = _scale(node, axis, new / old)
    x = np.arange(new, dtype=np.float64)
    coordinates = attribute(node, "coordinate_transformation_mode", "half_pixel")
    found = (x + 0.5) / scale - 0.5
    if coordinates == "asymmetric":
        found = x / scale
    elif coordinates == "align_corners":
        found = x * (old - 1) / max(new - 1, 1)
    elif coordinates == "pytorch_half_pixel" and new == 1:
        found = np.zeros(1)
    elif coordinates == "half_pixel_symmetric":
        found += old / 2 * (1 - new / (old * scale))
    found = np.clip(found, 0, old - 1)
    first = np.minimum(np.floor(found), max(old - 2, 0)).astype(np.int32)
    return _Places(np.stack([first, np.minimum(first + 1, old - 1)], axis=1).astype(np.int32), found - first)


def _scale(node: onnx_ir.Node, axis: int, ratio: float) -> float:
    """Return the factor that a node gives for an axis, or that of its shapes."""
    scales = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if scales is None or not scales.size:
        return ratio
    axes = [axis % 4 for axis in attribute(node, "axes", range(4))]
    return float(scales.reshape(-1)[axes.index(axis)]) if axis in axes else 1.0


def resize(builder: Builder, request: Request) -> Codes:
    """Resize at the input's own scale."""
    tensor, operation = _resized(builder, request, request.inputs[0], request.output.dtype)
    return emit(builder, request, operation, (tensor,), view.natural(request.shape))


def float_resize(builder: Builder, request: FloatRequest) -> Seen:
    """Resize an image of floats."""
    tensor, operation = _resized(builder, request, request.inputs[0], "float32")
    return emit_float(builder, request, operation, (tensor,), view.natural(request.shape))


def _resized(builder: Builder, layer: LayerNode, source: Seen, dtype: str) -> tuple[str, Operation]:
    """Return what resizes, and the tensor that it reads."""
    if attribute(layer.node, "mode", "nearest") == "nearest":
        return source.tensor, arrangement.repeated(builder, source, layer.shape)
    rows, columns = (_places(layer.node, axis) for axis in (2, 3))
    image = window.image(builder, source, layer.name)
    return image.tensor, _interpolated(image, rows, columns, dtype)


def _interpolated(source: Seen, rows: _Places, columns: _Places, dtype: str) -> Operation:
    n, c, h, w = source.view.shape
    down, across = (
        found.weights.astype(np.float32)
        if dtype == "float32"
        else np.rint(found.weights * 2**WEIGHT_BITS).astype(np.int32)
        for found in (rows, columns)
    )
    return Interpolate((n, h, w, c), rows.neighbours, down, columns.neighbours, across, dtype)


def no_repetition(node: onnx_ir.Node) -> str | None:
    """Return why a Resize doesn't repeat every pixel of an image a whole number of times; None if it does."""
    before = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    after = shape_of(node.outputs[0])
    if attribute(node, "mode", "nearest") != "nearest" or before is None or after is None or len(before) != 4:
        return "only nearest-neighbour resizing of images has an integer kernel"
    whole = not any(new % old for old, new in zip(before, after, strict=True)) and _scaled_so(
        node, before, after
    )
    if not whole or before[:2] != after[:2]:
        return "only resizing by whole factors has an integer kernel"
    coordinates = attribute(node, "coordinate_transformation_mode", "half_pixel")
    rounding = attribute(node, "nearest_mode", "round_prefer_floor")
    factor = max(new // old for old, new in zip(before, after, strict=True))
    floors = rounding == "floor" or (rounding == "round_prefer_floor" and factor <= 2)
    centred = coordinates in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round")
    if centred or (coordinates == "asymmetric" and floors):
        return None
    return f"nearest-neighbour resizing by {coordinates} and {rounding} isn't repetition"


def _scaled_so(node: onnx_ir.Node, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether given factors are those of the shapes: 2.1 makes 4 pixels of 2 as well, but other ones."""
    scales = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if scales is None or not scales.size:
        return True
    axes = attribute(node, "axes", range(len(before)))
    return all(before[axis] * scale == after[axis] for axis, scale in zip(axes, scales.tolist(), strict=True))

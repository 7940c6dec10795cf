"""When a Resize only repeats pixels."""

import onnx_ir

from edgec.compiler.graph import attribute, constant, shape_of


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

"""When a Resize only repeats pixels."""

import onnx_ir

from edgec.compiler.graph import attribute, shape_of


def no_repetition(node: onnx_ir.Node) -> str | None:
    """Return why a Resize doesn't repeat every pixel of an image a whole number of times; None if it does."""
    before = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    after = shape_of(node.outputs[0])
    if attribute(node, "mode", "nearest") != "nearest" or before is None or after is None or len(before) != 4:
        return "only nearest-neighbour resizing of images has an integer kernel"
    if any(new % old for old, new in zip(before, after, strict=True)) or before[:2] != after[:2]:
        return "only resizing by whole factors has an integer kernel"
    coordinates = attribute(node, "coordinate_transformation_mode", "half_pixel")
    rounding = attribute(node, "nearest_mode", "round_prefer_floor")
    factor = max(new // old for old, new in zip(before, after, strict=True))
    floors = rounding == "floor" or (rounding == "round_prefer_floor" and factor <= 2)
    centred = coordinates in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round")
    if centred or (coordinates == "asymmetric" and floors):
        return None
    return f"nearest-neighbour resizing by {coordinates} and {rounding} isn't repetition"

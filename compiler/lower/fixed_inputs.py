"""Inputs that decide shapes, or along what a node computes: constants when a model is built."""

import onnx
import onnx_ir

from edgec.compiler.graph import constant

FIXED_INPUTS: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "CumProd": (1,),
    "CumSum": (1,),
    "DFT": (1, 2),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "ReduceL1": (1,),
    "ReduceL2": (1,),
    "ReduceLogSum": (1,),
    "ReduceLogSumExp": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceProd": (1,),
    "ReduceSum": (1,),
    "ReduceSumSquare": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""By operator: which of its inputs."""


def not_fixed(node: onnx_ir.Node) -> str | None:
    """Return why a node can't be compiled, where it computes such an input when it runs; else None."""
    for index in FIXED_INPUTS.get(node.op_type, ()) if not node.domain else ():
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None or constant(value) is not None:
            continue
        name = onnx.defs.get_schema(node.op_type).inputs[index].name
        source = "is an input of the model" if value.is_graph_input() else "is computed when it runs"
        return f"its {name} '{value.name}' {source} and must be a constant: shapes are fixed by the build"
    return None

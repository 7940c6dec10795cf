"""Turn auto_pad into numbers."""

import onnx_ir

from edgec.compiler.frontend.facts import WINDOWED, kernel_of
from edgec.compiler.graph import attribute, shape_of


def explicit_pads(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with explicit `pads`.

    Conv(auto_pad=SAME_UPPER) --> Conv(pads=[0, 0, 1, 1])
    Conv(auto_pad=NOTSET, pads) --> Conv(pads)

    ConvTranspose, and windows over unknown shapes, keep their auto_pad.
    """
    model = model.clone()
    for node in model.graph.all_nodes():
        mode = attribute(node, "auto_pad", "NOTSET")
        if node.op_type not in WINDOWED or node.domain:
            continue
        if mode == "NOTSET":
            node.attributes.pop("auto_pad", None)  # PyTorch's exporter writes out this default
            continue
        shape, kernel = shape_of(node.inputs[0]) if node.inputs[0] is not None else None, kernel_of(node)
        if shape is None or kernel is None:
            continue
        rank = len(kernel)
        strides = attribute(node, "strides", [1] * rank)
        dilations = attribute(node, "dilations", [1] * rank)
        begins, ends = [], []
        for extent, window, stride, dilation in zip(shape[2:], kernel, strides, dilations, strict=True):
            reach = (window - 1) * dilation + 1
            total = max((-(-extent // stride) - 1) * stride + reach - extent, 0) if mode != "VALID" else 0
            less, more = total // 2, total - total // 2
            begins.append(more if mode == "SAME_LOWER" else less)
            ends.append(less if mode == "SAME_LOWER" else more)
        node.attributes.pop("auto_pad")
        node.attributes.pop("ceil_mode", None)  # auto_pad decides the output's shape, whatever ceil_mode says
        node.attributes.add(onnx_ir.AttrInt64s("pads", begins + ends))
    return model

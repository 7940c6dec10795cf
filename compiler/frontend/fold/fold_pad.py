"""Let convolutions do the padding that exporters wrote as a node of its own."""

import numpy as np
import onnx_ir

from edgec.compiler.graph import attribute, constant, only_consumer, shape_of


def fold_pad(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with zero padding folded into the one Conv that reads it.

    Conv(Pad(x, [0, 0, 1, 1, 0, 0, 1, 1])) --> Conv(x, pads=[1, 1, 1, 1])
    """
    model = model.clone()
    graph = model.graph
    for node in list(graph):
        if node.op_type != "Pad" or node.domain or attribute(node, "mode", "constant") != "constant":
            continue
        source, conv = node.inputs[0], only_consumer(node.outputs[0])
        shape = shape_of(source) if source is not None else None
        if conv is None or conv.op_type != "Conv" or conv.domain or source is None or shape is None:
            continue
        if len(node.inputs) > 3 and node.inputs[3] is not None:
            continue  # padding of listed axes: no exporter writes that before a convolution
        amounts, fill = constant(node.inputs[1]), node.inputs[2] if len(node.inputs) > 2 else None
        value = np.zeros(1) if fill is None else constant(fill)
        if amounts is None or value is None or np.any(value != 0) or conv.inputs[0] is not node.outputs[0]:
            continue
        rank = len(shape)
        begins, ends = amounts[:rank], amounts[rank:]
        if np.any(amounts < 0) or np.any(begins[:2]) or np.any(ends[:2]) or "auto_pad" in conv.attributes:
            continue
        pads = np.concatenate([begins[2:], ends[2:]]) + attribute(conv, "pads", [0] * 2 * (rank - 2))
        conv.attributes.add(onnx_ir.AttrInt64s("pads", [int(extent) for extent in pads]))
        conv.replace_input_with(0, source)
        graph.remove(node, safe=True)
    return model

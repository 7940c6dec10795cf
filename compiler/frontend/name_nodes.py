"""Give every node a name of its own: messages, reports and tuning records speak of nodes by name."""

from collections import Counter

import onnx_ir
from onnx_ir.passes.common import NameFixPass


def name_nodes(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with unique, non-empty node and value names; names that already are stay.

    Conv(""), Conv(""), Relu("") --> Conv_0, Conv_1, Relu_0
    """
    model = model.clone()
    nodes = list(model.graph.all_nodes())
    taken = Counter(node.name for node in nodes if node.name)
    seen: set[str] = set()
    numbers: Counter[str] = Counter()
    for node in nodes:
        if node.name and node.name not in seen:
            seen.add(node.name)
            continue
        stem = node.name or node.op_type
        while (name := f"{stem}_{numbers[stem]}") in taken or name in seen:
            numbers[stem] += 1
        numbers[stem] += 1
        node.name = name
        seen.add(name)
    NameFixPass()(model)  # values; the nodes have theirs
    return model

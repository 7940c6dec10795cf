"""Quantized models, opened up: every layer's result an output, and every layer computed from given codes."""

import onnx


def exposed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the codes of every QuantizeLinear among its outputs."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    outputs = {value.name for value in made.graph.output}
    types = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    for node in made.graph.node:
        if node.op_type == "QuantizeLinear" and node.output[0] not in outputs:
            made.graph.output.append(types[node.output[0]])
    return made


def cut(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with every reader of exposed codes reading an input `<name>_given` instead.

    Q(f(DQ(Q(x)))) --> Q(x), Q(f(DQ(given)))
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    outputs = {value.name: value for value in made.graph.output}
    codes = {node.output[0] for node in made.graph.node if node.op_type == "QuantizeLinear"}
    for name in sorted(codes):
        value = made.graph.input.add()
        value.CopyFrom(outputs[name])
        value.name = f"{name}_given"
    for node in made.graph.node:
        for index, name in enumerate(node.input):
            if name in codes:
                node.input[index] = f"{name}_given"
    for value in list(made.graph.output):  # a model output's own QuantizeLinear may be read, too
        if value.name in {source.name for source in made.graph.input}:
            made.graph.output.remove(value)
    del made.graph.value_info[:]
    onnx.checker.check_model(made)
    return made

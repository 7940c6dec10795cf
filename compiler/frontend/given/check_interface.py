"""Whether a model says once what each output is."""

import onnx

from edgec.errors import ModelError


def check_interface(model: onnx.ModelProto) -> None:
    """Raise ModelError for an output that is listed twice, or is an input of another kind; or for none."""
    if not model.graph.output:
        raise ModelError("the model has no outputs: name what it computes in graph.output")
    inputs = {value.name: value.type.tensor_type for value in model.graph.input}
    listed = [value.name for value in model.graph.output]
    for value in model.graph.output:
        if listed.count(value.name) > 1:
            raise ModelError(f"output '{value.name}' is listed more than once")
        given, declared = inputs.get(value.name), value.type.tensor_type
        if given is None or not declared.elem_type:
            continue
        shapes = [[dim.dim_value or dim.dim_param for dim in kind.shape.dim] for kind in (given, declared)]
        if given.elem_type != declared.elem_type or (declared.HasField("shape") and shapes[0] != shapes[1]):
            raise ModelError(f"'{value.name}' is an input, and an output of another type or shape")

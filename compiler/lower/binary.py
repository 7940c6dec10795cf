"""Add and Mul of two int8 tensors, read by strides so that broadcasting and transposing cost no copy."""

from collections.abc import Callable

import numpy as np

from edgec.compiler.lower import view
from edgec.compiler.lower.arrangement import every_input
from edgec.compiler.lower.builder import Builder, Codes
from edgec.compiler.lower.layer import Layer, Request, result
from edgec.kernels.operators import Binary


def _binary(kind: str) -> Callable[[Builder, Request], Codes]:
    def lower(builder: Builder, request: Request) -> Codes:
        output = request.output
        shape = np.broadcast_shapes(*(codes.view.shape for codes in request.inputs))
        # The result takes the order of the operand that has its shape, so that the loop runs straight.
        whole = next((codes for codes in request.inputs if codes.view.shape == shape), None)
        order = view.dense_order(whole.view) if whole is not None else None
        order = order or view.natural_order(len(shape))
        strides = [view.broadcast_strides(codes.view, shape) for codes in request.inputs]
        sources = list(request.inputs)
        for i, codes in enumerate(sources):
            if codes.view.offset:
                sources[i] = builder.natural(codes, request.name)
                strides[i] = view.broadcast_strides(sources[i].view, shape)
        scales = [codes.quantization.scale for codes in sources if codes.quantization]
        if kind == "add":
            factors = [scale / output.scale for scale in scales]
        else:
            factors = [scales[0], scales[1] / output.scale]
        operation = Binary(
            kind,
            tuple(shape[axis] for axis in order),
            (tuple(strides[0][axis] for axis in order), tuple(strides[1][axis] for axis in order)),
            tuple(codes.quantization.zero_point for codes in sources if codes.quantization),  # type: ignore[arg-type]
            (float(np.float32(factors[0])), float(np.float32(factors[1]))),
            output.zero_point, request.low, request.high,
        )  # fmt: skip
        tensor = builder.emit(
            request.name, operation, (sources[0].tensor, sources[1].tensor), operation.shape, output,
            tensor=str(request.node.outputs[0].name),
        )  # fmt: skip
        return result(request, tensor, view.ordered(shape, order))

    return lower


BINARIES = {
    "Add": Layer(_binary("add"), activations=every_input),
    "Mul": Layer(_binary("mul"), activations=every_input),
}

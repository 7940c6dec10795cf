"""Transposed convolutions whose pads follow from the shape that they are to have."""

from collections.abc import Sequence
from typing import Any

from tvm import relax
from tvm.ir import Expr
from tvm.te import Tensor

from edgec.compiler.lower.islands.converters.given import Converter, Given, Result, shape_of
from edgec.compiler.operators.window import transposed_pads

_LAYOUTS = {
    3: (relax.op.nn.conv1d_transpose, "NCW", "IOW"),
    4: (relax.op.nn.conv2d_transpose, "NCHW", "IOHW"),
    5: (relax.op.nn.conv3d_transpose, "NCDHW", "IODHW"),
}


def _conv_transpose(given: Given) -> Expr:
    """Take pads, or halve the total that output_shape or auto_pad leaves; the rest is output padding."""
    source, weights, result = shape_of(given.data), shape_of(given.inputs[1]), given.shape
    operation, layout, kernel_layout = _LAYOUTS[len(source)]
    count = len(source) - 2
    strides = given.attributes.get("strides", [1] * count)
    dilations = given.attributes.get("dilations", [1] * count)
    adjustments = given.attributes.get("output_padding", [0] * count)
    full = [strides[i] * (source[i + 2] - 1) + (weights[i + 2] - 1) * dilations[i] + 1 for i in range(count)]
    begins = transposed_pads(
        given.attributes.get("auto_pad", "NOTSET"),
        None if "output_shape" in given.attributes else given.attributes.get("pads", [0] * 2 * count),
        [max(0, whole + adjustments[i] - result[i + 2]) for i, whole in enumerate(full)],
    )
    ends = [max(0, whole - begins[i] - result[i + 2]) for i, whole in enumerate(full)]
    more = [result[i + 2] - (whole - begins[i] - ends[i]) for i, whole in enumerate(full)]
    made = given.emit(
        operation(
            given.data, given.inputs[1], strides=strides, padding=begins + ends, output_padding=more,
            dilation=dilations, groups=given.attributes.get("group", 1), data_layout=layout,
            kernel_layout=kernel_layout,
        )
    )  # fmt: skip
    bias = given.input(2)
    if bias is None:
        return made
    return relax.op.add(made, given.emit(relax.op.reshape(bias, (1, -1, *[1] * count))))


def _max_pool(given: Given) -> Result:
    """Return indices of the maxima as well: of the first in a window, counted over the whole tensor."""
    if len(given.results) == 1:
        return None
    from tvm import te, tirx

    source, result = shape_of(given.data), given.shape
    count = len(source) - 2
    kernel = given.attributes["kernel_shape"]
    strides = given.attributes.get("strides", [1] * count)
    dilations = given.attributes.get("dilations", [1] * count)
    pads = given.attributes.get("pads", [0] * 2 * count)
    if given.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise NotImplementedError("automatic pads with indices")
    # Dimensions innermost first, where they are stored column by column.
    spatial = list(range(count))[:: -1 if given.attributes.get("storage_order", 0) else 1]
    lowest = float("-inf") if given.dtype.startswith("float") else 0

    def best(a: Sequence[Expr], b: Sequence[Expr]) -> tuple[Expr, Expr]:
        return tirx.Select(a[1] >= b[1], a[0], b[0]), tirx.Select(a[1] >= b[1], a[1], b[1])

    reducer = te.comm_reducer(
        best, lambda _, kind: (tirx.const(0, "int64"), tirx.const(lowest, kind)), "max_pool_indices"
    )

    def pool(x: Tensor) -> Expr:
        window = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(kernel)]

        def at(*position: Expr) -> Expr:
            places = [position[i + 2] * strides[i] - pads[i] + window[i] * dilations[i] for i in range(count)]
            inside = [c for p, n in zip(places, source[2:], strict=True) for c in (p >= 0, p < n)]
            flat: Any = position[0].astype("int64") * source[1] + position[1]
            for i in range(count):
                flat = flat * source[i + 2]
            offset: Any = tirx.const(0, "int64")
            for i in spatial:
                offset = offset * source[i + 2] + places[i]
            low = tirx.const(lowest, given.dtype)
            value = tirx.if_then_else(tirx.all(*inside), x(*position[:2], *places), low)
            return reducer((flat + offset, value), axis=window)

        return te.compute(result, at, "pool")

    found = given.compute(pool, given.data)
    return [given.emit(relax.TupleGetItem(found, 1)), given.emit(relax.TupleGetItem(found, 0))]


CONVOLUTIONS: dict[str, Converter] = {"ConvTranspose": _conv_transpose, "MaxPool": _max_pool}

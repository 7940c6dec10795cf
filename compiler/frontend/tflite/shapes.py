"""Operators that move elements, choose among them or reduce axes."""

import numpy as np

from edgec.compiler.frontend.tflite.writer import Call
from edgec.errors import ModelError


def to_result(call: Call) -> str:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the file says what shape comes out."""
    return call.reshaped(call.real(0), call.result)


def shape(call: Call) -> str:
    """SHAPE: a constant, as all shapes are."""
    dtype = np.int64 if call.writer.tensor(call.operator.outputs[0]).type == "INT64" else np.int32
    return call.writer.constant("shape", np.array(call.shape(0), dtype))


def transpose(call: Call) -> str:
    """TRANSPOSE."""
    return call.transposed(call.real(0), call.integers(1, "axes"))


def concatenate(call: Call) -> str:
    """CONCATENATION."""
    parts = [call.real(position) for position in range(len(call.operator.inputs))]
    return call.activated(call.node("Concat", *parts, axis=call.operator.option("Axis", 0)))


def pack(call: Call) -> str:
    """PACK: concatenate along a new axis."""
    axis = call.operator.option("Axis", 0)
    parts = [call.real(position) for position in range(len(call.operator.inputs))]
    return call.node("Concat", *(call.node("Unsqueeze", p, call.list([axis])) for p in parts), axis=axis)


def unpack(call: Call) -> list[str]:
    """UNPACK: the parts along an axis, without it."""
    axis, count = call.operator.option("Axis", 0), len(call.operator.outputs)
    parts = _split(call, call.real(0), axis, [1] * count)
    return [call.node("Squeeze", part, call.list([axis])) for part in parts]


def _split(call: Call, value: str, axis: int, sizes: list[int]) -> list[str]:
    if len(sizes) == 1:
        return [value]
    return call.writer.parts("Split", [value, call.list(sizes)], len(sizes), axis=axis)


def split(call: Call) -> list[str]:
    """SPLIT: the axis, then the tensor, in equal parts."""
    (axis,) = call.integers(0, "axis")
    count = len(call.operator.outputs)
    return _split(call, call.real(1), axis, [call.shape(1)[axis] // count] * count)


def split_by_sizes(call: Call) -> list[str]:
    """SPLIT_V."""
    sizes, (axis,) = call.integers(1, "sizes"), call.integers(2, "axis")
    rest = call.shape(0)[axis] - sum(size for size in sizes if size >= 0)
    return _split(call, call.real(0), axis, [rest if size < 0 else size for size in sizes])


def take(call: Call) -> str:
    """SLICE: from places on, so many elements, or all where that is -1."""
    begin, sizes = call.integers(1, "bounds"), call.integers(2, "bounds")
    ends = [e if n < 0 else b + n for b, n, e in zip(begin, sizes, call.shape(0), strict=True)]
    return call.node("Slice", call.real(0), call.list(begin), call.list(ends))


_ALL = 2**31 - 1
"""Behind any end, and with its sign turned in front of any beginning."""


def strided(call: Call) -> str:
    """STRIDED_SLICE: bit i of a mask is about axis i; an axis to shrink has one element and goes."""
    option = call.operator.option
    if option("EllipsisMask", 0) or option("NewAxisMask", 0):
        raise ModelError("an ellipsis or a new axis in its bounds isn't read")
    begin, end, strides = (call.integers(position, "bounds") for position in (1, 2, 3))
    for axis, step in enumerate(strides):
        if option("ShrinkAxisMask", 0) >> axis & 1:
            begin[axis] %= call.shape(0)[axis]
            end[axis], strides[axis] = begin[axis] + 1, 1
            continue
        if option("BeginMask", 0) >> axis & 1:
            begin[axis] = 0 if step > 0 else _ALL
        if option("EndMask", 0) >> axis & 1:
            end[axis] = _ALL if step > 0 else -_ALL
    axes = call.list(range(len(begin)))
    taken = call.node("Slice", call.real(0), call.list(begin), call.list(end), axes, call.list(strides))
    return call.reshaped(taken, call.result)


def pad(call: Call) -> str:
    """PAD, PADV2: before and behind every axis, with zero or a constant."""
    pads = call.integers(1, "paddings")
    fill = [call.real(2)] if call.has(2) else []
    return call.node("Pad", call.real(0), call.list([*pads[::2], *pads[1::2]]), *fill)


def mirror_pad(call: Call) -> str:
    """MIRROR_PAD that leaves the edge out of the mirror."""
    if call.operator.option("Mode", 0) != 0:
        raise ModelError("a mirror with its edge (SYMMETRIC) isn't read")
    pads = call.integers(1, "paddings")
    return call.node("Pad", call.real(0), call.list([*pads[::2], *pads[1::2]]), mode="reflect")


def reduced(operator: str, call: Call) -> str:
    """MEAN, SUM, REDUCE_MAX and their like."""
    keep = int(call.operator.option("KeepDims", False))
    return call.node(operator, call.real(0), call.list(call.integers(1, "axes")), keepdims=keep)


def place(operator: str, call: Call) -> str:
    """ARG_MAX, ARG_MIN: 32-bit integers where the file says so."""
    (axis,) = call.integers(1, "axis")
    found = call.node(operator, call.real(0), axis=axis, keepdims=0)
    return call.node("Cast", found, to=call.writer.onnx_type(call.operator.outputs[0]))


def gather(call: Call) -> str:
    """GATHER along one axis."""
    if call.operator.option("BatchDims", 0):
        raise ModelError("batch dimensions (batch_dims) aren't read")
    return call.node("Gather", call.real(0), call.real(1), axis=call.operator.option("Axis", 0))


def tile(call: Call) -> str:
    """TILE."""
    return call.node("Tile", call.real(0), call.list(call.integers(1, "repetitions")))


def broadcast(call: Call) -> str:
    """BROADCAST_TO."""
    return call.node("Expand", call.real(0), call.list(call.result))


def cumulated(call: Call) -> str:
    """CUMSUM."""
    (axis,) = call.integers(1, "axis")
    flags = {flag.lower(): int(call.operator.option(flag, False)) for flag in ("Exclusive", "Reverse")}
    return call.node("CumSum", call.real(0), call.writer.constant("axis", np.int64(axis)), **flags)

"""Operators on images, which TensorFlow Lite has with channels last and ONNX with channels first."""

from collections.abc import Sequence

from edgec.compiler.frontend.tflite.writer import Call
from edgec.errors import ModelError

_SAME, _VALID = 0, 1
"""The schema's Padding."""

_FIRST, _LAST = (0, 3, 1, 2), (0, 2, 3, 1)
"""From channels last to channels first, and back."""


def _finished(call: Call, image: str) -> str:
    """Activate a result and bring its channels to the end."""
    return call.transposed(call.activated(image), _LAST)


def _image(call: Call, position: int = 0) -> str:
    return call.transposed(call.real(position), _FIRST)


def _steps(call: Call) -> list[int]:
    return [call.operator.option(f"Stride{axis}", 1) for axis in ("H", "W")]


def _pads(call: Call, extents: Sequence[int], kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Return the padding before and behind: none, or what makes results of extent / stride, rounded up."""
    if call.operator.option("Padding", _VALID) == _VALID:
        return [0, 0, 0, 0]
    before, behind = [], []
    for extent, size, stride, dilation in zip(extents, kernel, _steps(call), dilations, strict=True):
        outputs = -(-extent // stride)
        total = max((outputs - 1) * stride + (size - 1) * dilation + 1 - extent, 0)
        before.append(total // 2)
        behind.append(total - total // 2)
    return [*before, *behind]


def _convolved(call: Call, order: Sequence[int], groups: int) -> str:
    kernel, dilations = list(call.shape(1)[1:3]), _dilations(call)
    inputs = [_image(call), _weights(call, order)]
    if call.has(2):
        inputs.append(call.real(2))
    pads = _pads(call, call.shape(0)[1:3], kernel, dilations)
    strides = _steps(call)
    return _finished(
        call,
        call.node("Conv", *inputs, pads=pads, strides=strides, dilations=dilations, group=groups),
    )


def _dilations(call: Call) -> list[int]:
    return [call.operator.option(f"Dilation{axis}Factor", 1) for axis in ("H", "W")]


def _weights(call: Call, order: Sequence[int]) -> str:
    """Return the weights in ONNX's order, turned when it is built if they are constants."""
    return call.real(1, order) if call.is_constant(1) else call.transposed(call.real(1), order)


def conv(call: Call) -> str:
    """CONV_2D: weights [outputs, height, width, inputs / groups]."""
    return _convolved(call, (0, 3, 1, 2), call.shape(0)[3] // call.shape(1)[3])


def depthwise(call: Call) -> str:
    """DEPTHWISE_CONV_2D: weights [1, height, width, outputs]."""
    return _convolved(call, (3, 0, 1, 2), call.shape(0)[3])


def transpose_conv(call: Call) -> str:
    """TRANSPOSE_CONV: the shape of the result, weights [outputs, height, width, inputs], image, bias."""
    _, height, width, _ = call.result
    kernel, strides = call.shape(1)[1:3], _steps(call)
    pads = [0, 0, 0, 0]
    for axis, extent in enumerate((height, width)):
        source = call.shape(2)[1 + axis]
        total = (source - 1) * strides[axis] + kernel[axis] - extent
        if total < 0:
            raise ModelError("its result is larger than its windows reach")
        pads[axis], pads[2 + axis] = total // 2, total - total // 2
    inputs = [_image(call, 2), _weights(call, (3, 0, 1, 2))]
    if call.has(3):
        inputs.append(call.real(3))
    return _finished(call, call.node("ConvTranspose", *inputs, pads=pads, strides=strides))


def average_pool(call: Call) -> str:
    """AVERAGE_POOL_2D: padding doesn't count."""
    return _pooled(call, "AveragePool")


def max_pool(call: Call) -> str:
    """MAX_POOL_2D."""
    return _pooled(call, "MaxPool")


def _pooled(call: Call, operator: str) -> str:
    kernel = [call.operator.option(f"Filter{axis}", 1) for axis in ("Height", "Width")]
    pads = _pads(call, call.shape(0)[1:3], kernel, (1, 1))
    return _finished(
        call, call.node(operator, _image(call), kernel_shape=kernel, pads=pads, strides=_steps(call))
    )


def resize_linear(call: Call) -> str:
    """RESIZE_BILINEAR."""
    return _resized(call, mode="linear")


def resize_nearest(call: Call) -> str:
    """RESIZE_NEAREST_NEIGHBOR: rounds down from the corner, and half up from centres and between corners."""
    centred = call.operator.option("HalfPixelCenters", False) or call.operator.option("AlignCorners", False)
    return _resized(call, mode="nearest", nearest_mode="round_prefer_ceil" if centred else "floor")


def _resized(call: Call, **attributes: str) -> str:
    transformation = "asymmetric"
    if call.operator.option("HalfPixelCenters", False):
        transformation = "half_pixel"
    elif call.operator.option("AlignCorners", False):
        transformation = "align_corners"
    batch, height, width, channels = call.result
    sizes = call.list([batch, channels, height, width])
    resized = call.node(
        "Resize", _image(call), "", "", sizes, coordinate_transformation_mode=transformation, **attributes
    )
    return call.transposed(resized, _LAST)


def space_to_depth(call: Call) -> str:
    """SPACE_TO_DEPTH."""
    blocks = call.node("SpaceToDepth", _image(call), blocksize=call.operator.option("BlockSize", 1))
    return call.transposed(blocks, _LAST)


def depth_to_space(call: Call) -> str:
    """DEPTH_TO_SPACE."""
    image = call.node("DepthToSpace", _image(call), blocksize=call.operator.option("BlockSize", 1))
    return call.transposed(image, _LAST)


def space_to_batch(call: Call) -> str:
    """SPACE_TO_BATCH_ND: pad, then make batches of every block's places."""
    block, pads = call.integers(1, "blocks"), call.integers(2, "paddings")
    rank, count = len(call.shape(0)), len(block)
    before, behind = [0, *pads[::2]], [0, *pads[1::2]]
    rest = [0] * (rank - count - 1)
    padded = call.node("Pad", call.real(0), call.list([*before, *rest, *behind, *rest]))
    shape = [e + a + b for e, a, b in zip(call.shape(0), [*before, *rest], [*behind, *rest], strict=True)]
    split = [shape[0]]
    for extent, size in zip(shape[1 : count + 1], block, strict=True):
        split += [extent // size, size]
    split += shape[count + 1 :]
    order = [*range(2, 2 * count + 1, 2), 0, *range(1, 2 * count, 2), *range(2 * count + 1, len(split))]
    return call.reshaped(call.transposed(call.reshaped(padded, split), order), call.result)


def batch_to_space(call: Call) -> str:
    """BATCH_TO_SPACE_ND: bring every block's places back between the pixels, then crop."""
    block, crops = call.integers(1, "blocks"), call.integers(2, "crops")
    shape, count = call.shape(0), len(block)
    batch = shape[0]
    for size in block:
        batch //= size
    split = [*block, batch, *shape[1:]]
    order = [count]
    for axis in range(count):
        order += [count + 1 + axis, axis]
    order += range(2 * count + 1, len(split))
    whole = [batch, *(e * b for e, b in zip(shape[1 : count + 1], block, strict=True)), *shape[count + 1 :]]
    joined = call.reshaped(call.transposed(call.reshaped(call.real(0), split), order), whole)
    ends = [extent - crop for extent, crop in zip(whole[1 : count + 1], crops[1::2], strict=True)]
    axes = list(range(1, count + 1))
    return call.node("Slice", joined, call.list(crops[::2]), call.list(ends), call.list(axes))

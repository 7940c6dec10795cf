"""The operators of a lowered network: what is computed, with nothing left of ONNX or Relax.

Tensors are flat row-major buffers in physical layout (images NHWC, channels innermost); every operator
carries the shapes it works on, so that a reshape is no operator at all. `reference.py` gives each operator
its meaning in numpy; the table in `__init__.py` lists the kernels that compute it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Quantization:
    """Affine quantization of one int8 tensor: real = scale * (q - zero_point)."""

    scale: float
    """float32 value, positive."""
    zero_point: int
    """In [-128, 127]."""


@dataclass(frozen=True)
class Runs:
    """How a result lies that is part of a wider tensor: runs of consecutive elements, equally far apart."""

    length: int
    """Elements of a run."""
    pitch: int
    """Elements from the start of one run to that of the next."""

    def count(self, size: int) -> int:
        """Return how many runs `size` elements are."""
        return size // self.length if size else 0

    def span(self, size: int) -> int:
        """Return the elements of memory from the first to the last of `size`."""
        return (self.count(size) - 1) * self.pitch + self.length


def pitch(runs: Runs | None, length: int) -> int:
    """Return the elements from one pixel of `length` channels to the next; runs are pixels."""
    return length if runs is None else runs.pitch


def span(runs: Runs | None, size: int) -> int:
    """Return the elements of memory from the first to the last of a result of `size`."""
    return size if runs is None else runs.span(size)


def laid(shape: tuple[int, ...], runs: Runs | None) -> tuple[int, ...]:
    """Return the strides of a row-major result of `shape`; a run is all of the last dimensions."""
    strides = []
    step = 1
    for extent in reversed(shape):
        strides.append(step if runs is None or step < runs.length else step // runs.length * runs.pitch)
        step *= extent
    return tuple(reversed(strides))


@dataclass(frozen=True)
class Place:
    """Where in another tensor a tensor lies, which so needs no memory of its own."""

    tensor: str
    """One that has a place of its own."""
    offset: int
    """Elements of it before the first."""
    runs: Runs | None
    """None where the tensor lies there densely."""


@dataclass(frozen=True)
class Tensor:
    """A value between operators: a flat row-major buffer."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """A numpy dtype name."""
    quantization: Quantization | None = None
    """Of an int8 tensor that stands for real numbers."""
    place: Place | None = None
    """Where it is part of another tensor; it is then read through that one alone."""
    title: str = ""
    """What the model calls an output whose name is an input's, too."""

    @property
    def size(self) -> int:
        """Elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.size * np.dtype(self.dtype).itemsize


def _elementwise(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> bool:
    """Whether element i of a result of `shape` is made of element i of each operand: nothing broadcasts."""
    dense = np.cumprod((1, *shape[:0:-1]))[::-1][: len(shape)]
    return all(
        extent == 1 or stride == wanted
        for steps in strides
        for extent, stride, wanted in zip(shape, steps, dense, strict=True)
    )


@dataclass(frozen=True)
class Binary:
    """Add or multiply two int8 tensors, with broadcasting.

    add: clamp(rne(float32(a - z_a) * f_a + float32(b - z_b) * f_b) + z_y); two products, then one sum.
    mul: clamp(rne((float32(a - z_a) * f_a) * (float32(b - z_b) * f_b)) + z_y).
    """

    kind: str
    """`add` or `mul`."""
    shape: tuple[int, ...]
    """Of the result."""
    strides: tuple[tuple[int, ...], tuple[int, ...]]
    """Elements to step in each operand per dimension of `shape`; 0 broadcasts."""
    zero_points: tuple[int, int]
    factors: tuple[float, float]
    """float32 values: add s_a / s_y and s_b / s_y; mul s_a and s_b / s_y."""
    output_zero_point: int
    low: int
    high: int
    runs: Runs | None = None
    """How the result lies, where it is part of a wider tensor; None: densely."""

    @property
    def elementwise(self) -> bool:
        """Whether element i of the result is made of element i of each operand: nothing broadcasts."""
        return _elementwise(self.shape, self.strides)


@dataclass(frozen=True)
class FloatBinary:
    """Add or multiply (`add`, `mul`) two float32 tensors with broadcasting, and clip to [low, high]."""

    kind: str
    shape: tuple[int, ...]
    """Of the result."""
    strides: tuple[tuple[int, ...], tuple[int, ...]]
    """Elements to step in each operand per dimension of `shape`; 0 broadcasts."""
    low: float = -np.inf
    high: float = np.inf
    runs: Runs | None = None
    """How the result lies, where it is part of a wider tensor; None: densely."""

    @property
    def elementwise(self) -> bool:
        """Whether element i of the result is made of element i of each operand: nothing broadcasts."""
        return _elementwise(self.shape, self.strides)


def convolved(
    image: tuple[int, int, int, int],
    weights: tuple[int, ...],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilations: tuple[int, int],
) -> tuple[int, int, int, int]:
    """N, H, W, C of a convolution's result; `weights` is [outputs, kernel height, kernel width, inputs]."""
    n, h, w, _ = image
    outputs, kh, kw, _ = weights
    top, left, bottom, right = pads
    oh = (h + top + bottom - dilations[0] * (kh - 1) - 1) // strides[0] + 1
    ow = (w + left + right - dilations[1] * (kw - 1) - 1) // strides[1] + 1
    return n, oh, ow, outputs


@dataclass(frozen=True, eq=False)
class Conv2d:
    """Convolution, and with a 1x1 window every matrix product by constant weights.

    acc = bias + sum((a - input_zero_point) * w); padding pads with input_zero_point;
    y = clamp(rne(float32(acc) * multiplier) + output_zero_point, low, high).
    With a `residual`, y is not stored but goes on into that addition.
    """

    input_shape: tuple[int, int, int, int]
    """N, H, W, C."""
    weights: NDArray[np.int8] | NDArray[np.int16]
    """[output channels, kernel height, kernel width, C / groups]; int16 only where an imported model's
    weights less their zero point leave [-127, 127]."""
    bias: NDArray[np.int32]
    """[output channels]."""
    multiplier: NDArray[np.float32]
    """[output channels]: s_a * s_w / s_y, computed in float64."""
    input_zero_point: int
    output_zero_point: int
    low: int
    high: int
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, left, bottom, right."""
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    scratch: int | None = None
    """Bytes of scratch that kernels shall do with if they can; None: what is fastest."""
    compact: bool = False
    """Whether kernels shall not store weights as more bytes than they are, but for whole vectors."""
    uniform: bool = False
    """Whether kernels may keep one multiplier: that of every channel."""
    residual: Binary | None = None
    """The elementwise addition of y, as its first operand (whose zero point is y's), and the operator's
    second input."""
    runs: Runs | None = None
    """Pixels of the result, where it is part of a wider tensor; None where it lies densely."""

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """N, H, W, C of the result."""
        return convolved(self.input_shape, self.weights.shape, self.strides, self.pads, self.dilations)

    @property
    def saturating(self) -> bool:
        """Whether int8's own range is all that results are clamped to."""
        clamps = [(self.low, self.high)]
        if self.residual is not None:
            clamps.append((self.residual.low, self.residual.high))
        return set(clamps) == {(-128, 127)}

    @property
    def sums(self) -> int:
        """Largest magnitude of any sum, bias included, for all inputs there are."""
        return int(self._sums.max(initial=0))

    @property
    def _sums(self) -> NDArray[np.int64]:
        """Largest magnitude of the sums per output channel."""
        weights = self.weights.reshape(len(self.weights), -1).astype(np.int64)
        lowest, highest = -128 - self.input_zero_point, 127 - self.input_zero_point
        positive, negative = weights.clip(0).sum(axis=1), weights.clip(None, 0).sum(axis=1)
        ends = ((lowest, highest), (highest, lowest))
        magnitudes = [np.abs(self.bias + positive * a + negative * b) for a, b in ends]
        return np.asarray(np.maximum(*magnitudes), np.int64)

    @property
    def reach(self) -> float:
        """Largest magnitude of any value that is rounded, for all inputs there are."""
        reach = float((self._sums * self.multiplier.astype(np.float64)).max(initial=0.0))
        if self.residual is not None:
            reach = max(reach, 255.0 * sum(map(abs, self.residual.factors)))
        return reach

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        n, oh, ow, _ = self.output_shape
        return n * oh * ow * int(self.weights.size)


@dataclass(frozen=True, eq=False)
class Chain:
    """Convolutions, each of the result of the one before; only the last one's result is stored.

    The last may have a residual: the operator's second input.
    """

    stages: tuple[Conv2d, ...]
    scratch: int | None = None
    """As of `Conv2d`, for all of them."""

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """N, H, W, C of the first convolution's input."""
        return self.stages[0].input_shape

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """N, H, W, C of the result."""
        return self.stages[-1].output_shape

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(stage.macs for stage in self.stages)


@dataclass(frozen=True, eq=False)
class FloatConv2d:
    """Convolution in float32, and with a 1x1 window every matrix product by constant weights.

    y = clip(bias + sum(a * w) + residual, low, high); sums in float32, in an order of the kernel's own.
    """

    input_shape: tuple[int, int, int, int]
    """N, H, W, C."""
    weights: NDArray[np.float32]
    """[output channels, kernel height, kernel width, C / groups]."""
    bias: NDArray[np.float32]
    """[output channels]."""
    low: float = -np.inf
    high: float = np.inf
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, left, bottom, right; padding is zero."""
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    residual: bool = False
    """Whether the operator's second input, of the result's shape, is added."""
    runs: Runs | None = None
    """Pixels of the result, where it is part of a wider tensor; None where it lies densely."""

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """N, H, W, C of the result."""
        return convolved(self.input_shape, self.weights.shape, self.strides, self.pads, self.dilations)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        n, oh, ow, _ = self.output_shape
        return n * oh * ow * int(self.weights.size)


@dataclass(frozen=True, eq=False)
class Lookup:
    """Any chain of unary operators on one int8 tensor: y = table[x + 128]."""

    size: int
    table: NDArray[np.int8]
    """[256], computed in float64 at compile time."""
    runs: Runs | None = None
    """How the result lies, where it is part of a wider tensor; None: densely."""


@dataclass(frozen=True)
class Quantize:
    """float32 to int8: clamp(rne(x / scale) + zero_point), the division in float32 (ONNX QuantizeLinear)."""

    size: int
    scale: float
    zero_point: int


@dataclass(frozen=True)
class Dequantize:
    """int8 to float32: float32(x - zero_point) * scale (ONNX DequantizeLinear)."""

    size: int
    scale: float
    zero_point: int


@dataclass(frozen=True)
class Rearrange:
    """A strided copy: transposes, slices, splits, shuffles and nearest-neighbour resizing are all this.

    y[i0, i1, ...] = x[offset + i0 * strides[0] + i1 * strides[1] + ...], strides in elements.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: str
    input_size: int
    """Elements of the input buffer."""
    runs: Runs | None = None
    """How the result lies, where it is part of a wider tensor; None: densely."""


@dataclass(frozen=True, eq=False)
class Concat:
    """Concatenate along the middle of [outer, sum(inner)]; an input of another scale goes through a table."""

    outer: int
    inner: tuple[int, ...]
    """Contiguous elements that each input contributes per outer index."""
    tables: tuple[NDArray[np.int8] | None, ...]
    """Per input, [256] to requantize it, or None to copy."""
    dtype: str = "int8"
    placed: tuple[bool, ...] = ()
    """Per input, whether it lies in the result already, so that nothing is to do; () where none does."""
    runs: Runs | None = None
    """How the result lies, where it is part of a wider tensor; None: densely."""

    @property
    def copied(self) -> tuple[int, ...]:
        """Inputs that don't lie in the result yet."""
        return tuple(i for i in range(len(self.inner)) if not (self.placed and self.placed[i]))


@dataclass(frozen=True)
class Pad:
    """Pad with a constant: `pads` gives (before, after) per dimension of `shape`, none negative."""

    shape: tuple[int, ...]
    """Of the input."""
    pads: tuple[tuple[int, int], ...]
    value: float
    """A value of the dtype."""
    dtype: str = "int8"


@dataclass(frozen=True)
class MaxPool:
    """Maximum over a window; positions in the padding don't take part. Scale and zero point stay."""

    input_shape: tuple[int, int, int, int]
    output_shape: tuple[int, int, int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    """Top, left; bottom and right follow from `output_shape`."""
    dtype: str = "int8"
    runs: Runs | None = None
    """Pixels of the result, where it is part of a wider tensor; None where it lies densely."""


@dataclass(frozen=True, eq=False)
class AveragePool:
    """clamp(rne(float32(sum(a - input_zero_point)) * multiplier[oh, ow]) + output_zero_point).

    multiplier[oh, ow] = float32(s_a / (s_y * count)), where count is the number of positions that the
    window divides by there (ONNX count_include_pad decides whether padding counts).
    """

    input_shape: tuple[int, int, int, int]
    output_shape: tuple[int, int, int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    """Top, left; bottom and right follow from `output_shape`."""
    multiplier: NDArray[np.float32]
    """[OH, OW]."""
    input_zero_point: int
    output_zero_point: int
    low: int
    high: int
    runs: Runs | None = None
    """Pixels of the result, where it is part of a wider tensor; None where it lies densely."""


@dataclass(frozen=True)
class Mean:
    """Mean over the middle of [outer, reduced, inner]: global average pooling, ReduceMean.

    clamp(rne(float32(sum(a - input_zero_point)) * multiplier) + output_zero_point).
    """

    outer: int
    reduced: int
    inner: int
    multiplier: float
    """float32(s_a / (s_y * reduced))."""
    input_zero_point: int
    output_zero_point: int
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class FloatAveragePool:
    """clip(sum(a) * multiplier[oh, ow], low, high) in float32, added up in the order of the window.

    multiplier[oh, ow] = float32(1 / count), the positions that the window divides by there.
    """

    input_shape: tuple[int, int, int, int]
    output_shape: tuple[int, int, int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    """Top, left; bottom and right follow from `output_shape`."""
    multiplier: NDArray[np.float32]
    """[OH, OW]."""
    low: float = -np.inf
    high: float = np.inf
    runs: Runs | None = None
    """Pixels of the result, where it is part of a wider tensor; None where it lies densely."""


@dataclass(frozen=True)
class FloatMean:
    """clip(sum(a) * float32(1 / reduced), low, high) over the middle of [outer, reduced, inner].

    Added up in float32, in order.
    """

    outer: int
    reduced: int
    inner: int
    low: float = -np.inf
    high: float = np.inf


@dataclass(frozen=True, eq=False)
class Softmax:
    """Softmax over the last axis of [outer, length], from a table of exponentials.

    e_i = table[max(x) - x_i], an integer; y_i = clamp(rne(float32(e_i) * (inverse_scale / float32(sum(e))))
    + output_zero_point). table[d] = rne(exp(-d * s_x) * 2**k), k the largest that keeps the sum under 2**31.
    """

    outer: int
    length: int
    table: NDArray[np.int32]
    """[256]."""
    inverse_scale: float
    """float32(1 / s_y)."""
    output_zero_point: int


@dataclass(frozen=True, eq=False)
class Island:
    """A part of the model that stays in float: an ONNX model of its own, lowered by Relax.

    Its result has a stated tolerance against ONNX Runtime instead of exactness.
    """

    model: bytes
    """Serialized ONNX model: nodes and shapes as the user's model has them. Its inputs and outputs are in the
    order of the operator's."""
    reasons: tuple[tuple[str, str, str], ...]
    """Per node: name, operator, why it isn't int8."""
    order: tuple[int, ...] | None = None
    """How all its tensors lie: their axes, outermost first. None: row-major, each with axes of its own."""


Operation = (
    Conv2d | Chain | FloatConv2d | Binary | FloatBinary | Lookup | Quantize | Dequantize | Rearrange | Concat
    | Pad | MaxPool | AveragePool | FloatAveragePool | Mean | FloatMean | Softmax | Island
)  # fmt: skip


ARGUMENTS = frozenset(
    {
        "bias", "factors", "high", "input_zero_point", "inverse_scale", "low", "multiplier",
        "output_zero_point", "residual", "scale", "table", "tables", "value", "weights", "zero_point",
        "zero_points",
    }
)  # fmt: skip
"""Fields that compiled functions take as arguments; every other field may be part of their code."""

INEXACT = (FloatConv2d, Island)
"""Operations whose result is stated within a tolerance: the order and rounding of their sums is free."""


@dataclass(frozen=True, eq=False)
class Operator:
    """One layer: an operation on named tensors."""

    name: str
    """The model's own name for it, made unique."""
    operation: Operation
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    """One, but for an island."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The inputs that a kernel is given."""
        if isinstance(self.operation, Concat):
            return tuple(self.inputs[i] for i in self.operation.copied)
        return self.inputs

    @property
    def computes(self) -> bool:
        """Whether there is anything to do: not where all that is concatenated lies there already."""
        return not isinstance(self.operation, Concat) or bool(self.operation.copied)


@dataclass(frozen=True, eq=False)
class Network:
    """Operators in execution order over tensors; what `reference.py` evaluates and kernels implement."""

    operators: tuple[Operator, ...]
    tensors: dict[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: dict[str, NDArray[np.generic]]
    """Tensors whose value is known (a constant operand of an addition, say)."""

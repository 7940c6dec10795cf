"""Small models, one operator each or a few, and what they must be lowered to."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tests.compiler.onnx_models import Form

_INT8 = Form()


def weights(*shape: int) -> np.ndarray:
    """The same for the same shape, whatever other tests draw."""
    drawn = np.random.default_rng(shape).standard_normal(shape)
    return (drawn / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@dataclass(frozen=True)
class Case:
    inputs: str
    body: str
    """Computes y, or all of `outputs`."""
    constants: dict[str, Any] = field(default_factory=dict)
    operations: str = ""
    """Kinds of the network's operations, in order."""
    ties: float = 0.0
    """Largest share of elements that may be one step off; the tests say why."""
    steps: int = 1
    """How many steps off those may be."""
    sqnr: float = 30.0
    """Least, in dB, against the float model."""
    form: Form = _INT8
    one_range: bool = False
    """All values have the scale of the first input."""
    inner: tuple[str, ...] = ()
    """Values inside that are quantized, too."""
    opset: int = 17

    outputs: str = "y"

    @property
    def graph(self) -> str:
        """The text that onnx.parser reads."""
        outputs = ", ".join(f"float {name}" for name in self.outputs.split())
        return f"({self.inputs}) => ({outputs}) {{ {self.body} }}"


def image(body: str, operation: str, constants: dict[str, Any] | None = None, **keywords: Any) -> Case:
    """Kernels take images as NHWC: a copy in front, a copy behind."""
    return Case("float[1,4,9,7] x", body, constants or {}, f"Rearrange {operation} Rearrange", **keywords)


def conv(attributes: str, *kernel: int, **keywords: Any) -> Case:
    constants = {"w": weights(*kernel), "b": weights(kernel[0], 1).reshape(-1)}
    return image(f"y = Conv{attributes}(x, w, b)", "Conv2d", constants, **keywords)


def rows(body: str, *kernel: int, **keywords: Any) -> Case:
    constants = {"w": weights(*kernel), "b": floats(*range(10)), "one": floats(3)}
    return Case("float[5,24] x", body, constants, "Conv2d", **keywords)


_TALL = Form(per_channel=False)
_UNSIGNED = Form(np.uint8, weights=np.uint8, weight_zero_point=128)
_LIMITS = {"w": 9 * weights(3, 4, 2, 2), "low": np.float32(-1), "high": np.float32(6)}
_COLUMNS = weights(10, 24).T.copy()

PRODUCTS = {
    "conv": conv("<pads=[1,1,1,1]>", 8, 4, 3, 3),
    "conv 1x1": conv("", 5, 4, 1, 1),
    "conv grouped": conv("<group=2, pads=[1,1,1,1]>", 6, 2, 3, 3),
    "conv depthwise": conv("<group=4, pads=[1,1,1,1]>", 4, 1, 3, 3),
    "conv depthwise with a multiplier": conv("<group=4>", 8, 1, 3, 3),
    "conv dilated": conv("<dilations=[2,3], pads=[2,3,2,3]>", 3, 4, 3, 3),
    "conv with asymmetric pads and strides": conv("<pads=[0,1,2,3], strides=[2,3]>", 6, 4, 3, 4),
    "conv with auto_pad": conv('<auto_pad="SAME_UPPER", strides=[2,2]>', 6, 4, 3, 3),
    "conv per tensor": conv("", 8, 4, 3, 3, form=_TALL),
    "conv of uint8": conv("<pads=[1,1,1,1]>", 8, 4, 3, 3, form=Form(np.uint8)),
    "conv with uint8 weights": conv("", 8, 4, 3, 3, form=_UNSIGNED),
    "conv with a float bias": conv("", 8, 4, 3, 3, form=Form(float_bias=True), ties=0.01),
    "conv without a bias": image("y = Conv(x, w)", "Conv2d", {"w": weights(3, 4, 2, 2)}),
    "conv and relu": image("c = Conv(x, w) y = Relu(c)", "Conv2d", {"w": weights(3, 4, 2, 2)}),
    "conv and clip": image("c = Conv(x, w) y = Clip(c, low, high)", "Conv2d", _LIMITS),
    "conv, clip and relu": image("c = Conv(x, w) d = Clip(c, low, high) y = Relu(d)", "Conv2d", _LIMITS),
    "conv 1-D": Case(
        "float[2,6,20] x",
        "y = Conv<pads=[2,1], strides=[2]>(x, w)",
        {"w": weights(5, 6, 4)},
        "Rearrange Conv2d Rearrange",
    ),
    "conv 1-D depthwise": Case(
        "float[2,6,20] x",
        "y = Conv<group=6, dilations=[3]>(x, w)",
        {"w": weights(6, 1, 3)},
        "Rearrange Conv2d Rearrange",
    ),
    "conv of a batch": Case(
        "float[3,4,9,7] x", "y = Conv(x, w)", {"w": weights(8, 4, 3, 3)}, "Rearrange Conv2d Rearrange"
    ),
    "gemm": rows("y = Gemm(x, w, b)", 24, 10),
    "gemm transB": rows("y = Gemm<transB=1>(x, w, b)", 10, 24),
    "gemm with one bias": rows(
        "y = Gemm<transB=1>(x, w, one)", 10, 24, form=Form(float_bias=True), ties=0.02
    ),
    "gemm per tensor": rows("y = Gemm<transB=1>(x, w)", 10, 24, form=_TALL),
    "gemm and relu": rows("g = Gemm<transB=1>(x, w) y = Relu(g)", 10, 24),
    "matmul": rows("y = MatMul(x, w)", 24, 10),
    "matmul of a stack": Case("float[2,3,5,24] x", "y = MatMul(x, w)", {"w": _COLUMNS}, "Conv2d"),
    "matmul of a vector": Case("float[24] x", "y = MatMul(x, w)", {"w": _COLUMNS}, "Conv2d"),
    "matmul of a transposed operand": Case(
        "float[24,5] x", "t = Transpose(x) y = MatMul(t, w)", {"w": _COLUMNS}, "Rearrange Conv2d"
    ),
}

BILINEAR = {
    "matmul of two matrices": Case("float[5,24] a, float[24,10] b", "y = MatMul(a, b)"),
    "matmul of a matrix and a vector": Case("float[5,24] a, float[24] b", "y = MatMul(a, b)"),
    "matmul of a vector and a stack": Case("float[24] a, float[3,24,10] b", "y = MatMul(a, b)"),
    "matmul of two vectors": Case("float[24] a, float[24] b", "y = MatMul(a, b)"),
    "matmul of stacks": Case("float[2,3,5,24] a, float[2,3,24,10] b", "y = MatMul(a, b)"),
    "matmul with broadcasting": Case("float[2,1,5,24] a, float[3,24,10] b", "y = MatMul(a, b)"),
    "matmul by its own transpose": Case("float[5,24] x", "t = Transpose(x) y = MatMul(x, t)"),
    "matmul and relu": Case("float[5,24] a, float[24,10] b", "m = MatMul(a, b) y = Relu(m)"),
    "matmul by a constant stack": Case(
        "float[3,5,24] x", "y = MatMul(x, w)", {"w": weights(3, 24, 10)}, form=_TALL
    ),
    "matmul of both transposed": Case(
        "float[24,5] a, float[10,24] b",
        "s = Transpose(a) t = Transpose(b) y = MatMul(s, t)",
        operations="Rearrange Product",
    ),
    "matmul of heads": Case(
        "float[2,7,3,4,6] x",
        """t = Transpose<perm=[2,0,3,1,4]>(x) q = Gather<axis=0>(t, zero) k = Gather<axis=0>(t, one)
        s = Transpose<perm=[0,1,3,2]>(k) y = MatMul(q, s)""",
        {"zero": np.array(0, np.int64), "one": np.array(1, np.int64)},
    ),
    "matmul of heads, which are put side by side": Case(
        "float[2,4,7,7] p, float[2,7,4,6] x",
        """v = Transpose<perm=[0,2,1,3]>(x) o = MatMul(p, v)
        t = Transpose<perm=[0,2,1,3]>(o) y = Reshape(t, shape)""",
        {"shape": integers(2, 7, 24)},
    ),
    "gemm of two activations": Case("float[5,24] a, float[24,10] b", "y = Gemm(a, b)"),
    "gemm of transposed activations": Case(
        "float[24,5] a, float[10,24] b", "y = Gemm<transA=1, transB=1>(a, b)", operations="Rearrange Product"
    ),
    "einsum of attention's scores": Case(
        "float[2,4,7,6] a, float[2,4,9,6] b", 'y = Einsum<equation="bhid,bhjd->bhij">(a, b)'
    ),
    "einsum of heads": Case(
        "float[2,4,7,9] a, float[2,9,4,6] b", 'y = Einsum<equation="b h i j, b j h d -> b i h d">(a, b)'
    ),
    "einsum over two axes": Case("float[5,3,4] a, float[3,4,6] b", 'y = Einsum<equation="xij,ijy">(a, b)'),
}
_SCORES = "s = MatMul(a, b)"
_ROWS = "float[2,3,17,8] a, float[2,3,8,33] b, float[2,3,33,6] v"

# Exponentials have steps of 1/40 in their exponents, and 8 bits, where ONNX Runtime's have all of float32's.
_ROUGHLY = {"ties": 0.5, "steps": 2, "sqnr": 25.0, "operations": "Attention"}

ATTENTION = {
    "attention": Case(_ROWS, f"{_SCORES} p = Softmax(s) y = MatMul(p, v)", **_ROUGHLY),
    "attention with a scale": Case(
        _ROWS,
        f"{_SCORES} c = Mul(s, scale) p = Softmax<axis=3>(c) y = MatMul(p, v)",
        {"scale": np.float32(0.25)},
        **_ROUGHLY,
    ),
    "attention with a divisor, and a mask for all heads": Case(
        f"{_ROWS}, float[2,1,1,33] m",
        f"{_SCORES} c = Div(s, scale) d = Add(m, c) p = Softmax(d) y = MatMul(p, v)",
        {"scale": np.float32(4)},
        **_ROUGHLY,
    ),
    "attention with a position's bias, put side by side": Case(
        _ROWS,
        f"""{_SCORES} d = Add(s, bias) p = Softmax(d) o = MatMul(p, v)
        t = Transpose<perm=[0,2,1,3]>(o) y = Reshape(t, shape)""",
        {"bias": weights(3, 17, 33), "shape": integers(2, 17, 18)},
        form=_TALL,
        **_ROUGHLY,
    ),
    "attention of transposed keys": Case(
        "float[17,8] a, float[33,8] k, float[33,6] v",
        "b = Transpose(k) s = MatMul(a, b) p = Softmax(s) y = MatMul(p, v)",
        **_ROUGHLY,
    ),
    "no attention where scores are quantized": Case(
        _ROWS,
        f"{_SCORES} p = Softmax(s) y = MatMul(p, v)",
        inner=("s", "p"),
        operations="Product Softmax Product",
        ties=0.02,
        sqnr=20,
    ),
}
BILINEAR = {
    name: replace(case, operations=case.operations or "Product") for name, case in BILINEAR.items()
} | ATTENTION

_STEPS = {"start": integers(-1), "end": integers(-1000), "axes": integers(1), "steps": integers(-1)}

BINARIES = {
    "add": Case("float[1,4,9,7] a, float[1,4,9,7] b", "y = Add(a, b)", operations="Binary"),
    "mul": Case("float[1,4,9,7] a, float[1,4,9,7] b", "y = Mul(a, b)", operations="Binary"),
    "sub": Case("float[1,4,9,7] a, float[1,4,9,7] b", "y = Sub(a, b)", operations="Binary"),
    "sub from a channel": Case("float[4,1,1] a, float[1,4,9,7] b", "y = Sub(a, b)", operations="Binary"),
    "max": Case("float[1,4,9,7] a, float[4,1,1] b", "y = Max(a, b)", operations="Binary"),
    "min of a constant": Case("float[4,9] x", "y = Min(c, x)", {"c": weights(4, 1)}, "Binary"),
    "div": Case(
        "float[4,9] a, float[4,1] b", "e = Exp(b) y = Div(a, e)", operations="Lookup Binary", inner=("e",)
    ),
    # A divisor's code of zero is an infinite quotient.
    "div by what may be nothing": Case(
        "float[4,9] a, float[4,9] b", "y = Div(a, b)", operations="Binary", sqnr=-5
    ),
    "prelu by channel": Case("float[2,4,9,7] x", "y = PRelu(x, s)", {"s": weights(4, 1, 1)}, "Binary"),
    "prelu by an activation": Case("float[4,9] x, float[4,9] s", "y = PRelu(x, s)", operations="Binary"),
    "add and relu": Case("float[4,9] a, float[4,9] b", "s = Add(a, b) y = Relu(s)", operations="Binary"),
    "add a channel": Case("float[1,4,9,7] a, float[4,1,1] b", "y = Add(a, b)", operations="Binary"),
    "mul by a pixel": Case("float[1,1,9,7] a, float[2,4,9,7] b", "y = Mul(a, b)", operations="Binary"),
    "add rows and columns": Case("float[5,1] a, float[1,6] b", "y = Add(a, b)", operations="Binary"),
    "add to itself": Case("float[5,6] a", "y = Add(a, a)", ties=0.01),
    "add a constant": Case("float[1,4,9,7] x", "y = Add(x, c)", {"c": weights(1, 4, 9, 7)}, "Binary"),
    "mul by a constant per channel": Case(
        "float[1,4,9,7] x", "y = Mul(c, x)", {"c": weights(4, 1, 1)}, "Binary"
    ),
    "add a transposed operand": Case(
        "float[6,5] a, float[5,6] b", "t = Transpose(a) y = Add(t, b)", operations="Binary Rearrange"
    ),
    "mul by a slice": Case(
        "float[6,5] a",
        "t = Slice(a, start, end) y = Mul(t, a)",
        {"start": integers(5), "end": integers(6)},
        "Rearrange Binary",
    ),
    "add a reversed operand": Case(
        "float[6,5] a",
        "t = Slice(a, start, end, axes, steps) y = Add(t, a)",
        _STEPS,
        "Rearrange Binary",
        ties=0.07,
    ),
}


def pool(attributes: str, kind: str = "AveragePool", **keywords: Any) -> Case:
    return image(f"y = {kind}<{attributes}>(x)", kind, **keywords)


def mean(axes: tuple[int, ...], keepdims: int) -> Case:
    """Dimensions that don't lie next to each other are brought together first."""
    listed = f", axes=[{','.join(map(str, axes))}]" if axes else ""
    apart = axes in ((0, 2), (1, 3), (0, 1, 3))
    body = f"y = ReduceMean<keepdims={keepdims}{listed}>(x)"
    return Case("float[2,3,5,4] x", body, operations="Rearrange Mean" if apart else "Mean")


REDUCTIONS = {
    "average pool": pool("kernel_shape=[3,2], strides=[2,1]"),
    "average pool without its pads": pool("kernel_shape=[3,3], pads=[1,0,1,2]"),
    "average pool with its pads": pool("kernel_shape=[3,3], pads=[1,0,1,2], count_include_pad=1"),
    "average pool rounding up": pool("kernel_shape=[2,2], strides=[2,2], ceil_mode=1"),
    "average pool rounding up, with its pads": pool(
        "kernel_shape=[2,3], strides=[2,3], pads=[0,1,0,1], ceil_mode=1, count_include_pad=1"
    ),
    "average pool and relu": image("p = AveragePool<kernel_shape=[2,2]>(x) y = Relu(p)", "AveragePool"),
    "average pool 1-D": Case(
        "float[2,6,20] x",
        "y = AveragePool<kernel_shape=[4], strides=[3], pads=[1,1]>(x)",
        operations="Rearrange AveragePool Rearrange",
    ),
    "average pool of everything": Case(
        "float[1,4,9,7] x", "y = AveragePool<kernel_shape=[9,7]>(x)", operations="Mean"
    ),
    "global average pool": Case("float[2,4,9,7] x", "y = GlobalAveragePool(x)", operations="Mean"),
    "global average pool 1-D": Case("float[2,6,20] x", "y = GlobalAveragePool(x)", operations="Mean"),
    "global average pool behind a convolution": Case(
        "float[1,4,9,7] x",
        "c = Conv(x, w) y = GlobalAveragePool(c)",
        {"w": weights(6, 4, 3, 3)},
        "Rearrange Conv2d Mean",
        inner=("c",),
    ),
    "mean by opset 18": Case(
        "float[2,3,5] x", "y = ReduceMean<keepdims=0>(x, axes)", {"axes": integers(1)}, "Mean", opset=18
    ),
} | {
    f"mean over {axes}, keepdims {keepdims}": mean(axes, keepdims)
    for axes in (
        (),
        (0,),
        (1,),
        (3,),
        (-1,),
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 3),
        (-2, -3),
        (0, 1, 3),
        (0, 1, 2, 3),
    )
    for keepdims in (0, 1)
}

# e_i / sum(e) is rounded from integer exponentials, of 30 bits at most; float32 rounds each exponential.
_EXPONENTIALS = 0.005

SOFTMAX = {
    f"softmax over {axis}": Case(
        "float[2,5,6,7] x",
        f"y = Softmax<axis={axis}>(x)",
        operations="Softmax" if axis in (3, -1) else "Rearrange Softmax Rearrange",
        ties=_EXPONENTIALS,
        sqnr=25,
    )
    for axis in (0, 1, 2, 3, -1)
} | {
    "softmax of long rows": Case(
        "float[6,100] x", "y = Softmax(x)", operations="Softmax", ties=_EXPONENTIALS, sqnr=15
    ),
    "softmax and clip": Case(
        "float[6,10] x",
        "s = Softmax(x) y = Clip(s, low, high)",
        {"low": np.float32(0.05), "high": np.float32(0.2)},
        "Softmax Lookup",
        ties=_EXPONENTIALS,
    ),
}


_SCALED = {"s": 1 + weights(7, 1)[:, 0], "b": weights(7, 2)[:, 0]}
_CHANNELS = {"s": 1 + weights(6, 1)[:, 0], "b": weights(6, 2)[:, 0]}
_ROWS = "float[2,5,7] x"

# ONNX Runtime's means and roots are rounded on the way; an element near a tie may come out one step off.
_ROUNDED_MEANS = 0.002

NORMALIZATIONS = {
    name: Case(inputs, f"y = {body}", constants, operations, ties=_ROUNDED_MEANS, sqnr=25, opset=opset)
    for name, inputs, body, constants, operations, opset in (
        ("layer", _ROWS, "LayerNormalization(x, s, b)", _SCALED, "Normalize", 17),
        ("layer without bias", _ROWS, "LayerNormalization<epsilon=0.1>(x, s)", _SCALED, "Normalize", 17),
        ("layer of two axes", _ROWS, "LayerNormalization<axis=1>(x, s, b)",
         {"s": 1 + weights(5, 7), "b": weights(5, 7)}, "Normalize", 17),
        ("layer of an image", "float[2,6,4,7] x", "LayerNormalization<axis=1>(x, s, b)",
         {"s": 1 + weights(6, 4, 7), "b": weights(6, 4, 7)}, "Normalize", 17),
        ("instance", "float[2,6,4,5] x", "InstanceNormalization(x, s, b)", _CHANNELS,
         "Rearrange Normalize Rearrange", 17),
        ("instance of a signal", "float[2,6,20] x", "InstanceNormalization(x, s, b)", _CHANNELS,
         "Rearrange Normalize Rearrange", 17),
        ("RMS", _ROWS, "RMSNormalization(x, s)", _SCALED, "Normalize", 23),
        ("L2", _ROWS, "LpNormalization(x)", {}, "Normalize", 17),
        ("L2 over channels", "float[2,6,4,5] x", "LpNormalization<axis=1>(x)", {},
         "Rearrange Normalize Rearrange", 17),
        ("L1", _ROWS, "LpNormalization<axis=1, p=1>(x)", {}, "Rearrange Normalize Rearrange", 17),
    )
} | {
    "instance of one signal that lies the other way": Case(
        "float[20,6] x",
        "t = Transpose<perm=[1,0]>(x) u = Unsqueeze(t, z) y = InstanceNormalization(u, s, b)",
        _CHANNELS | {"z": integers(0)}, "Normalize Rearrange", ties=_ROUNDED_MEANS, sqnr=25,
    ),
    "layer and relu": Case(
        _ROWS, "t = LayerNormalization(x, s, b) y = Relu(t)", _SCALED, "Normalize", ties=_ROUNDED_MEANS,
        sqnr=25,
    )
}  # fmt: skip


def movement(
    body: str,
    operations: str = "Rearrange",
    inputs: str = "float[1,4,9,7] x",
    outputs: str = "y",
    **constants: Any,
) -> Case:
    """Every element of the result is one of the input: nothing may differ."""
    return Case(inputs, body, constants, operations, outputs=outputs, one_range=True)


_PADS = integers(0, 0, 1, 2, 0, 1, 0, 3)
_DEEP = "float[2,12,3,5] x"
_NEAREST = 'Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">'
_TWICE = "Rearrange Rearrange"
_POOLED = "Rearrange MaxPool Rearrange"
_PADDED = "Rearrange Pad Rearrange"

MOVEMENTS = {
    "identity": movement("y = Identity(x)", ""),
    "reshape": movement("y = Reshape(x, s)", "", s=integers(2, -1, 3)),
    "flatten": movement("y = Flatten<axis=2>(x)", ""),
    "squeeze": movement("y = Squeeze(x, s)", "", s=integers(0)),
    "unsqueeze": movement("y = Unsqueeze(x, s)", "", s=integers(0, -1)),
    "transpose": movement("y = Transpose<perm=[0,2,3,1]>(x)"),
    "transpose back": movement("t = Transpose<perm=[0,2,3,1]>(x) y = Transpose<perm=[0,3,1,2]>(t)", ""),
    "transpose of everything": movement("y = Transpose(x)"),
    "slice": movement(
        "y = Slice(x, s, e, a, t)", s=integers(1, 6), e=integers(99, -99), a=integers(2, 3), t=integers(3, -2)
    ),
    "slice without axes": movement("y = Slice(x, s, e)", s=integers(0, 1), e=integers(1, 3)),
    "slice backwards": movement(
        "y = Slice(x, s, e, a, t)", s=integers(-1), e=integers(-(2**63)), a=integers(3), t=integers(-1)
    ),
    "split": movement("y, z = Split<axis=1>(x, s)", _TWICE, "float[1,6,5] x", "y z", s=integers(2, 4)),
    "split from behind": movement(
        "y, z, u = Split<axis=-2>(x)", "Rearrange Rearrange Rearrange", "float[1,6,5] x", "y z u"
    ),
    "gather one": movement("y = Gather<axis=2>(x, i)", i=np.array(-2)),
    "depth to space": movement("y = DepthToSpace<blocksize=2>(x)", _TWICE, _DEEP),
    "depth to space, CRD": movement('y = DepthToSpace<blocksize=2, mode="CRD">(x)', _TWICE, _DEEP),
    "space to depth": movement("y = SpaceToDepth<blocksize=3>(x)", _TWICE, "float[2,4,6,9] x"),
    "channel shuffle": movement(
        "a = Reshape(x, s) b = Transpose<perm=[0,2,1,3,4]>(a) y = Reshape(b, t)",
        _TWICE,
        s=integers(1, 2, 2, 9, 7),
        t=integers(1, 4, 9, 7),
    ),
    "a long chain": movement(
        "a = Transpose<perm=[0,2,3,1]>(x) b = Reshape(a, s) c = Slice(b, f, e, d) y = Unsqueeze(c, i)",
        s=integers(63, 4), f=integers(1), e=integers(3), d=integers(1), i=integers(0),
    ),
    "resize": movement(f"y = {_NEAREST}(x, , s)", _TWICE, s=floats(1, 1, 2, 3)),
    "resize centred": movement('y = Resize<mode="nearest">(x, , s)', _TWICE, s=floats(1, 1, 4, 3)),
    "resize to a size": movement(f"y = {_NEAREST}(x, , , s)", _TWICE, s=integers(1, 4, 18, 14)),
    "max pool": movement("y = MaxPool<kernel_shape=[3,2], strides=[2,1]>(x)", _POOLED),
    "max pool with pads": movement("y = MaxPool<kernel_shape=[3,3], pads=[1,2,0,1]>(x)", _POOLED),
    "max pool rounding up": movement(
        "y = MaxPool<kernel_shape=[3,3], strides=[2,3], pads=[1,1,1,1], ceil_mode=1>(x)", _POOLED
    ),
    "max pool dilated": movement(
        "y = MaxPool<kernel_shape=[3,2], dilations=[2,3], strides=[2,1], pads=[2,1,1,1]>(x)", _POOLED
    ),
    "max pool dilated 1-D": movement(
        "y = MaxPool<kernel_shape=[3], dilations=[4], pads=[2,2]>(x)", _POOLED, "float[2,6,20] x"
    ),
    "max pool 1-D": movement(
        "y = MaxPool<kernel_shape=[3], strides=[2], pads=[1,0]>(x)", _POOLED, "float[2,6,20] x"
    ),
    "pad": movement("y = Pad(x, p)", _PADDED, p=_PADS),
    "pad with a number": movement("y = Pad(x, p, v)", _PADDED, p=_PADS, v=np.float32(1)),
    "pad and relu": movement(
        "t = Pad(x, p) y = Relu(t)", "Pad Lookup", "float[3,4] x", p=integers(1, 0, 0, 2)
    ),
    "pad of another scale": Case(
        "float[3,4] x", "y = Pad(x, p, v)", {"p": integers(1, 0, 0, 2), "v": np.float32(9)}, "Lookup Pad"
    ),
}  # fmt: skip

_THREE = "float[2,3,4] a, float[2,3,4] b, float[2,3,4] c"

CONCATS = {
    f"concat of images along {axis}": Case(
        "float[2,3,4,5] a, float[2,3,4,5] b", f"y = Concat<axis={axis}>(a, b)",
        operations="Rearrange Rearrange Concat Rearrange",
    )
    for axis in (0, 1, 2, 3, -1)
} | {
    f"concat along {axis}": Case(_THREE, f"y = Concat<axis={axis}>(a, b, c)", operations="Concat")
    for axis in (0, 1, 2)
} | {
    "concat of other extents": Case(
        "float[2,3,4] a, float[2,1,4] b, float[2,7,4] c", "y = Concat<axis=1>(a, b, c)", operations="Concat"
    ),
    "concat with a constant": Case(
        "float[2,3] a", "y = Concat<axis=1>(a, c, a)", {"c": weights(2, 4)}, "Concat"
    ),
    "concat and relu": Case(
        "float[2,3] a, float[2,3] b", "c = Concat<axis=1>(a, b) y = Relu(c)",
        operations="Concat Lookup",
        form=Form(symmetric=True),
    ),
}  # fmt: skip

OPERATORS = PRODUCTS | BILINEAR | BINARIES | REDUCTIONS | NORMALIZATIONS | SOFTMAX | MOVEMENTS | CONCATS
"""One operator each, or one and what it takes along."""

_CLASSIFIER = {
    "w1": weights(8, 3, 3, 3),
    "w2": weights(8, 8, 3, 3),
    "w3": 4 * weights(5, 8),
    "b1": weights(8, 1).reshape(-1),
    "b2": weights(8, 1).reshape(-1),
    "b3": weights(5, 1).reshape(-1),
}
_GATED = {
    "w1": weights(8, 4, 1, 1),
    "w2": weights(8, 1, 3, 3),
    "w3": weights(8, 8, 1, 1),
    "w4": weights(4, 8, 1, 1),
    "low": np.float32(0),
    "high": np.float32(6),
}
_PYRAMID = {
    "w1": weights(6, 4, 3, 3),
    "w2": weights(2, 4, 1, 1),
    "s": floats(1, 1, 2, 2),
    "p": integers(4, 4),
    "t": integers(1, -1, 4),
}

NETWORKS = {
    "residual": Case(
        "float[1,3,12,12] x",
        """a = Conv<pads=[1,1,1,1]>(x, w1, b1) b = Relu(a)
        c = Conv<pads=[1,1,1,1]>(b, w2, b2) d = Add(c, b) e = Relu(d)
        f = MaxPool<kernel_shape=[2,2], strides=[2,2]>(e) g = GlobalAveragePool(f) h = Flatten(g)
        i = Gemm<transB=1>(h, w3, b3) y = Softmax(i)""",
        _CLASSIFIER,
        "Rearrange Conv2d Conv2d Binary MaxPool Mean Conv2d Softmax",
    ),
    "squeeze and excite": Case(
        "float[1,4,10,10] x",
        """a = Conv(x, w1) b = HardSwish(a)
        c = Conv<group=8, pads=[1,1,1,1], strides=[2,2]>(b, w2) d = Clip(c, low, high)
        e = ReduceMean<axes=[2,3], keepdims=1>(d) f = Conv(e, w3) g = Sigmoid(f) h = Mul(d, g)
        y = Conv(h, w4)""",
        _GATED,
        "Rearrange Conv2d Lookup Conv2d Mean Conv2d Lookup Binary Conv2d Rearrange",
    ),
    "pyramid": Case(
        "float[1,4,8,8] x",
        f"""a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w1) b = LeakyRelu(a) c = {_NEAREST}(b, , s)
        d = Conv(x, w2) e = Concat<axis=1>(c, d) f, g = Split<axis=1>(e, p) h = Mul(f, g)
        i = Transpose<perm=[0,2,3,1]>(h) y = Reshape(i, t)""",
        _PYRAMID,
        "Rearrange Conv2d Lookup Rearrange Conv2d Concat Rearrange Binary",
    ),
    "sequence": Case(
        "float[1,4,40] x",
        """a = Conv<pads=[2,2], strides=[2]>(x, w1) b = Relu(a) c = MaxPool<kernel_shape=[2], strides=[2]>(b)
        d = Conv<group=8, pads=[1,1]>(c, w2) e = Tanh(d) f = Transpose<perm=[0,2,1]>(e) y = MatMul(f, w3)""",
        {"w1": weights(8, 4, 5), "w2": weights(8, 1, 3), "w3": weights(8, 6)},
        "Rearrange Conv2d MaxPool Conv2d Lookup Conv2d",
    ),
}
"""A few operators each."""

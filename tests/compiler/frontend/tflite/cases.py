"""One small .tflite file per operator, and what TensorFlow Lite's interpreter computes from it.

`python -m tests.compiler.frontend.tflite.cases`, where ai-edge-litert is installed, writes
expected.npz again.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tests.compiler.frontend.tflite.files import Operator, Tensor, constant, written

EXPECTED = Path(__file__).parent / "expected.npz"
SAME, VALID = 0, 1
RELU, RELU6 = 1, 3

random = np.random.default_rng(11)


def floats(*shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


def integers(*shape: int) -> np.ndarray:
    return random.integers(-127, 128, shape).astype(np.int8)


def case(
    name: str, shape: tuple[int, ...], result: tuple[int, ...], constants: list[Any], options: Any = None,
    dtype: str = "float32", first: bool = True, more: tuple[tuple[int, ...], ...] = (),
) -> bytes:  # fmt: skip
    """A file of one operator: of `x` first, or last, and constants."""
    known = [constant(f"c{index}", array) for index, array in enumerate(constants)]
    names = [tensor.name for tensor in known]
    outputs = ["y", *(f"y{index}" for index in range(len(more)))]
    results = [Tensor(n, s, dtype) for n, s in zip(outputs, (result, *more), strict=True)]
    tensors = [Tensor("x", shape), *known, *results]
    reads = ["x", *names] if first else [*names, "x"]
    return written(tensors, [Operator(name, reads, outputs, options)], ["x"], outputs)


I32 = np.int32
_WINDOW = {"StrideH": 2, "StrideW": 1, "FusedActivationFunction": RELU}
_FILTER = {"FilterHeight": 3, "FilterWidth": 2}
_IMAGE = (1, 7, 8, 4)


def _one(name: str, options: Any = None) -> bytes:
    return case(name, (2, 5), (2, 5), [], options)


def _quantized_convolution() -> bytes:
    scales = (0.005 * (1 + np.arange(6))).astype(np.float32)
    x = Tensor("x", _IMAGE, "int8", [0.02], [5])
    w = constant("w", integers(6, 3, 3, 4), scale=list(scales), axis=0)
    b = constant("b", random.integers(-2000, 2000, 6).astype(I32), scale=list(scales * np.float32(0.02)))
    y = Tensor("y", (1, 4, 8, 6), "int8", [0.05], [-128])
    options = ("Conv2DOptions", {"Padding": SAME, **_WINDOW})
    return written([x, w, b, y], [Operator("CONV_2D", ["x", "w", "b"], ["y"], options)], ["x"], ["y"])


def _quantized_depthwise() -> bytes:
    scales = (0.005 * (1 + np.arange(8))).astype(np.float32)
    x = Tensor("x", _IMAGE, "int8", [0.02], [5])
    w = constant("w", integers(1, 3, 3, 8), scale=list(scales), axis=3)
    y = Tensor("y", (1, 5, 6, 8), "int8", [0.05], [-3])
    options = ("DepthwiseConv2DOptions", {"Padding": VALID, "StrideH": 1, "StrideW": 1, "DepthMultiplier": 2})
    b = constant("b", random.integers(-2000, 2000, 8).astype(I32), scale=list(scales * np.float32(0.02)))
    operator = Operator("DEPTHWISE_CONV_2D", ["x", "w", "b"], ["y"], options)
    return written([x, w, b, y], [operator], ["x"], ["y"])


CASES: dict[str, bytes] = {
    "CONV_2D": case(
        "CONV_2D", _IMAGE, (1, 4, 8, 6), [floats(6, 3, 3, 4), floats(6)],
        ("Conv2DOptions", {"Padding": SAME, **_WINDOW}),
    ),
    "CONV_2D, dilated": case(
        "CONV_2D", _IMAGE, (1, 3, 4, 6), [floats(6, 3, 3, 4), floats(6)],
        ("Conv2DOptions", {"Padding": VALID, "StrideH": 1, "StrideW": 1, "DilationHFactor": 2,
                           "DilationWFactor": 2, "FusedActivationFunction": RELU6}),
    ),
    "CONV_2D, quantized": _quantized_convolution(),
    "DEPTHWISE_CONV_2D": case(
        "DEPTHWISE_CONV_2D", _IMAGE, (1, 7, 8, 8), [floats(1, 3, 3, 8), floats(8)],
        ("DepthwiseConv2DOptions", {"Padding": SAME, "StrideH": 1, "StrideW": 1, "DepthMultiplier": 2}),
    ),
    "DEPTHWISE_CONV_2D, quantized": _quantized_depthwise(),
    "TRANSPOSE_CONV": case(
        "TRANSPOSE_CONV", (1, 4, 5, 3), (1, 8, 10, 2), [np.array([1, 8, 10, 2], I32), floats(2, 3, 3, 3)],
        ("TransposeConvOptions", {"Padding": SAME, "StrideH": 2, "StrideW": 2}), first=False,
    ),
    "AVERAGE_POOL_2D": case(
        "AVERAGE_POOL_2D", _IMAGE, (1, 4, 8, 4), [],
        ("Pool2DOptions", {"Padding": SAME, **_WINDOW, **_FILTER})
    ),
    "MAX_POOL_2D": case(
        "MAX_POOL_2D", _IMAGE, (1, 3, 7, 4), [], ("Pool2DOptions", {"Padding": VALID, **_WINDOW, **_FILTER})
    ),
    "RESIZE_BILINEAR": case(
        "RESIZE_BILINEAR", _IMAGE, (1, 10, 13, 4), [np.array([10, 13], I32)],
        ("ResizeBilinearOptions", {"HalfPixelCenters": True}),
    ),
    "RESIZE_BILINEAR, corners": case(
        "RESIZE_BILINEAR", _IMAGE, (1, 10, 13, 4), [np.array([10, 13], I32)],
        ("ResizeBilinearOptions", {"AlignCorners": True}),
    ),
    "RESIZE_NEAREST_NEIGHBOR": case(
        "RESIZE_NEAREST_NEIGHBOR", _IMAGE, (1, 10, 13, 4), [np.array([10, 13], I32)],
        ("ResizeNearestNeighborOptions", {"AlignCorners": False}),
    ),
    "RESIZE_NEAREST_NEIGHBOR, centres": case(
        "RESIZE_NEAREST_NEIGHBOR", _IMAGE, (1, 10, 13, 4), [np.array([10, 13], I32)],
        ("ResizeNearestNeighborOptions", {"HalfPixelCenters": True}),
    ),
    "RESIZE_NEAREST_NEIGHBOR, corners": case(
        "RESIZE_NEAREST_NEIGHBOR", _IMAGE, (1, 10, 13, 4), [np.array([10, 13], I32)],
        ("ResizeNearestNeighborOptions", {"AlignCorners": True}),
    ),
    "SPACE_TO_DEPTH": case(
        "SPACE_TO_DEPTH", (1, 4, 6, 3), (1, 2, 3, 12), [], ("SpaceToDepthOptions", {"BlockSize": 2})
    ),
    "DEPTH_TO_SPACE": case(
        "DEPTH_TO_SPACE", (1, 2, 3, 12), (1, 4, 6, 3), [], ("DepthToSpaceOptions", {"BlockSize": 2})
    ),
    "SPACE_TO_BATCH_ND": case(
        "SPACE_TO_BATCH_ND", (1, 5, 6, 3), (6, 3, 3, 3),
        [np.array([2, 3], I32), np.array([[1, 0], [1, 2]], I32)], ("SpaceToBatchNDOptions", {}),
    ),
    "BATCH_TO_SPACE_ND": case(
        "BATCH_TO_SPACE_ND", (6, 3, 3, 2), (1, 5, 6, 2),
        [np.array([2, 3], I32), np.array([[1, 0], [1, 2]], I32)], ("BatchToSpaceNDOptions", {}),
    ),
    "FULLY_CONNECTED": case(
        "FULLY_CONNECTED", (2, 3, 4), (6, 5), [floats(5, 4), floats(5)],
        ("FullyConnectedOptions", {"FusedActivationFunction": RELU}),
    ),
    "FULLY_CONNECTED, dimensions kept": case(
        "FULLY_CONNECTED", (2, 3, 4), (2, 3, 5), [floats(5, 4), floats(5)],
        ("FullyConnectedOptions", {"KeepNumDims": True}),
    ),
    "BATCH_MATMUL": case(
        "BATCH_MATMUL", (2, 3, 4), (2, 3, 5), [floats(2, 5, 4)], ("BatchMatMulOptions", {"AdjY": True})
    ),
    "SOFTMAX": _one("SOFTMAX", ("SoftmaxOptions", {"Beta": 0.5})),
    "LOG_SOFTMAX": _one("LOG_SOFTMAX", ("LogSoftmaxOptions", {})),
    "L2_NORMALIZATION": _one("L2_NORMALIZATION", ("L2NormOptions", {})),
    "MEAN": case("MEAN", _IMAGE, (1, 4), [np.array([1, 2], I32)], ("ReducerOptions", {})),
    "SUM": case("SUM", _IMAGE, (1, 1, 8, 4), [np.array([1], I32)], ("ReducerOptions", {"KeepDims": True})),
    "REDUCE_MAX": case("REDUCE_MAX", _IMAGE, (1, 7, 8), [np.array([-1], I32)], ("ReducerOptions", {})),
    "REDUCE_MIN": case("REDUCE_MIN", _IMAGE, (1, 7, 8), [np.array([-1], I32)], ("ReducerOptions", {})),
    "REDUCE_PROD": case("REDUCE_PROD", _IMAGE, (1, 7, 8), [np.array([-1], I32)], ("ReducerOptions", {})),
    "ARG_MAX": case(
        "ARG_MAX", (2, 5), (2,), [np.array(1, I32)], ("ArgMaxOptions", {"OutputType": 2}), dtype="int32"
    ),
    "ARG_MIN": case(
        "ARG_MIN", (2, 5), (2,), [np.array(1, I32)], ("ArgMinOptions", {"OutputType": 2}), dtype="int32"
    ),
    "RESHAPE": case(
        "RESHAPE", (2, 6), (3, 4), [np.array([3, -1], I32)], ("ReshapeOptions", {"NewShape": [3, -1]})
    ),
    "SQUEEZE": case("SQUEEZE", (2, 1, 6), (2, 6), [], ("SqueezeOptions", {"SqueezeDims": [1]})),
    "EXPAND_DIMS": case("EXPAND_DIMS", (2, 6), (2, 1, 6), [np.array(1, I32)], ("ExpandDimsOptions", {})),
    "TRANSPOSE": case(
        "TRANSPOSE", (2, 3, 4), (4, 2, 3), [np.array([2, 0, 1], I32)], ("TransposeOptions", {})
    ),
    "CONCATENATION": case(
        "CONCATENATION", (2, 3), (2, 5), [floats(2, 2)], ("ConcatenationOptions", {"Axis": -1})
    ),
    "PACK": case("PACK", (2, 3), (2, 2, 3), [floats(2, 3)], ("PackOptions", {"ValuesCount": 2, "Axis": 1})),
    "UNPACK": case("UNPACK", (2, 3), (3,), [], ("UnpackOptions", {"Num": 2, "Axis": 0}), more=((3,),)),
    "SPLIT": case(
        "SPLIT", (4, 6), (4, 3), [np.array(1, I32)], ("SplitOptions", {"NumSplits": 2}), first=False,
        more=((4, 3),),
    ),
    "SPLIT_V": case(
        "SPLIT_V", (4, 6), (4, 2), [np.array([2, -1], I32), np.array(1, I32)],
        ("SplitVOptions", {"NumSplits": 2}),
        more=((4, 4),),
    ),
    "SLICE": case(
        "SLICE", (4, 6), (2, 5), [np.array([1, 1], I32), np.array([2, -1], I32)], ("SliceOptions", {})
    ),
    "STRIDED_SLICE": case(
        "STRIDED_SLICE", (4, 6, 3), (3, 4),
        [np.array([0, 4, -1], I32), np.array([3, 0, 0], I32), np.array([1, -1, 1], I32)],
        ("StridedSliceOptions", {"BeginMask": 1, "ShrinkAxisMask": 4}),
    ),
    "PAD": case("PAD", (2, 3), (3, 6), [np.array([[1, 0], [1, 2]], I32)], ("PadOptions", {})),
    "PADV2": case(
        "PADV2", (2, 3), (3, 6), [np.array([[1, 0], [1, 2]], I32), np.array([3.0], np.float32)],
        ("PadV2Options", {})
    ),
    "MIRROR_PAD": case(
        "MIRROR_PAD", (3, 3), (4, 6), [np.array([[1, 0], [1, 2]], I32)], ("MirrorPadOptions", {"Mode": 0})
    ),
    "GATHER": case("GATHER", (4, 5), (4, 3), [np.array([4, 0, 2], I32)], ("GatherOptions", {"Axis": 1})),
    "TILE": case("TILE", (2, 3), (4, 9), [np.array([2, 3], I32)], ("TileOptions", {})),
    "CUMSUM": case(
        "CUMSUM", (2, 5), (2, 5), [np.array(1, I32)], ("CumsumOptions", {"Exclusive": True, "Reverse": True})
    ),
    **{
        name: case(
            name, (2, 5), (2, 5), [floats(5)], 
            (f"{name.capitalize()}Options", {"FusedActivationFunction": RELU}),
        )
        for name in ("ADD", "SUB", "MUL", "DIV")
    },
    "MAXIMUM": case("MAXIMUM", (2, 5), (2, 5), [floats(5)], ("MaximumMinimumOptions", {})),
    "MINIMUM": case("MINIMUM", (2, 5), (2, 5), [floats(5)], ("MaximumMinimumOptions", {})),
    "SQUARED_DIFFERENCE": case(
        "SQUARED_DIFFERENCE", (2, 5), (2, 5), [floats(5)], ("SquaredDifferenceOptions", {})
    ),
    "PRELU": case("PRELU", _IMAGE, _IMAGE, [floats(1, 1, 4)]),
    **{
        name: case(name, (2, 5), (2, 5), [floats(5)], (options, {}), dtype="bool")
        for name, options in {
            "LESS": "LessOptions", "LESS_EQUAL": "LessEqualOptions", "GREATER": "GreaterOptions",
            "GREATER_EQUAL": "GreaterEqualOptions", "EQUAL": "EqualOptions", "NOT_EQUAL": "NotEqualOptions",
        }.items()
    },
    **{name: _one(name) for name in (
        "LOGISTIC", "TANH", "RELU", "RELU6", "RELU_N1_TO_1", "CEIL", "SIN", "ROUND",
    )},
    "ABS": _one("ABS", ("AbsOptions", {})),
    "COS": _one("COS", ("CosOptions", {})),
    "EXP": _one("EXP", ("ExpOptions", {})),
    "NEG": _one("NEG", ("NegOptions", {})),
    "SQUARE": _one("SQUARE", ("SquareOptions", {})),
    "ELU": _one("ELU"),
    "FLOOR": _one("FLOOR"),
    "HARD_SWISH": _one("HARD_SWISH", ("HardSwishOptions", {})),
    "LEAKY_RELU": _one("LEAKY_RELU", ("LeakyReluOptions", {"Alpha": 0.2})),
    "GELU": _one("GELU", ("GeluOptions", {"Approximate": True})),
}  # fmt: skip
"""By the name of the operator, and what is special about the case."""


def feed(name: str) -> dict[str, np.ndarray]:
    """The same input every time."""
    import tflite

    graph = tflite.Model.GetRootAs(CASES[name], 0).Subgraphs(0)
    generator = np.random.default_rng(3)
    found = {}
    for index in graph.InputsAsNumpy():
        tensor = graph.Tensors(index)
        shape, is_int8 = tensor.ShapeAsNumpy(), tensor.Type() == tflite.TensorType.INT8
        array = generator.integers(-128, 128, shape) if is_int8 else generator.normal(size=shape) * 3
        found[tensor.Name().decode()] = array.astype(np.int8 if is_int8 else np.float32)
    return found


def main() -> None:
    """Ask the interpreter, without XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    expected = {}
    for name, content in CASES.items():
        interpreter = Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
        (given,) = feed(name).values()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given)
        interpreter.invoke()
        for position, output in enumerate(interpreter.get_output_details()):
            expected[f"{name}: {position}"] = interpreter.get_tensor(output["index"])
    np.savez_compressed(EXPECTED, **expected)


if __name__ == "__main__":
    main()

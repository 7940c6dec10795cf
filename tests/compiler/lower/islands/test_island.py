"""Float islands: what Relax compiles equals ONNX Runtime, tile by tile, and what it can't is named."""

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgec.compiler.frontend.load import load
from edgec.compiler.lower.islands.island import lower_island
from edgec.compiler.lower.islands.trial import faults
from edgec.compiler.lower.network.plan import plan
from edgec.compiler.model import serialize
from edgec.compiler.native import toolchain
from edgec.compiler.native.objects import compile_objects
from edgec.compiler.program import Program
from edgec.errors import UnsupportedError
from edgec.kernels.codegen import native
from edgec.kernels.codegen.native import compile_object, elf
from edgec.kernels.operations import Island, Operator, Tensor
from edgec.targets import loader
from edgec.targets.descriptor import Target
from tests.kernels.operand_order import unordered

MODELS = Path(__file__).parents[4] / "../shared/models"
HOST = loader.load("host-fp32")
Arrays = dict[str, NDArray[Any]]


def as_program(model: onnx.ModelProto, target: Target = HOST) -> Program:
    """Lower a whole model as one island."""

    def tensor(value: onnx.ValueInfoProto) -> Tensor:
        kind = value.type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        return Tensor(value.name, tuple(d.dim_value for d in kind.shape.dim), np.dtype(dtype).name)

    constants = {constant.name for constant in model.graph.initializer}
    inputs = tuple(tensor(v) for v in model.graph.input if v.name not in constants)
    outputs = tuple(tensor(v) for v in model.graph.output)
    tensors = {t.name: t for t in (*inputs, *outputs)}
    names = tuple(t.name for t in inputs), tuple(t.name for t in outputs)
    operator = Operator("net", Island(model.SerializeToString()), *names)
    code = lower_island(operator, target)
    return Program(
        target, code.calls, code.functions, tensors | code.tensors, code.constants, inputs, outputs
    )


def run(program: Program, inputs: Mapping[str, NDArray[Any]], folder: Path) -> Arrays:
    """Run a program of this machine in its arena, every call's tiles in two parts, the last part first."""
    objects = compile_objects(program)
    for symbol, code in objects.items():
        (folder / f"{symbol}.o").write_bytes(code)
    names = [f"{symbol}.o" for symbol in objects]
    toolchain.zig(
        folder, "cc", "-target", program.target.c_target, "-shared", *names, "-lm", "-o", "island.so"
    )
    library = ctypes.CDLL(str(folder / "island.so"))
    planned = plan(program)
    arena = np.zeros(planned.arena_bytes + 64, np.uint8)
    aligned = arena.ctypes.data + -arena.ctypes.data % 64
    buffers: Arrays = {t.name: np.full(t.shape, 7, t.dtype) for t in program.outputs}
    buffers |= {
        name: np.ascontiguousarray(array) for name, array in (*inputs.items(), *program.constants.items())
    }
    for call in program.calls:
        pointers = [
            ctypes.c_void_p(buffers[n].ctypes.data if n in buffers else aligned + planned.offsets[n])
            for n in call.arguments
        ]
        function, half = getattr(library, call.symbol), call.tiles // 2
        for begin, end in ((half, call.tiles), (0, half)):
            assert function(*pointers, None, ctypes.c_int32(begin), ctypes.c_int32(end)) == 0
    return {t.name: buffers[t.name] for t in program.outputs}


def expected(model: onnx.ModelProto, inputs: Arrays) -> Arrays:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@dataclass(frozen=True)
class Case:
    """Nodes over inputs and constants; the last outputs are the model's."""

    nodes: list[onnx.NodeProto]
    inputs: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...] = ("y",)
    constants: Mapping[str, Any] = ()  # type: ignore[assignment]

    def model(self) -> onnx.ModelProto:
        constants = [numpy_helper.from_array(np.asarray(v), k) for k, v in dict(self.constants).items()]
        inputs = [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in self.inputs.items()]
        outputs = [onnx.ValueInfoProto(name=name) for name in self.outputs]
        graph = helper.make_graph(self.nodes, "case", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
        return model


def node(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), f"{kind}_{outputs}", **attributes)


def weights(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def integers(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def conv(image: tuple[int, ...], kernel: tuple[int, ...], **attributes: Any) -> Case:
    """Convolution, bias, ReLU."""
    nodes = [node("Conv", "x w b", "c", **attributes), node("Relu", "c")]
    return Case(nodes, {"x": image}, constants={"w": weights(*kernel), "b": weights(kernel[0])})


IMAGE = {"x": (1, 3, 10, 7)}
CASES: dict[str, Case | Callable[[], Case]] = {
    "conv": conv((1, 5, 9, 11), (12, 5, 3, 3), pads=[1, 1, 1, 1]),
    "conv_one_pixel": conv((1, 16, 1, 1), (7, 16, 1, 1)),
    "conv_strided": conv((1, 8, 15, 14), (24, 8, 3, 3), strides=[2, 2], pads=[0, 0, 1, 1]),
    "conv_dilated": conv((1, 4, 16, 16), (16, 4, 3, 3), dilations=[2, 3], pads=[2, 3, 2, 3]),
    "conv_grouped": conv((1, 12, 8, 8), (6, 4, 3, 3), group=3),
    "conv_depthwise": conv((1, 24, 14, 14), (24, 1, 5, 5), group=24, pads=[2, 2, 2, 2]),
    "conv_batch": conv((3, 4, 8, 8), (8, 4, 3, 3)),
    "conv_1d": conv((1, 6, 20), (8, 6, 3), pads=[1, 1]),
    "conv_residual": Case(
        [node("Conv", "x w", "c", pads=[1] * 4), node("Add", "c x", "a"), node("Clip", "a low high")],
        {"x": (1, 8, 6, 6)},
        constants={"w": weights(8, 8, 3, 3), "low": np.float32(-1), "high": np.float32(1)},
    ),
    "squeeze_and_excite": Case(
        [
            node("Conv", "x w", "c"),
            node("GlobalAveragePool", "c", "g"),
            node("Conv", "g v", "h"),
            node("HardSigmoid", "h", "s", alpha=0.2, beta=0.5),
            node("Mul", "c s"),
        ],
        {"x": (1, 8, 6, 6)},
        constants={"w": weights(16, 8, 1, 1), "v": weights(16, 16, 1, 1)},
    ),
    "channel_shuffle": Case(
        [
            node("Conv", "x w", "c"),
            node("Reshape", "c shape", "r"),
            node("Transpose", "r", "t", perm=[0, 2, 1, 3, 4]),
            node("Reshape", "t back", "s"),
            node("Split", "s", "y z", axis=1),
        ],
        {"x": (1, 4, 6, 6)},
        ("y", "z"),
        {"w": weights(8, 4, 1, 1), "shape": integers(1, 2, 4, 6, 6), "back": integers(1, 8, 6, 6)},
    ),
    "conv_transpose": Case(
        [node("ConvTranspose", "x w", strides=[2, 2])],
        {"x": (1, 4, 5, 5)},
        constants={"w": weights(4, 6, 2, 2)},
    ),
    "matmul_many_odd_columns": Case(
        [node("MatMul", "x w", "m"), node("Add", "m b")],
        {"x": (1, 9, 20)},
        constants={"w": weights(20, 101), "b": weights(101)},
    ),
    "gemm_transposed": Case(
        [node("Gemm", "x w b", transB=1)], {"x": (4, 30)}, constants={"w": weights(10, 30), "b": weights(10)}
    ),
    "attention": Case(
        [
            node("Transpose", "k", "t", perm=[0, 1, 3, 2]),
            node("MatMul", "q t", "s"),
            node("Softmax", "s", "p", axis=-1),
            node("MatMul", "p v"),
        ],
        {"q": (1, 2, 12, 15), "k": (1, 2, 12, 15), "v": (1, 2, 12, 15)},
    ),
    "layer_normalization": Case(
        [node("LayerNormalization", "x g b", axis=-1)],
        {"x": (2, 7, 48)},
        constants={"g": weights(48), "b": weights(48)},
    ),
    "gelu": Case(
        [
            node("Div", "x root", "d"),
            node("Erf", "d", "e"),
            node("Add", "e one", "a"),
            node("Mul", "x a", "m"),
            node("Mul", "m half"),
        ],
        {"x": (2, 33)},
        constants={"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)},
    ),
    "softmax_channels": Case([node("Softmax", "x", axis=1)], IMAGE),
    "sigmoid_tanh_hardswish": Case(
        [node("Sigmoid", "x", "s"), node("Tanh", "s", "t"), node("HardSwish", "t")], IMAGE
    ),
    "clip_one_side": Case([node("Clip", "x low")], IMAGE, constants={"low": np.float32(0.25)}),
    "max_of_three": Case(
        [node("Max", "x a b")], IMAGE, constants={"a": np.float32(-0.5), "b": weights(3, 1, 1)}
    ),
    "max_pool": Case([node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])], IMAGE),
    "average_pool": Case(
        [node("AveragePool", "x", kernel_shape=[2, 3], pads=[1, 1, 0, 1], count_include_pad=1)], IMAGE
    ),
    "reduce_all": Case([node("ReduceMean", "x", keepdims=0)], IMAGE),
    "reduce_max_and_l2": Case(
        [node("ReduceMax", "x", "y", axes=[2]), node("ReduceL2", "x", "z", axes=[1, 3])], IMAGE, ("y", "z")
    ),
    "resize_nearest": Case(
        [node("Resize", "x roi scales", mode="nearest", coordinate_transformation_mode="asymmetric")],
        IMAGE,
        constants={"roi": floats(), "scales": floats(1, 1, 2, 2)},
    ),
    "resize_linear": Case(
        [node("Resize", "x roi scales", mode="linear", coordinate_transformation_mode="half_pixel")],
        IMAGE,
        constants={"roi": floats(), "scales": floats(1, 1, 2, 2)},
    ),
    "gather_negative": Case([node("Gather", "x i", axis=2)], IMAGE, constants={"i": integers(-1, 0, 5)}),
    "gather_computed": Case(
        [node("ArgMax", "x", "i", axis=1, keepdims=0), node("Gather", "table i")],
        {"x": (4, 6)},
        constants={"table": weights(6, 5)},
    ),
    "argmax": Case([node("ArgMax", "x", axis=1)], IMAGE),
    "where_and_cast": Case(
        [
            node("Greater", "x zero", "g"),
            node("Cast", "g", "f", to=TensorProto.FLOAT),
            node("Where", "g x f"),
        ],
        IMAGE,
        constants={"zero": np.float32(0)},
    ),
    "boolean_output": Case([node("Less", "x zero")], IMAGE, constants={"zero": np.float32(0)}),
    "concat_and_pad": Case(
        [node("Concat", "x z", "c", axis=1), node("Pad", "c p")],
        {"x": (1, 3, 4, 5), "z": (1, 2, 4, 5)},
        constants={"p": integers(0, 1, 0, 2, 0, 0, 3, 0)},
    ),
    "slice_and_squeeze": Case(
        [node("Slice", "x a b c", "s"), node("Squeeze", "s c")],
        IMAGE,
        constants={"a": integers(1), "b": integers(2), "c": integers(1)},
    ),
    "reshape_only": Case([node("Reshape", "x s")], IMAGE, constants={"s": integers(7, 30)}),
    "reshape_between": Case(
        [node("Relu", "x", "r"), node("Reshape", "r s", "t"), node("Softmax", "t")],
        IMAGE,
        constants={"s": integers(30, 7)},
    ),
    "input_is_output": Case([node("Identity", "x"), node("Neg", "x", "z")], IMAGE, ("y", "z")),
    "one_value_twice": Case([node("Relu", "x", "y"), node("Identity", "y", "z")], IMAGE, ("y", "z")),
    "constant_output": Case(
        [node("Neg", "x"), node("Identity", "w", "z")], IMAGE, ("y", "z"), {"w": weights(2, 3)}
    ),
    "scalar": Case([node("ReduceSum", "x", "s", keepdims=0), node("Exp", "s")], {"x": (3,)}),
}


@pytest.mark.parametrize("name", CASES)
def test_operators_equal_onnx_runtime(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    assert isinstance(case, Case)
    model = case.model()
    generator = np.random.default_rng(0)
    inputs = {k: generator.standard_normal(v).astype(np.float32) for k, v in case.inputs.items()}
    results = run(as_program(model), inputs, tmp_path)
    for output, reference in expected(model, inputs).items():
        assert results[output].dtype == reference.dtype
        np.testing.assert_allclose(results[output].reshape(reference.shape), reference, rtol=1e-4, atol=2e-5)


CORNERS = {
    "is_nan": Case([node("IsNaN", "x")], {"x": (2, 16)}),
    "is_negative_infinity": Case([node("IsInf", "x", detect_positive=0)], {"x": (2, 16)}),
    "maximum": Case([node("ReduceMax", "x", axes=[1])], {"x": (2, 16)}),
    "comparison": Case([node("Equal", "x x")], {"x": (2, 16)}),
    "maximum_of_two": Case([node("Max", "x zero")], {"x": (2, 16)}, constants={"zero": np.float32(0)}),
}
LIMITS = {
    **{
        operator: Case([node(operator, "x")], {"x": (2, 16)})
        for operator in ("Celu", "Elu", "HardSigmoid", "Relu", "Selu", "Sign", "ThresholdedRelu")
    },
    "Clip": Case(
        [node("Clip", "x low high")],
        {"x": (2, 16)},
        constants={"low": np.float32(-1), "high": np.float32(2)},
    ),
    **{
        f"{operator} of {second}": Case(
            [node("Neg", "x", "z"), node(operator, second)],
            {"x": (2, 16)},
            constants={"one": np.float32(1), "row": np.arange(16, dtype=np.float32)},
        )
        for operator in ("Max", "Min")
        for second in ("x one", "one x", "x row", "row x", "row x z")
    },
    "TopK": Case(
        [helper.make_node("TopK", ["x", "k"], ["y", "i"], axis=1)],
        {"x": (2, 16)},
        ("y", "i"),
        constants={"k": np.array([16])},
    ),
}
"""What compares: NaN is passed on, or is put in one place."""


@pytest.mark.parametrize("name", LIMITS)
def test_limits_pass_nan_on(name: str, tmp_path: Path) -> None:
    model = LIMITS[name].model()
    x = np.linspace(-4, 4, 32, dtype=np.float32).reshape(2, 16)
    x[0, [2, 5, 11]] = x[1, -1] = np.nan
    results, wanted = run(as_program(model), {"x": x}, tmp_path), expected(model, {"x": x})
    assert results.keys() == wanted.keys() != set()
    for output, reference in wanted.items():
        np.testing.assert_allclose(results[output].reshape(reference.shape), reference, rtol=1e-5)


REDUCING = {
    operator: Case([node(operator, "x", axes=[1])], {"x": (4, 16)}) for operator in ("ReduceMax", "ReduceMin")
} | {
    f"{operator} last {last}": Case([node(operator, "x", axis=1, select_last_index=last)], {"x": (4, 16)})
    for operator in ("ArgMax", "ArgMin")
    for last in (0, 1)
}
REDUCING |= {
    "Hardmax": Case([node("Hardmax", "x", axis=1)], {"x": (4, 16)}),
    "ReduceMax of rows": Case([node("ReduceMax", "x", axes=[0], keepdims=0)], {"x": (4, 16)}),
    "GlobalMaxPool": Case(
        [node("Reshape", "x s", "r"), node("GlobalMaxPool", "r")],
        {"x": (4, 16)},
        constants={"s": np.array([1, 4, 4, 4])},
    ),
}


@pytest.mark.parametrize("name", REDUCING)
def test_nan_is_found_wherever_it_is(name: str, tmp_path: Path) -> None:
    """ONNX Runtime's depends on where NaN is: ONNX's reference is asked."""
    model = REDUCING[name].model()
    x = np.linspace(-4, 4, 64, dtype=np.float32).reshape(4, 16)
    x[0, [5, 9]] = x[1, 0] = x[2, -1] = np.nan
    (found,) = run(as_program(model), {"x": x}, tmp_path).values()
    (wanted,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)


@pytest.mark.parametrize("name", CORNERS)
def test_what_is_not_finite_is_compiled_as_it_is_converted(name: str, tmp_path: Path) -> None:
    model = CORNERS[name].model()
    x = np.array([[np.inf, -np.inf, 0, 1, -2, 3, -4, 5] * 2, [-np.inf] * 16], np.float32)
    x[0, 3] = np.nan if name in ("is_nan", "comparison") else 7
    results, wanted = run(as_program(model), {"x": x}, tmp_path), expected(model, {"x": x})
    assert results.keys() == wanted.keys() != set()
    for output, reference in wanted.items():
        np.testing.assert_array_equal(results[output].astype(reference.dtype), reference)


@pytest.mark.parametrize("device", ["x86-64", "x86-64-v3", "cortex-a53", "rpi5"])
@pytest.mark.parametrize(
    "name", ["conv", "conv_depthwise", "attention", "layer_normalization", "resize_linear"]
)
def test_islands_compile_for_every_device_and_need_mathematics_at_most(name: str, device: str) -> None:
    case = CASES[name]
    assert isinstance(case, Case)
    program = as_program(case.model(), loader.load(f"{device}-fp32"))
    for symbol, function in program.functions.items():
        code = compile_object(function.make(), symbol, program.target)
        assert elf.global_symbols(code) <= {symbol, "expf", "floorf", "memcpy", "memset"}


@pytest.mark.parametrize("name", [*LIMITS, *CORNERS, *REDUCING, *CASES])
def test_no_compiler_of_tvm_decides_in_which_order_operands_are_computed(name: str) -> None:
    case = (LIMITS | CORNERS | REDUCING | CASES)[name]
    program = as_program((case if isinstance(case, Case) else case()).model())
    assert program.functions
    for symbol, function in program.functions.items():
        (lowered,) = native.lowered(function.make(), symbol, HOST).functions.values()
        assert unordered(lowered)[0] == []


def test_lowering_is_deterministic_and_calls_are_not_checked() -> None:
    case = CASES["squeeze_and_excite"]
    assert isinstance(case, Case)
    first, second = as_program(case.model()), as_program(case.model())
    assert first.calls == second.calls
    assert {s: f.key for s, f in first.functions.items()} == {s: f.key for s, f in second.functions.items()}
    assert all(
        call.kernel == "island" and not call.checked and not call.scratch_bytes for call in first.calls
    )
    assert sum(call.macs for call in first.calls) == 6 * 6 * 8 * 16 + 16 * 16


def unsupported() -> onnx.ModelProto:
    case = Case(
        [
            node("Relu", "x", "r"),
            node("LSTM", "r w h", "l", hidden_size=5, activations=["ScaledTanh"] * 3),
            node("Neg", "l", "n"),
            node("CumSum", "n axis", "s"),
            node("GRU", "r v u", "g", hidden_size=5, activations=["Affine"] * 2),
            node("Add", "s g"),
        ],
        {"x": (4, 1, 3)},
        constants={
            "axis": np.int64(0),
            "w": weights(1, 20, 3),
            "h": weights(1, 20, 5),
            "v": weights(1, 15, 3),
            "u": weights(1, 15, 5),
        },
    )
    return case.model()


def test_every_node_that_cannot_be_compiled_is_named_in_one_error(capfd: pytest.CaptureFixture[str]) -> None:
    refused = faults(unsupported())
    assert [(name, kind) for name, kind, _ in refused] == [
        ("LSTM_l", "LSTM"),
        ("GRU_g", "GRU"),
    ]
    assert all(reason and "\n" not in reason for _, _, reason in refused)
    with pytest.raises(UnsupportedError, match=r"'LSTM_l' \(LSTM\).*'GRU_g' \(GRU\)") as error:
        as_program(unsupported())
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


REAL = {
    "mlperf_kws_dscnn": {},
    "mlperf_ic_resnet8": {},
    "fmnist_dscnn": {},
    "efficientnet_lite0": {},
    "fastestdet_coco": {},
    "ppocrv4_rec": {"x": (1, 3, 48, 320)},
}


@pytest.mark.slow
@pytest.mark.skipif(not MODELS.is_dir(), reason="needs the shared models")
@pytest.mark.parametrize("name", REAL)
def test_whole_models_equal_onnx_runtime(name: str, tmp_path: Path) -> None:
    model = onnx.load_from_string(serialize(load(MODELS / f"{name}.onnx", REAL[name])))
    program = as_program(model)
    generator = np.random.default_rng(0)
    inputs = {t.name: generator.random(t.shape, np.float32) for t in program.inputs}
    results = run(program, inputs, tmp_path)
    for output, reference in expected(model, inputs).items():
        scale = float(np.abs(reference).max())
        np.testing.assert_allclose(results[output].reshape(reference.shape), reference, atol=2e-5 * scale)
    planned = plan(program)
    assert planned.arena_bytes == planned.lower_bound_bytes

"""A small real bundle: quantize, a table (ReLU), dequantize, and a float island that squares.

The kernels are written by hand in C, so that what is tested here is the way of a bundle through devices,
verification and measurement, not the compiler.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnx.parser
import pytest

from edgec.bench.bundle import Bundle
from edgec.compiler.accuracy import measure
from edgec.compiler.emit import bundle as emit
from edgec.compiler.emit.entries import Source
from edgec.compiler.emit.golden import Golden, checksum
from edgec.compiler.native import toolchain
from edgec.compiler.program import Call, Function, Plan, Program
from edgec.compiler.provenance import Provenance
from edgec.kernels import reference
from edgec.kernels.operations import Dequantize, Island, Lookup, Network, Operator, Quantize, Tensor
from edgec.kernels.operations import Quantization as Scale
from edgec.options import BuildOptions
from edgec.targets import detect, loader

SHAPE, SIZE = (1, 8), 8
SCALE, ZERO_POINT = 0.125, 3
HOST_TARGET = f"{detect.host_arch()}-int8"

FLOAT_MODEL = '<ir_version: 8, opset_import: ["" : 13]> toy (float[1,8] x) => (float[1,8] y) {{ {} }}'
KERNELS = {
    "quantize_1": (
        "const float *x, int8_t *y",
        "float q = __builtin_nearbyintf(x[i] / 0.125f) + 3;"
        "y[i] = q < -128 ? -128 : q > 127 ? 127 : (int8_t)q;",
    ),
    "lookup_2": ("const int8_t *x, const int8_t *table, int8_t *y", "y[i] = table[x[i] + 128];"),
    "dequantize_3": ("const int8_t *x, float *y", "y[i] = (float)(x[i] - 3) * 0.125f;"),
    "square_4": ("const float *x, float *y", "y[i] = x[i] * x[i] * 1.000001f;"),
}
"""Pointers, and what is done for element i; the last is a little off, as a float island may be."""


def model(body: str) -> bytes:
    parsed = onnx.parser.parse_model(FLOAT_MODEL.format(body))
    onnx.checker.check_model(parsed)
    return parsed.SerializeToString()


def make_network() -> Network:
    table = np.maximum(np.arange(-128, 128), ZERO_POINT).astype(np.int8)
    scale = Scale(SCALE, ZERO_POINT)
    tensors = (
        Tensor("x", SHAPE, "float32"),
        Tensor("q", SHAPE, "int8", scale),
        Tensor("r", SHAPE, "int8", scale),
        Tensor("d", SHAPE, "float32"),
        Tensor("y", SHAPE, "float32"),
    )
    island = Island(model("y = Mul(x, x)"))
    operators = (
        Operator("quantize", Quantize(SIZE, SCALE, ZERO_POINT), ("x",), ("q",)),
        Operator("relu", Lookup(SIZE, table), ("q",), ("r",)),
        Operator("dequantize", Dequantize(SIZE, SCALE, ZERO_POINT), ("r",), ("d",)),
        Operator("square", island, ("d",), ("y",)),
    )
    return Network(operators, {tensor.name: tensor for tensor in tensors}, ("x",), ("y",), {})


def make_program(network: Network, target: str) -> Program:
    table = network.operators[1].operation.table
    calls = (
        Call("quantize", "quantize_c", "quantize_1", ("x", "q"), ("q",), SIZE, 0, 0),
        Call("relu", "lookup_c", "lookup_2", ("q", "table", "r"), ("r",), SIZE, 0, 0),
        Call("dequantize", "dequantize_c", "dequantize_3", ("r", "d"), ("d",), SIZE, 0, 0),
        Call("square", "island", "square_4", ("d", "y"), ("y",), SIZE, 0, 8, checked=False),
    )
    return Program(
        target=loader.load(target),
        calls=calls,
        functions={call.symbol: Function(call.symbol, call.symbol, lambda: None) for call in calls},
        tensors=network.tensors,
        constants={"table": table},
        inputs=(network.tensors["x"],),
        outputs=(network.tensors["y"],),
    )


def compile_kernel(folder: Path, target: str, symbol: str, body: str) -> bytes:
    """The object of one kernel, whose body computes element i."""
    text = (
        "#include <stdint.h>\n"
        f"int32_t {symbol}({KERNELS[symbol][0]}, void *scratch, int32_t begin, int32_t end)\n"
        f"{{ (void)scratch; for (int i = begin; i < end; i++) {{ {body} }} return 0; }}\n"
    )
    (folder / f"{symbol}.c").write_text(text)
    toolchain.compile_c(loader.load(target), [f"{symbol}.c"], f"{symbol}.o", folder)
    return (folder / f"{symbol}.o").read_bytes()


Toy = SimpleNamespace
"""`network`, and `build(target, folder, **bodies)`, which returns the bundle; a body replaces a kernel's."""


def build(target: str, folder: Path, **bodies: str) -> Bundle:
    network = make_network()
    program = make_program(network, target)
    usual = {symbol: body for symbol, (_, body) in KERNELS.items()}
    objects = {s: compile_kernel(folder, target, s, body) for s, body in (usual | bodies).items()}
    x = np.linspace(-2, 2, SIZE, dtype=np.float32).reshape(SHAPE)
    steps = reference.evaluate(network, {"x": x})
    golden = Golden(
        inputs={"x": x},
        outputs={"y": steps["y"]},
        checksums=(*(checksum([steps[name]]) for name in ("q", "r", "d")), None),
    )
    plan = Plan({"q": 0, "r": 64, "d": 128}, (0, 0, 0, 0), 192, 0, 64)
    float_model = model("z = Relu(x) y = Mul(z, z)")
    calibration = Provenance("synthetic", samples=4, seed=0)
    accuracy = measure(float_model, "synthetic", [{"x": x}], [{"y": steps["y"]}])
    source = Source("toy.onnx", "0" * 64, 2, 4, calibration, float_model, float_model, accuracy)
    output = folder / "toy.edgec"
    written = emit.write(
        "toy",
        (program,),
        plan,
        (objects,),
        golden,
        source,
        BuildOptions(target="x86-64-int8", int8_io=False),
        output,
    )
    return Bundle.load(written.path)


@pytest.fixture(scope="session")
def toy() -> Toy:
    return Toy(network=make_network(), build=build, host_target=HOST_TARGET)


@pytest.fixture(scope="session")
def local_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """For this machine's architecture."""
    return build(HOST_TARGET, tmp_path_factory.mktemp("toy-local"))


@pytest.fixture(scope="session")
def a76_bundle(tmp_path_factory: pytest.TempPathFactory, arm_emulator: None) -> Bundle:
    """For a Raspberry Pi 5, which QEMU can stand in for."""
    return build("rpi5-int8", tmp_path_factory.mktemp("toy-a76"))


@pytest.fixture
def toy_network(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Network:
    """Makes `verify` take the toy's network: its model.onnx is float, not the QDQ form of it."""
    from edgec.bench import verify

    monkeypatch.setattr(verify, "_network", lambda bundle: toy.network)
    return toy.network

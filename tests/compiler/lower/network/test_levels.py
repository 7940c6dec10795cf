"""Instruction-set levels: one bundle, kernels for several, the best that the CPU has chosen at init."""

import ctypes
import dataclasses
import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from edgec.bench.bundle import Bundle
from edgec.bench.devices.emulator import QemuUser
from edgec.bench.measure import levels as bench_levels
from edgec.bench.measure.benchmark import benchmark
from edgec.bench.verify import verify
from edgec.compiler.emit import linking
from edgec.compiler.emit.symbols import prefix_symbols
from edgec.compiler.lower.network import levels as lower
from edgec.compiler.pipeline import network_of
from edgec.compiler.program import Call, Function, Program
from edgec.compiler.records.records import NONE
from edgec.errors import BundleError, DeviceError
from edgec.kernels.codegen import elf
from edgec.kernels.codegen.native import compile_object
from edgec.kernels.operations import Island
from edgec.targets import loader
from edgec.targets.detect import host_arch
from tests.compiler.building import build, checksums
from tests.compiler.native.test_objects import scaled_copy

SHAPE = (1, 3, 12, 12)
MODEL = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[1,3,12,12] image) => (float[1,24] scores)
{
    c = Conv <pads = [1, 1, 1, 1]> (image, w)
    r = Relu (c)
    d = Conv <pads = [1, 1, 1, 1], group = 24> (r, v)
    s = Add (d, r)
    p = GlobalAveragePool (s)
    scores = Flatten (p)
}
"""
X86 = host_arch() == "x86-64"


def model(folder: Path) -> Path:
    rng = np.random.default_rng(5)
    parsed = onnx.parser.parse_model(MODEL)
    shapes = {"w": (24, 3, 3, 3), "v": (24, 1, 3, 3)}
    arrays = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    parsed.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in arrays.items())
    path = folder / "net.onnx"
    onnx.save(parsed, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("levels")


@pytest.fixture(scope="module")
def x86(folder: Path) -> Bundle:
    return build(model(folder), folder, "x86-64-int8")


@pytest.fixture(scope="module")
def arm(folder: Path) -> Bundle:
    return build(model(folder), folder, "arm64-int8")


SAMPLES = {"image": np.random.default_rng(9).normal(size=(3, *SHAPE)).astype(np.float32)}

# ---- Running: each level computes the same, and init takes the best


@pytest.mark.skipif(not X86, reason="this machine is no x86-64")
def test_every_level_of_this_machine_is_exact(x86: Bundle) -> None:
    runs, lacking = bench_levels.executable(x86, None)
    assert [*(one.level for one, _ in runs), *lacking] == sorted(x86.levels, key=list(lacking).__contains__)
    assert runs[-1][0].level == "x86-64"  # which every one has
    for one, device in runs:
        found = verify(one, device, SAMPLES)
        assert found.passed
        assert found.level == one.level
        assert found.exact_layers == len(x86.steps)
    best = benchmark(x86, x86.device(), runs=1)
    assert best.level == runs[0][0].level
    assert [layer.kernel for layer in best.layers] == [step.kernel for step in runs[0][0].steps]
    assert list(best.memory.levels) == ["x86-64-v4", "x86-64-avxvnni", "x86-64-v3", "x86-64"]


@pytest.mark.usefixtures("arm_emulator")
@pytest.mark.parametrize(
    ("cpu", "level", "kernels"),
    [
        ("cortex-a53", "arm64", "neon"),
        ("cortex-a72", "arm64", "neon"),
        ("cortex-a76", "arm64-dotprod", "dotprod"),
        ("max", "arm64-i8mm", "dotprod"),
    ],
)
def test_each_emulated_cpu_chooses_its_own_level(arm: Bundle, cpu: str, level: str, kernels: str) -> None:
    base = arm.device("emulator")
    assert isinstance(base, QemuUser)
    device = dataclasses.replace(base, model=cpu)
    found = verify(arm, device, SAMPLES)
    assert found.passed
    assert found.level == level
    assert f"depthwise_{kernels}" in {layer.kernel for layer in benchmark(arm, device).layers}


@pytest.mark.usefixtures("arm_emulator")
def test_an_emulator_has_a_cpu_for_each_level(arm: Bundle) -> None:
    runs, lacking = bench_levels.executable(arm, "emulator")
    assert lacking == {}
    assert [(one.level, device.cpu) for one, device in runs] == [
        ("arm64-i8mm", "max (emulated)"),
        ("arm64-dotprod", "cortex-a76 (emulated)"),
        ("arm64", "cortex-a53 (emulated)"),
    ]
    _, fast, slow = (benchmark(one, device) for one, device in runs)
    assert fast.instructions is not None
    assert slow.instructions is not None
    assert fast.instructions < slow.instructions


def test_bundles_of_all_architectures_agree(x86: Bundle, arm: Bundle) -> None:
    assert checksums(x86) == checksums(arm)


# ---- Forcing a level


@pytest.mark.usefixtures("arm_emulator")
def test_a_level_that_the_cpu_lacks_is_one_clear_error(arm: Bundle) -> None:
    a53 = arm.device("emulator")
    message = r"^'emulator' lacks 'dotprod', which level 'arm64-dotprod' needs$"
    with pytest.raises(DeviceError, match=message):
        verify(arm.at("arm64-dotprod"), a53)
    with pytest.raises(DeviceError, match=message):
        benchmark(arm.at("arm64-dotprod"), a53)
    told = a53.execute(arm.bench, ["--level", "arm64-dotprod", "--selftest"])
    assert (told.returncode, told.stdout) == (3, "")
    assert told.stderr == "net-bench: this CPU lacks 'dotprod', which level 'arm64-dotprod' needs\n"


def test_a_level_that_the_bundle_lacks_is_one_clear_error(x86: Bundle) -> None:
    with pytest.raises(BundleError, match="has no level 'avx9': it has x86-64-v4, x86-64-avxvnni"):
        x86.at("avx9")


@pytest.mark.skipif(not X86, reason="this machine is no x86-64")
def test_the_library_takes_a_level_and_tells_which(x86: Bundle) -> None:
    library = ctypes.CDLL(str(x86.file("lib/libnet.so")))
    library.net_level_name.restype = library.net_level_missing_feature.restype = ctypes.c_char_p
    library.net_missing_feature.restype = ctypes.c_char_p
    size = x86.memory.arena_bytes
    memory = ctypes.create_string_buffer(size + 64)
    arena = ctypes.c_void_p(ctypes.addressof(memory) + -ctypes.addressof(memory) % 64)
    context = ctypes.create_string_buffer(4096)
    names = [library.net_level_name(i).decode() for i in range(4)]
    assert names == list(x86.levels)
    assert library.net_level_name(-1) is None
    assert library.net_level_name(4) is None
    assert library.net_level(context) == -1
    assert library.net_missing_feature() is None
    has = [library.net_level_missing_feature(i) is None for i in range(4)]
    assert library.net_init(context, arena, ctypes.c_size_t(size), 1) == 0
    assert library.net_level(context) == has.index(True)
    for level, there in enumerate(has):
        assert library.net_init_level(context, arena, ctypes.c_size_t(size), 1, level) == (0 if there else 2)
        assert library.net_level(context) == (level if there else -1)
    assert library.net_init_level(context, arena, ctypes.c_size_t(size), 1, 4) == 1


def test_the_bench_program_lists_levels(x86: Bundle) -> None:
    if not X86:
        pytest.skip("this machine is no x86-64")
    done = subprocess.run([str(x86.bench), "--levels"], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)["levels"]
    assert [level["name"] for level in said] == list(x86.levels)
    assert said[-1]["missing"] is None


# ---- What a bundle holds


def test_the_manifest_tells_kernels_and_sizes_of_every_level(x86: Bundle) -> None:
    kernels = {
        name: next(kernel.kernel for kernel in level.kernels if kernel.kernel.startswith("depthwise"))
        for name, level in x86.levels.items()
    }
    assert kernels == {
        "x86-64-v4": "depthwise_avx512vnni",
        "x86-64-avxvnni": "depthwise_avxvnni",
        "x86-64-v3": "depthwise_avx2",
        "x86-64": "depthwise_sse2",
    }
    code = [level.code_bytes for level in x86.levels.values()]
    weights = [level.weights_bytes for level in x86.levels.values()]
    assert max(code) < x86.memory.code_bytes
    assert max(weights) < x86.memory.weights_bytes < sum(weights)  # tables of functions are there once
    assert [variant.device for variant in x86.manifest.target.variants] == list(x86.levels)[:-1]
    assert x86.manifest.required_features == ()


def test_a_named_device_has_one_level(folder: Path) -> None:
    for device in ("rpi5", "cortex-a53", "x86-64-v4", "x86-64-avxvnni", "host"):
        assert len(loader.load(f"{device}-int8").levels) == 1
    rpi4 = build(model(folder), folder, "rpi4-int8")
    assert list(rpi4.levels) == ["rpi4"]
    assert rpi4.memory.weights_bytes == rpi4.levels["rpi4"].weights_bytes


# ---- Lowering and linking


def call(name: str, scratch: int, inplace: tuple[tuple[str, str], ...] = ()) -> Call:
    return Call(name, "kernel", f"f{scratch}", ("x", "y"), ("y",), 1, scratch, 0, inplace)


def test_the_common_program_needs_what_any_level_does() -> None:
    both, one = (("x", "y"), ("z", "y")), (("x", "y"),)
    programs = [
        Program(loader.load("rpi5-int8"), (call("a", 100, both), call("b", 0)), {}, {}, {}, (), ()),
        Program(loader.load("rpi4-int8"), (call("a", 30, one), call("b", 70, one)), {}, {}, {}, (), ()),
    ]
    first, second = lower.common(programs).calls
    assert (first.scratch_bytes, first.inplace) == (100, one)
    assert (second.scratch_bytes, second.inplace) == (70, ())


def test_levels_differ_in_kernels_alone(x86: Bundle) -> None:
    programs = lower.levels(network_of(x86.file("model.onnx")), loader.load("x86-64-int8"), NONE)
    assert [program.target.device for program in programs] == list(x86.levels)
    for calls in zip(*(program.calls for program in programs), strict=True):
        assert len({(c.name, c.outputs, c.checked, c.macs) for c in calls}) == 1


def test_an_island_has_the_same_steps_on_every_level(folder: Path) -> None:
    text = MODEL.replace("s = Add (d, r)", "n = Sin (d) s = Add (n, r)").replace(
        "p = Global", "t = Cos (s) p = Global"
    )
    path = folder / "float.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    parsed, initializers = onnx.load(path), onnx.load(model(folder)).graph.initializer
    parsed.graph.initializer.extend(initializers)
    onnx.save(parsed, path)
    network = network_of(path)  # float all through: a model for an fp32 target
    assert any(isinstance(operator.operation, Island) for operator in network.operators)
    target = loader.load("x86-64-fp32")
    assert len(target.levels) == 4
    programs = lower.levels(network, target, NONE)
    islands = [[(c.symbol, c.arguments) for c in p.calls if c.kernel == "island"] for p in programs]
    assert islands[0]
    assert all(one == islands[0] for one in islands)
    assert len({tuple(call.outputs for call in program.calls) for program in programs}) == 1


def test_equal_code_of_two_levels_is_there_once_and_different_code_has_a_name_of_its_own() -> None:
    v3, v4 = loader.load("x86-64-v3-int8"), loader.load("x86-64-v4-int8")
    same, slow, fast = (
        compile_object(scaled_copy(factor), symbol, target)
        for factor, symbol, target in ((2, "f", v3), (3, "g", v3), (3, "g", v4))
    )
    calls = tuple(Call(name, "k", name, ("x", "y"), ("y",), 1, 0, 0) for name in ("f", "g"))
    functions = {name: Function(name, name, lambda: None) for name in ("f", "g")}
    programs = [Program(target, calls, functions, {}, {}, (), ()) for target in (v4, v3)]
    kernels = linking.link("net", programs, [{"f": same, "g": fast}, {"f": same, "g": slow}])
    assert kernels.symbols == (
        {"f": "net_f", "g": "net_x86_64_v4_g"},
        {"f": "net_f", "g": "net_g"},
    )
    assert kernels.objects["net_g"] == prefix_symbols(slow, "net_")
    assert all(elf.global_symbols(code) == {symbol} for symbol, code in kernels.objects.items())
    assert set(kernels.of_level(0)) == {"net_f", "net_x86_64_v4_g"}

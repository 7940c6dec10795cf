"""Real models on microcontrollers: exact on every core, and figures that stay what they are.

Instructions, arena, code and stack are exact and the same on every machine. A change that makes one of them
more than 1 % worse or better fails here, so that the figure is looked at and written down anew.
"""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from edgec.bench.bundle import Bundle
from edgec.bench.measure import cycles
from edgec.bench.measure.benchmark import benchmark
from tests.compiler.building import build, verified
from tests.compiler.onnx_models import SHARED

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("board_emulator")]

EXAMPLES = Path(__file__).parents[3] / "examples"


class Figures(NamedTuple):
    """Of one model on one core, with int8 inputs and outputs, quantized on synthetic inputs."""

    instructions: float
    arena_bytes: int
    code_bytes: int
    weights_bytes: int
    stack_bytes: int
    """Measured."""


FIGURES = {
    ("fmnist_dscnn", "cortex-m0plus"): Figures(3.339, 4920, 8568, 17896, 460),
    ("fmnist_dscnn", "riscv32"): Figures(1.646, 4920, 6054, 17968, 300),
    ("mlperf_kws_dscnn", "cortex-m0plus"): Figures(23.733, 8128, 9410, 30520, 460),
    ("mlperf_kws_dscnn", "riscv32"): Figures(11.782, 8128, 6884, 30520, 300),
    ("fmnist_dscnn", "cortex-m3"): Figures(1.059, 4920, 5766, 18344, 308),
    ("fmnist_dscnn", "cortex-m4"): Figures(0.591, 5136, 7700, 18808, 304),
    ("fmnist_dscnn", "cortex-m7"): Figures(0.591, 5136, 7726, 18808, 304),
    ("fmnist_dscnn", "cortex-m55"): Figures(0.1784, 5136, 5672, 16544, 332),
    ("mlperf_kws_dscnn", "cortex-m3"): Figures(7.299, 8336, 6594, 31232, 308),
    ("mlperf_kws_dscnn", "cortex-m4"): Figures(3.250, 8672, 6628, 31952, 304),
    ("mlperf_kws_dscnn", "cortex-m7"): Figures(3.252, 8672, 6688, 31952, 304),
    ("mlperf_kws_dscnn", "cortex-m55"): Figures(0.879, 8672, 5514, 28624, 332),
    ("mlperf_ic_resnet8", "cortex-m3"): Figures(32.073, 33344, 7064, 83632, 404),
    ("mlperf_ic_resnet8", "cortex-m4"): Figures(12.760, 33920, 7588, 82304, 348),
    ("mlperf_ic_resnet8", "cortex-m7"): Figures(12.784, 33920, 7688, 82304, 352),
    ("mlperf_ic_resnet8", "cortex-m55"): Figures(2.586, 33344, 5600, 82304, 460),
    ("vww_mobilenetv1", "cortex-m4"): Figures(10.392, 55328, 10716, 251920, 304),
    ("vww_mobilenetv1", "cortex-m7"): Figures(10.389, 55328, 10722, 251920, 304),
    ("vww_mobilenetv1", "cortex-m55"): Figures(2.973, 55328, 7316, 233448, 332),
    ("anomaly_autoencoder", "cortex-m4"): Figures(0.2657, 1408, 1924, 277928, 164),
    ("anomaly_autoencoder", "cortex-m7"): Figures(0.2656, 1408, 1902, 277928, 160),
    ("anomaly_autoencoder", "cortex-m55"): Figures(0.0386, 768, 1724, 278952, 212),
}

FLASH = {
    "cortex-m4": Figures(0.2653, 1408, 1942, 271400, 164),
    "cortex-m7": Figures(0.2652, 1408, 1922, 271400, 160),
    "cortex-m55": Figures(0.0382, 768, 1702, 272504, 204),
}
"""The autoencoder's with --optimize flash."""

CORES = ("cortex-m4", "cortex-m7", "cortex-m55")


class Limits(NamedTuple):
    """What a network of MLPerf Tiny may take on each of CORES."""

    arena_bytes: int
    weights_bytes: int
    """With --optimize flash: the official int8 model's file."""
    tflm: tuple[float, float, float]
    """Instructions of TensorFlow Lite Micro with CMSIS-NN, in millions, on each of CORES."""
    tflm_cycles: tuple[float, float, float]
    """Of the same, in millions, modelled as edgec's are (`bench/cycles.py`, LLVM 19)."""


LIMITS = {
    "mlperf_kws_dscnn": Limits(12_000, 53_936, (7.701, 7.647, 1.817), (8.790, 6.949, 2.098)),
    "mlperf_ic_resnet8": Limits(36_000, 98_496, (29.864, 30.024, 4.914), (36.249, 30.043, 5.365)),
    "vww_mobilenetv1": Limits(56_000, 333_288, (24.102, 24.025, 6.558), (28.366, 22.909, 7.498)),
    "anomaly_autoencoder": Limits(2_000, 276_976, (0.583, 0.583, 0.150), (0.676, 0.528, 0.171)),
}
CODE_BYTES, STACK_BYTES = 24_000, 1_000
"""Of each."""
FEWER, FEWER_CYCLES = 0.45, 0.35
"""Share of TFLM's instructions, and of its modelled cycles, that edgec does without, at least."""


def source(name: str) -> Path:
    path = EXAMPLES / f"{name}.onnx"
    path = path if path.exists() else SHARED / f"models/{name}.onnx"
    if not path.exists():
        pytest.skip("no shared models")
    return path


def figures_of(bundle: Bundle) -> tuple[Figures, float | None]:
    """What a bundle takes that is exact and all int8, and its modelled cycles where llvm-mca is there."""
    assert not bundle.manifest.islands
    assert verified(bundle).exact_layers == len(bundle.steps)
    measured = benchmark(bundle, bundle.device("emulator"), cycles=cycles.installed())
    assert measured.instructions is not None
    stack = measured.memory.stack_bytes or 0
    assert bundle.memory.stack_bytes >= stack
    memory = [getattr(bundle.memory, f"{name}_bytes") for name in ("arena", "code", "weights")]
    return Figures(measured.instructions / 1e6, *memory, stack), measured.modelled_cycles


@pytest.mark.parametrize(("name", "core"), FIGURES)
def test_real_models_are_exact_and_take_what_they_took(name: str, core: str, tmp_path: Path) -> None:
    bundle = build(source(name), tmp_path, f"{core}-int8", int8_io=True)
    found, modelled_cycles = figures_of(bundle)
    assert tuple(found) == pytest.approx(tuple(FIGURES[name, core]), rel=0.01)
    if core in CORES and name in LIMITS:
        limits = LIMITS[name]
        assert found.arena_bytes <= limits.arena_bytes
        assert found.code_bytes <= CODE_BYTES
        assert bundle.memory.stack_bytes <= STACK_BYTES
        assert found.instructions <= (1 - FEWER) * limits.tflm[CORES.index(core)]
        if modelled_cycles is not None:
            most = (1 - FEWER_CYCLES) * limits.tflm_cycles[CORES.index(core)]
            assert modelled_cycles / 1e6 <= most


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", LIMITS)
def test_weights_take_no_more_than_the_official_model(name: str, core: str, tmp_path: Path) -> None:
    bundle = build(source(name), tmp_path, f"{core}-int8", int8_io=True, optimize="flash")
    assert bundle.memory.weights_bytes <= LIMITS[name].weights_bytes


@pytest.mark.parametrize("core", CORES)
def test_dense_layers_with_one_multiplier_are_exact_and_no_slower(core: str, tmp_path: Path) -> None:
    path = source("anomaly_autoencoder")
    bundle = build(path, tmp_path, f"{core}-int8", int8_io=True, optimize="flash")
    found, _ = figures_of(bundle)
    assert tuple(found) == pytest.approx(tuple(FLASH[core]), rel=0.01)
    assert found.instructions < FIGURES["anomaly_autoencoder", core].instructions


MOVES = {"vldr", "vstr", "vldmia", "vstmia", "vpush", "vpop", "vmov", "vmov.f32"}
"""Of registers."""
REQUANTIZES = {"vcvt.f32.s32", "vmul.f32", "vadd.f32", "vcvtr.s32.f32"}
"""An int32 becomes float32, is scaled, perhaps added to another, and rounded; see docs/semantics.md."""
MODE = {"vmrs": 1, "vmsr": 2}
"""What the driver's run does: it reads the caller's rounding mode, and writes it if it isn't the default."""


@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m7"])
def test_nothing_but_requantization_uses_floats(core: str, tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-objdump") is None:
        pytest.skip("gcc-arm-none-eabi is not installed")
    bundle = build(source("mlperf_ic_resnet8"), tmp_path, f"{core}-int8", int8_io=True)
    functions = floats(bundle.file("lib/libmlperf_ic_resnet8.a"))
    if core == "cortex-m3":
        assert not functions
        return
    (level,) = bundle.manifest.levels
    assert functions.pop("run") + functions.pop("end") == MODE
    assert functions
    assert functions.keys() <= {kernel.symbol for kernel in level.kernels}  # and not the driver
    for name, used in functions.items():
        # Softmax divides by the sum of its integers' floats, once.
        assert used.keys() <= MOVES | REQUANTIZES | ({"vdiv.f32"} if "softmax" in name else set()), name
        assert used["vdiv.f32"] <= 1
        assert used["vmul.f32"] <= used["vcvt.f32.s32"]  # every product scales an integer


def floats(library: Path) -> dict[str, Counter[str]]:
    """The floating-point instructions of each function that has any: all of their names begin with v."""
    said = subprocess.run(
        ["arm-none-eabi-objdump", "-d", "--no-show-raw-insn", library],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: dict[str, Counter[str]] = {}
    for code in re.split(r"\n(?=[0-9a-f]{8} <)", said)[1:]:
        name = code[code.index("<") + 1 : code.index(">")]
        used = Counter(re.findall(r"^ +[0-9a-f]+:\t(v[\w.]+)", code, re.MULTILINE))
        if used:
            found[name] = found.get(name, Counter()) + used
    return found

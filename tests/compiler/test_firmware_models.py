"""Real models on microcontrollers: exact on every core, and figures that stay what they are.

Instructions, arena, code and stack are exact and the same on every machine. A change that makes one of them
more than 1 % worse or better fails here, so that the figure is looked at and written down anew.
"""

from pathlib import Path
from typing import NamedTuple

import pytest

from edgec.bench.benchmark import benchmark
from tests.compiler.building import build, verified
from tests.compiler.onnx_models import SHARED
from tests.conftest import board_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("board_emulator")]

EXAMPLES = Path(__file__).parents[2] / "examples"


class Figures(NamedTuple):
    """Of one model on one core, with int8 inputs and outputs, quantized on synthetic inputs."""

    instructions: float
    arena_bytes: int
    code_bytes: int
    weights_bytes: int
    stack_bytes: int
    """Measured."""


FIGURES = {
    ("fmnist_dscnn", "cortex-m0plus"): Figures(3.339, 4920, 8492, 17896, 460),
    ("fmnist_dscnn", "riscv32"): Figures(1.647, 4920, 5958, 17968, 300),
    ("fmnist_dscnn", "cortex-m3"): Figures(1.069, 4920, 7248, 18312, 308),
    ("fmnist_dscnn", "cortex-m4"): Figures(0.590, 5136, 7582, 18776, 308),
    ("fmnist_dscnn", "cortex-m7"): Figures(0.592, 5136, 7628, 18776, 308),
    ("fmnist_dscnn", "cortex-m55"): Figures(0.178, 5136, 6408, 16512, 336),
    ("mlperf_kws_dscnn", "cortex-m0plus"): Figures(23.730, 8128, 9310, 30512, 460),
    ("mlperf_kws_dscnn", "riscv32"): Figures(11.803, 8128, 6780, 30512, 300),
    ("mlperf_kws_dscnn", "cortex-m3"): Figures(7.333, 8336, 6650, 31216, 308),
    ("mlperf_kws_dscnn", "cortex-m4"): Figures(3.249, 8672, 6526, 31936, 308),
    ("mlperf_kws_dscnn", "cortex-m7"): Figures(3.252, 8672, 6574, 31936, 308),
    ("mlperf_kws_dscnn", "cortex-m55"): Figures(0.881, 8672, 5724, 28608, 336),
    ("mlperf_ic_resnet8", "cortex-m3"): Figures(32.175, 33344, 6984, 83632, 392),
    ("mlperf_ic_resnet8", "cortex-m4"): Figures(12.783, 33920, 7440, 82304, 324),
    ("mlperf_ic_resnet8", "cortex-m7"): Figures(12.808, 33920, 7516, 82304, 324),
    ("mlperf_ic_resnet8", "cortex-m55"): Figures(2.582, 33344, 5390, 82304, 440),
}


@pytest.mark.parametrize(("name", "core"), FIGURES)
def test_real_models_are_exact_and_take_what_they_took(name: str, core: str, tmp_path: Path) -> None:
    path = EXAMPLES / f"{name}.onnx"
    path = path if path.exists() else SHARED / f"models/{name}.onnx"
    if not path.exists():
        pytest.skip("no shared models")
    board_of(core)
    bundle = build(path, tmp_path, f"{core}-int8", with_int8_io=True)
    assert not bundle.manifest["islands"]
    assert verified(bundle).exact_layers == len(bundle.steps)
    measured = benchmark(bundle, bundle.device("emulator"))
    assert measured.instructions is not None
    memory = bundle.memory
    found = Figures(
        measured.instructions / 1e6,
        memory["arena_bytes"],
        memory["code_bytes"],
        memory["weights_bytes"],
        measured.memory.stack_bytes or 0,
    )
    assert found == pytest.approx(FIGURES[name, core], rel=0.01)
    assert memory["stack_bytes"] >= found.stack_bytes

"""Real models on microcontrollers: exact on every core, and figures that stay what they are.

Instructions, arena, code and stack are exact and the same on every machine. A change that makes one of them
more than 1 % worse or better fails here, so that the figure is looked at and written down anew.
"""

from pathlib import Path
from typing import NamedTuple

import pytest

from edgec.bench.benchmark import benchmark
from edgec.bench.bundle import Bundle
from tests.compiler.building import build, verified
from tests.compiler.onnx_models import SHARED

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
    ("fmnist_dscnn", "cortex-m3"): Figures(1.065, 4920, 7224, 18356, 308),
    ("fmnist_dscnn", "cortex-m4"): Figures(0.591, 5136, 7606, 18820, 304),
    ("fmnist_dscnn", "cortex-m7"): Figures(0.591, 5136, 7676, 18820, 304),
    ("fmnist_dscnn", "cortex-m55"): Figures(0.179, 5136, 6558, 16556, 324),
    ("mlperf_kws_dscnn", "cortex-m3"): Figures(7.320, 8336, 6656, 31248, 308),
    ("mlperf_kws_dscnn", "cortex-m4"): Figures(3.249, 8672, 6560, 31968, 304),
    ("mlperf_kws_dscnn", "cortex-m7"): Figures(3.251, 8672, 6652, 31968, 304),
    ("mlperf_kws_dscnn", "cortex-m55"): Figures(0.883, 8672, 5834, 28640, 324),
    ("mlperf_ic_resnet8", "cortex-m3"): Figures(31.993, 33344, 7012, 83624, 400),
    ("mlperf_ic_resnet8", "cortex-m4"): Figures(12.780, 33920, 7508, 82296, 340),
    ("mlperf_ic_resnet8", "cortex-m7"): Figures(12.804, 33920, 7664, 82296, 340),
    ("mlperf_ic_resnet8", "cortex-m55"): Figures(2.578, 33344, 5512, 82296, 448),
}


@pytest.mark.parametrize(("name", "core"), FIGURES)
def test_real_models_are_exact_and_take_what_they_took(name: str, core: str, tmp_path: Path) -> None:
    path = EXAMPLES / f"{name}.onnx"
    path = path if path.exists() else SHARED / f"models/{name}.onnx"
    if not path.exists():
        pytest.skip("no shared models")
    bundle = build(path, tmp_path, f"{core}-int8", with_int8_io=True)
    assert figures_of(bundle) == pytest.approx(FIGURES[name, core], rel=0.01)


def figures_of(bundle: Bundle) -> Figures:
    """What an exact bundle takes, all of it int8."""
    assert not bundle.manifest["islands"]
    assert verified(bundle).exact_layers == len(bundle.steps)
    measured = benchmark(bundle, bundle.device("emulator"))
    assert measured.instructions is not None
    stack = measured.memory.stack_bytes or 0
    assert bundle.memory["stack_bytes"] >= stack
    memory = [bundle.memory[f"{name}_bytes"] for name in ("arena", "code", "weights")]
    return Figures(measured.instructions / 1e6, *memory, stack)

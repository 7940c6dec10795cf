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
    ("fmnist_dscnn", "cortex-m3"): Figures(1.062, 4920, 7252, 18356, 308),
    ("fmnist_dscnn", "cortex-m4"): Figures(0.591, 5136, 7634, 18820, 304),
    ("fmnist_dscnn", "cortex-m7"): Figures(0.591, 5136, 7652, 18820, 304),
    ("fmnist_dscnn", "cortex-m55"): Figures(0.178, 5136, 6530, 16556, 332),
    ("mlperf_kws_dscnn", "cortex-m3"): Figures(7.310, 8336, 6672, 31248, 308),
    ("mlperf_kws_dscnn", "cortex-m4"): Figures(3.250, 8672, 6580, 31968, 304),
    ("mlperf_kws_dscnn", "cortex-m7"): Figures(3.252, 8672, 6640, 31968, 304),
    ("mlperf_kws_dscnn", "cortex-m55"): Figures(0.882, 8672, 5818, 28640, 332),
    ("mlperf_ic_resnet8", "cortex-m3"): Figures(32.087, 33344, 7132, 83648, 416),
    ("mlperf_ic_resnet8", "cortex-m4"): Figures(12.764, 33920, 7564, 82320, 348),
    ("mlperf_ic_resnet8", "cortex-m7"): Figures(12.789, 33920, 7650, 82320, 352),
    ("mlperf_ic_resnet8", "cortex-m55"): Figures(2.583, 33344, 5544, 82320, 460),
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

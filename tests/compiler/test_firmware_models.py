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
    ("fmnist_dscnn", "cortex-m3"): Figures(1.073, 4920, 6132, 18344, 296),
    ("fmnist_dscnn", "cortex-m4"): Figures(0.662, 5136, 9470, 18808, 372),
    ("fmnist_dscnn", "cortex-m7"): Figures(0.666, 5136, 9552, 18808, 372),
    ("fmnist_dscnn", "cortex-m55"): Figures(0.179, 5136, 6526, 16544, 336),
    ("mlperf_kws_dscnn", "cortex-m3"): Figures(7.333, 8336, 6090, 31224, 296),
    ("mlperf_kws_dscnn", "cortex-m4"): Figures(3.504, 8672, 7674, 31944, 372),
    ("mlperf_kws_dscnn", "cortex-m7"): Figures(3.532, 8672, 7744, 31944, 372),
    ("mlperf_kws_dscnn", "cortex-m55"): Figures(0.883, 8672, 5782, 28616, 336),
    ("mlperf_ic_resnet8", "cortex-m3"): Figures(32.073, 33344, 6994, 83632, 388),
    ("mlperf_ic_resnet8", "cortex-m4"): Figures(13.146, 33920, 7886, 82304, 352),
    ("mlperf_ic_resnet8", "cortex-m7"): Figures(13.174, 33920, 8008, 82304, 344),
    ("mlperf_ic_resnet8", "cortex-m55"): Figures(2.583, 33344, 5370, 82304, 440),
}


@pytest.mark.parametrize(("name", "core"), FIGURES)
def test_real_models_are_exact_and_take_what_they_took(name: str, core: str, tmp_path: Path) -> None:
    path = EXAMPLES / f"{name}.onnx"
    path = path if path.exists() else SHARED / f"models/{name}.onnx"
    if not path.exists():
        pytest.skip("no shared models")
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

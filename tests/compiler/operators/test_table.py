"""One table: what the quantizer takes, the lowering computes."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.compiler.compress.calibration import load_calibration
from edgec.compiler.compress.int8_regions import units
from edgec.compiler.compress.quantize import PREPARING, quantize
from edgec.compiler.frontend.load import load
from edgec.compiler.lower.graph.check import check
from edgec.compiler.model import is_qdq
from edgec.compiler.operators.table import OPERATORS
from edgec.compiler.passes import run
from edgec.compiler.pipeline import to_network
from edgec.errors import EdgecError
from edgec.targets import loader
from tests.compiler.lowering_cases import NETWORKS
from tests.compiler.lowering_cases import OPERATORS as CASES
from tests.compiler.onnx_models import model as parsed
from tests.compiler.onnx_models import samples
from tests.fuzz.draw import Drawn, draw


@pytest.mark.parametrize("name", OPERATORS)
def test_a_row_says_how_its_operator_is_computed(name: str) -> None:
    row = OPERATORS[name]
    assert onnx.defs.get_schema(name)
    assert row.integer or row.move or row.function or row.of_two
    assert not (row.function and row.of_two)
    assert row.function or not row.clamps
    assert row.move is None or row.role == "movement"
    assert not (row.integer and row.integer.keeps_scale) or row.role == "movement"


def taken_but_left(proto: onnx.ModelProto, given: dict[str, np.ndarray]) -> tuple[int, list[str]]:
    """How many nodes the quantizer takes, and which of them the lowering leaves in float, and why."""
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        path = Path(folder) / "model.onnx"
        onnx.save(proto, path)
        try:
            model = load(path)
            check(model, loader.load("x86-64-int8"))
            if is_qdq(model):
                return 0, []
            taken = {str(unit.node.name) for unit in units(run(model.ir, PREPARING).graph)}
            network = to_network(quantize(model, load_calibration(given, model)))
        except EdgecError:
            return 0, []
    return len(taken), [f"{reason}" for reason in network.floats if reason[0] in taken]


@pytest.mark.parametrize("name", CASES | NETWORKS)
def test_what_the_quantizer_takes_the_lowering_computes(name: str) -> None:
    case = (CASES | NETWORKS)[name]
    proto = parsed(case.graph, case.constants, case.opset)
    given = {key: array[np.newaxis] for key, array in samples(proto).items()}
    assert taken_but_left(proto, given)[1] == []


def test_what_the_quantizer_takes_of_random_models_the_lowering_computes() -> None:
    cases: list[Drawn] = [draw(seed) for seed in range(300) if seed % 3]
    found = [(case.seed, *taken_but_left(case.model, case.samples)) for case in cases]
    assert sum(taken for _, taken, _ in found) > 300
    assert [(seed, left) for seed, _, left in found if left] == []

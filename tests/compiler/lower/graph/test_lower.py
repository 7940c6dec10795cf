"""Lowering: every operator that runs in int8 computes what ONNX Runtime computes for the same QDQ model.

ONNX Runtime simulates integers in float32. edgec's own arithmetic has the same value before it is rounded to
an integer, so both round alike unless float32's error (about 1e-7 of it) carries it over the half between
two integers. Few of these samples come so near; a case that has some states the share that may be one step
off. Movements have no arithmetic and are equal always.
"""

from pathlib import Path

import numpy as np
import pytest

from edgec.compiler.compress.calibration import load_calibration
from edgec.compiler.compress.quantize import quantize
from edgec.compiler.lower.graph.integer import integer
from edgec.compiler.model import serialize
from edgec.kernels import reference
from tests.compiler import onnx_models
from tests.compiler.lowering_cases import NETWORKS, OPERATORS
from tests.compiler.onnx_models import sqnr


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_equal_onnx_runtime(name: str, tmp_path: Path) -> None:
    case = OPERATORS[name]
    plain = onnx_models.model(case.graph, case.constants, case.opset)
    inputs = onnx_models.samples(plain)
    model = onnx_models.quantized(plain, inputs, case.form, case.inner, case.one_range)
    network = onnx_models.network(model, tmp_path)
    assert not onnx_models.islands(network)
    assert onnx_models.operations(network) == case.operations.split()
    ours = onnx_models.run_network(network, inputs)
    found = onnx_models.difference(network, ours, onnx_models.run_onnx(model, inputs))
    assert found.steps <= (case.steps if case.ties else 0), found
    assert found.share <= case.ties
    assert sqnr(ours, onnx_models.run_onnx(plain, inputs)) >= case.sqnr


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_quantized_after_training_equal_onnx_runtime(name: str, tmp_path: Path) -> None:
    case = NETWORKS[name]
    plain = onnx_models.model(case.graph, case.constants, case.opset)
    source = onnx_models.loaded(plain, tmp_path)
    batches = [onnx_models.samples(plain, seed) for seed in range(8)]
    together = {key: np.stack([batch[key] for batch in batches]) for key in batches[0]}
    model = quantize(source, load_calibration(together, source))
    network = integer(model)
    assert not onnx_models.islands(network)
    assert onnx_models.operations(network) == case.operations.split()
    for inputs in batches[:3]:
        ours = onnx_models.run_network(network, inputs)
        found = onnx_models.difference(network, ours, reference.run_onnx(serialize(model), inputs.values()))
        assert found.steps <= 1
        assert found.share <= 0.01  # what float32 carries over a half moves everything behind it
        assert sqnr(ours, onnx_models.run_onnx(plain, inputs)) >= 20

"""ONNX Runtime's fused additions and normalizations, against ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.compiler.model import serialize
from edgec.kernels import reference
from tests.compiler.lowering_cases import weights
from tests.compiler.onnx_models import loaded, run_onnx, samples

CONSTANTS = {"s": 1 + weights(8, 1)[:, 0], "b": weights(8, 2)[:, 0], "o": weights(8, 3)[:, 0]}
LAYER, RMS = "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"


@pytest.mark.parametrize("opset", [14, 17, 23])
@pytest.mark.parametrize(
    ("operator", "inputs", "outputs", "operators"),
    [
        (LAYER, "x z s", "y", "Add LayerNormalization"),
        (LAYER, "x z s b", "y", "Add LayerNormalization"),
        (LAYER, "x z s b o", "y", "Add Add LayerNormalization"),
        (LAYER, "x z s b o", "y,,,t", "Add Add LayerNormalization"),
        (RMS, "x z s", "y", "Add RMSNormalization"),
        (RMS, "x z s o", "y,,,t", "Add Add RMSNormalization"),
    ],
)
def test_a_fused_operator_is_an_addition_and_a_normalization(
    operator: str, inputs: str, outputs: str, operators: str, opset: int, tmp_path: Path
) -> None:
    node = helper.make_node(
        operator, inputs.split(), outputs.split(","), "fused", domain="com.microsoft", epsilon=1e-3
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (2, 5, 8)) for name in "xz"],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, (2, 5, 8)) for n in outputs.split(",") if n],
        [numpy_helper.from_array(array, name) for name, array in CONSTANTS.items() if name in inputs],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    plain = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    found = loaded(plain, tmp_path)
    assert [node.op_type for node in found.ir.graph] == operators.split()
    given = samples(plain)
    ours = reference.run_onnx(serialize(found), [given[v.name] for v in found.ir.graph.inputs])
    for actual, expected in zip(ours, run_onnx(plain, given), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)

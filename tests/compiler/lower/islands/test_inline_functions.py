"""Operators written out by ONNX's definitions compute what ONNX Runtime or ONNX's reference says."""

from typing import Any

import numpy as np
import onnx
import pytest

from edgec.compiler.lower.islands.inline_functions import FUNCTIONS, inline_functions
from edgec.kernels.reference import oracle
from tests.compiler.onnx_models import model

X, LABELS = "float[2,3,4] x", "int64[2,4] labels"


@pytest.mark.parametrize(
    ("text", "opset"),
    [
        (f"({X}) => (float y) {{ y = Celu<alpha=2.0>(x) }}", 17),
        (f"({X}) => (float y) {{ y = Swish<alpha=0.5>(x) }}", 24),
        (f"({X}) => (float y) {{ y = MeanVarianceNormalization<axes=[1,2]>(x) }}", 18),
        (f"({X}) => (float y) {{ y = MeanVarianceNormalization<axes=[0,2]>(x) }}", 17),
        (f"({X}) => (float y) {{ z = Relu(x) y = ReduceL2<keepdims=0>(z) }}", 18),
        (f"({X}, float[4] w) => (float y) {{ y = RMSNormalization(x, w) }}", 23),
        (f"({X}, {LABELS}) => (float y) {{ y = SoftmaxCrossEntropyLoss(x, labels) }}", 17),
        (f"({X}, {LABELS}) => (float y, float p) {{ y, p = SoftmaxCrossEntropyLoss(x, labels) }}", 17),
        ("(float[1,2,3,4] x) => (float y, float q) { y, , , q = Attention<scale=0.5>(x, x, x) }", 23),
    ],
)
def test_what_onnx_defines_by_others(text: str, opset: int) -> None:
    before = model(text, opset=opset)
    after = inline_functions(before)
    assert not FUNCTIONS.intersection(node.op_type for node in after.graph.node)
    assert [value.name for value in after.graph.input] == [value.name for value in before.graph.input]
    generator = np.random.default_rng(0)
    feed: dict[str, Any] = {}
    for value in before.graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        integers = value.type.tensor_type.elem_type == onnx.TensorProto.INT64
        drawn = generator.integers(0, 3, shape) if integers else generator.standard_normal(shape)
        feed[value.name] = drawn.astype(np.int64 if integers else np.float32)
    expected = oracle.evaluate(before.SerializeToString(), feed)
    for name, computed in oracle.evaluate(after.SerializeToString(), feed).items():
        np.testing.assert_allclose(computed, expected[name], rtol=1e-4, atol=1e-5)


def test_a_definition_of_another_form_is_none() -> None:
    """That of opset 18 reduces by axes that are an input; in opset 17 they are an attribute."""
    before = model(f"({X}) => (float y) {{ y = ReduceL2<axes=[1]>(x) }}", opset=17)
    assert [node.op_type for node in inline_functions(before).graph.node] == ["ReduceL2"]

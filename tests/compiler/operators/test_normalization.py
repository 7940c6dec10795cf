"""Normalizations whose form tells what is scaled how, and those that no kernel computes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest

from edgec.compiler.operators import normalization
from tests.compiler import onnx_models
from tests.compiler.lowering_cases import weights
from tests.compiler.onnx_models import Form

_SCALED = {"s": 1 + weights(6, 1)[:, 0], "b": weights(6, 2)[:, 0]}


def test_groups_have_a_scale_for_each_channel(tmp_path: Path) -> None:
    text = """(float[2,6,4,5] x) => (float[2,6,4,5] y) { y = GroupNormalization<num_groups=2>(x, s, b) }"""
    constants = {"s": np.arange(1, 7, dtype=np.float32), "b": weights(6, 2)[:, 0]}
    plain = onnx_models.model(text, constants, opset=21)
    inputs = onnx_models.samples(plain)
    model = onnx_models.quantized(plain, inputs, Form())
    network = onnx_models.network(model, tmp_path)
    assert onnx_models.operations(network) == ["Rearrange", "Normalize", "Rearrange"]
    ours = onnx_models.run_network(network, inputs)
    found = onnx_models.difference(network, ours, onnx_models.run_onnx(model, inputs))
    assert found.steps <= 1
    assert found.share < 0.01


@pytest.mark.parametrize(
    ("inputs", "body", "constants", "reason"),
    [
        ("float[2,6] x, float[6] s", "y = LayerNormalization(x, s)", {}, "its scale or bias isn't constant"),
        ("float[2,6] x", "y, m = LayerNormalization(x, s) z = Add(y, m)", _SCALED, "what it divided by"),
        ("float[2,140000] x", "y = LpNormalization(x)", {}, "140000 elements together, and 131071"),
        ("float[1,6,400,400] x", "y = InstanceNormalization(x, s, b)", _SCALED, "160000 elements"),
        ("float[2,6] x", "y = LpNormalization<p=3>(x)", {}, "norm other than 1 or 2"),
        ("float[2,5] x", "y = LayerNormalization(x, s)", _SCALED, "doesn't fit what it normalizes"),
        ("float[2,131071] x", "y = LpNormalization(x)", {}, None),
        ("float[2,6] x", "y = LayerNormalization(x, s, b)", _SCALED, None),
    ],
)
def test_what_no_kernel_normalizes_is_told(
    inputs: str, body: str, constants: dict[str, Any], reason: str | None
) -> None:
    plain = onnx_models.model(f"({inputs}) => (float y) {{ {body} }}", constants)
    said = normalization.refuses(onnx_ir.from_proto(plain).graph[0])
    assert said == reason or (reason is not None and said is not None and reason in said)

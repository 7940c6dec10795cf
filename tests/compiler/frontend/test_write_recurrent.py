"""Recurrent layers are written in one form, and compute what they did."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgec.compiler.model import serialize
from edgec.kernels.reference.precise import Precise
from tests.compiler import onnx_models
from tests.compiler.recurrent_models import feed, recurrent

_BOTH = {"direction": "bidirectional"}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "LSTM": ("LSTM", {"outputs": "yhc"}),
    "LSTM, the last states alone": ("LSTM", {"outputs": "hc"}),
    "LSTM in reverse": ("LSTM", {"outputs": "yh", "direction": "reverse"}),
    "LSTM in both directions": ("LSTM", {"outputs": "yhc", **_BOTH}),
    "LSTM in both directions, with states": ("LSTM", {"outputs": "yhc", "states": "hc", **_BOTH}),
    "LSTM in both directions, from constants": ("LSTM", {"outputs": "y", "states": "HC", **_BOTH}),
    "LSTM of sequences that end early": ("LSTM", {"outputs": "yhc", "lengths": (5, 5)}),
    "LSTM of other functions": ("LSTM", {"activations": ["HardSigmoid", "Sigmoid", "Tanh"]}),
    "GRU": ("GRU", {"outputs": "yh"}),
    "GRU, reset behind the product": ("GRU", {"outputs": "yh", "linear_before_reset": 1, "states": "h"}),
    "GRU in both directions": ("GRU", {"outputs": "yh", **_BOTH, "lengths": (4, 4)}),
    "RNN": ("RNN", {"outputs": "yh", "states": "H"}),
    "RNN of two functions": ("RNN", {"outputs": "yh", "activations": ["Relu", "Sigmoid"], **_BOTH}),
}


@pytest.mark.parametrize("name", FORMS)
def test_one_direction_computes_what_the_node_did(name: str, tmp_path: Path) -> None:
    operator, form = FORMS[name]
    model = recurrent(operator, **form)
    written = serialize(onnx_models.loaded(model, tmp_path))
    nodes = [node for node in onnx.load_from_string(written).graph.node if node.op_type == operator]
    assert len(nodes) == 1 + (form.get("direction") == "bidirectional")
    for node in nodes:
        assert len(node.output) == (3 if "c" in form.get("outputs", "y") else 1)
        assert not any(node.input[4:5])
    given = feed(model)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, given)
    found = onnxruntime.InferenceSession(written).run(None, given)
    wide = Precise(written).outputs(given).values()
    for one, other, precise in zip(expected, found, wide, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(one, precise, atol=2e-6)


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
def test_the_batch_may_come_first(operator: str, tmp_path: Path) -> None:
    """ONNX Runtime refuses that: the same weights with time first say what it is."""
    form: dict[str, Any] = {"outputs": "yhc" if operator == "LSTM" else "yh", "states": "h", **_BOTH}
    expected = recurrent(operator, **form)
    given = feed(expected)
    said = onnxruntime.InferenceSession(expected.SerializeToString()).run(None, given)
    written = serialize(onnx_models.loaded(recurrent(operator, **form, layout=1), tmp_path))
    found = onnxruntime.InferenceSession(written).run(
        None, {name: array.transpose(1, 0, 2) for name, array in given.items()}
    )
    orders = [(2, 0, 1, 3), (1, 0, 2), (1, 0, 2)]
    for one, other, order in zip(said, found, orders, strict=False):
        np.testing.assert_array_equal(one.transpose(order), other)


def test_zero_states_are_none(tmp_path: Path) -> None:
    """What PyTorch writes of a layer that is given no state."""
    model = recurrent("LSTM", states="HC")
    for tensor in model.graph.initializer:
        if tensor.name in ("H", "C"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros((1, 2, 7), np.float32), tensor.name))
    (node,) = onnx_models.loaded(model, tmp_path).ir.graph
    assert not any(node.inputs[4:])

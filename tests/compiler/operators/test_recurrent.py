"""LSTM, GRU and RNN in int8: exact on every target, near the float model, refused by name where not."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgec
from edgec.compiler.frontend.load import load
from edgec.compiler.lower.graph.integer import integer
from edgec.compiler.operators.recurrent import CELL_FRACTION, Activation, fraction_of
from edgec.errors import UnsupportedError
from edgec.kernels.operations import Recurrent
from edgec.kernels.operations.recurrent import CURVE_STEPS
from edgec.kernels.reference.recurrent import curve
from tests.compiler.building import HOST, build, verified
from tests.compiler.onnx_models import SHARED
from tests.compiler.recurrent_models import feed, recurrent

LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "LSTM": ("LSTM", {"outputs": "yh", "direction": "bidirectional"}),
    "LSTM with states": ("LSTM", {"states": "hc"}),
    "LSTM from constants": ("LSTM", {"states": "HC", "direction": "reverse"}),
    "GRU": ("GRU", {"outputs": "yh", "states": "h"}),
    "GRU, reset behind the product": ("GRU", {"linear_before_reset": 1, "direction": "bidirectional"}),
    "RNN": ("RNN", {"outputs": "h", "states": "H"}),
    "RNN of rectified sums": ("RNN", {"activations": ["Relu"], "lengths": (4, 4)}),
    "GRU of hard sigmoids": (
        "GRU",
        {"activations": ["HardSigmoid", "Tanh"], "activation_alpha": [0.3], "activation_beta": [0.4]},
    ),
}


@pytest.mark.parametrize("target", [HOST, "rpi4-int8", "cortex-m4-int8", "cortex-m0plus-int8"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_runs_whole_in_integers(name: str, target: str, tmp_path: Path) -> None:
    if target not in (HOST, "cortex-m4-int8") and name not in ("LSTM", "GRU"):
        pytest.skip("kernels are tried layer by layer elsewhere")
    operator, form = LAYERS[name]
    model = recurrent(operator, **form)
    samples = feed(model, 40)
    path = tmp_path / "data.npz"
    np.savez(path, **samples)  # type: ignore[arg-type]
    bundle = build(model, tmp_path, target, calibration=path)
    layers = [step for step in bundle.steps if step.kernel.startswith("recurrent_")]
    assert len(layers) == 1 + (form.get("direction") == "bidirectional")
    assert not [step for step in bundle.steps if not step.checked]
    found = verified(bundle, data={key: array[:3] for key, array in samples.items()})
    assert min(figure.sqnr_db or 0 for figure in found.accuracy.outputs) > 25


def test_what_a_cell_reaches_is_found_again_in_the_file(tmp_path: Path) -> None:
    model = recurrent("LSTM", sizes=(40, 1, 3, 4))
    for tensor in model.graph.initializer:  # forgets nothing, and adds much
        if tensor.name == "B":
            bias = np.concatenate(
                [np.full(4, 9.0), np.zeros(4), np.full(4, 9.0), np.full(4, 5.0), np.zeros(16)]
            )
            tensor.CopyFrom(onnx.numpy_helper.from_array(bias[None].astype(np.float32), "B"))
    path = tmp_path / "data.npz"
    np.savez(path, **feed(model, 20))  # type: ignore[arg-type]
    bundle = build(model, tmp_path, calibration=path)
    (node,) = [node for node in onnx.load(bundle.path / "model.onnx").graph.node if node.op_type == "LSTM"]
    assert [(entry.key, entry.value) for entry in node.metadata_props] == [(CELL_FRACTION, "9")]
    (layer,) = [
        operator.operation
        for operator in integer(load(bundle.path / "model.onnx")).operators
        if isinstance(operator.operation, Recurrent)
    ]
    assert layer.fraction == 9
    assert verified(bundle)


@pytest.mark.parametrize(
    ("largest", "bits"), [(0.0, 13), (3.1, 13), (3.3, 12), (12.8, 11), (1e4, 1), (1e9, 0)]
)
def test_a_cell_has_room_for_more_than_samples_show(largest: float, bits: int) -> None:
    assert fraction_of(largest) == bits


@pytest.mark.parametrize("name", ["Sigmoid", "Tanh", "HardSigmoid"])
def test_a_curve_is_near_its_function(name: str) -> None:
    one = Activation(name, None, None)
    steps = np.arange(-CURVE_STEPS, CURVE_STEPS)
    x = steps * one.reach / CURVE_STEPS
    exact = {"Sigmoid": 1 / (1 + np.exp(-x)), "Tanh": np.tanh(x), "HardSigmoid": np.clip(0.2 * x + 0.5, 0, 1)}
    found = curve(one.curve(one.reach), steps) / 2**15
    assert np.abs(found - exact[name]).max() < 1e-3


@pytest.mark.parametrize(
    ("operator", "form", "reason"),
    [
        ("LSTM", {"clip": 2.0}, "clip and input_forget have no kernel"),
        ("LSTM", {"input_forget": 1}, "clip and input_forget have no kernel"),
        ("LSTM", {"lengths": (3, 5)}, "sequences of different lengths"),
        ("LSTM", {"activations": ["Sigmoid", "Softsign", "Tanh"]}, "the activation Softsign has no kernel"),
        ("GRU", {"activations": ["Tanh", "Tanh"]}, "the activation Tanh has no kernel there"),
    ],
)
def test_what_has_no_kernel_is_refused_by_name(
    operator: str, form: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedError, match=rf"node 'layer' \({operator}\) can't be compiled: {reason}"):
        build(recurrent(operator, **form), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="no models to develop with")
def test_fashion_is_told_apart_as_well_as_in_float(tmp_path: Path) -> None:
    data = np.load(SHARED / "data/fashion_mnist_dev.npz")
    images = (data["test_image"][:2000].astype(np.float32) / 255)[:, None, None]
    path = tmp_path / "calibration.npz"
    np.savez(path, image=(data["train_image"][:200].astype(np.float32) / 255)[:, None, None])
    bundle = build(SHARED / "models/fmnist_lstm.onnx", tmp_path, calibration=path)
    found = edgec.load(bundle.path).run({"image": images})["logits"].reshape(2000, 10)
    correct = (found.argmax(axis=1) == data["test_label"][:2000]).mean()
    assert correct > 0.8625  # float: 0.8675

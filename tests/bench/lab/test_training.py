"""The networks that edgec trains: MLPerf Tiny's, to the layer; training itself where PyTorch is installed."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgec.kernels import reference

ROOT = Path(__file__).parents[3]

POINTWISE = (
    (8, 16),
    (16, 32),
    (32, 32),
    (32, 64),
    (64, 64),
    (64, 128),
    *((128, 128),) * 5,
    (128, 256),
    (256, 256),
)
SHAPES = {
    "vww_mobilenetv1": [
        (8, 3, 3, 3),
        *(shape for i, o in POINTWISE for shape in ((i, 1, 3, 3), (o, i, 1, 1))),
        (2, 256),
    ],
    "anomaly_autoencoder": [
        (128, 640), *((128, 128),) * 3, (8, 128), (128, 8), *((128, 128),) * 3, (640, 128),
    ],
}  # fmt: skip
"""Of the weights, in order."""
ENDS = {"vww_mobilenetv1": ((1, 96, 96, 3), (1, 2)), "anomaly_autoencoder": ((1, 640), (1, 640))}


@pytest.mark.parametrize("name", SHAPES)
def test_the_trained_networks_are_mlperf_tiny_s(name: str) -> None:
    model = onnx.load(ROOT / f"examples/{name}.onnx")
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) > 1]
    assert [tuple(tensor.dims) for tensor in weights] == SHAPES[name]
    shapes = [
        tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert tuple(shapes) == ENDS[name]
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Relu") == len(weights) - 1  # after each but the last


def test_a_stride_pads_below_and_on_the_right() -> None:
    model = onnx.load(ROOT / "examples/vww_mobilenetv1.onnx")
    image = np.zeros((1, 96, 96, 3), np.float32)
    first = next(node.output[0] for node in model.graph.node if node.op_type == "Conv")
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(first))
    bias = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "2.bias")
    image[:, 0, 0] = 1.0  # seen by no window but the first, at its first tap
    _, made = reference.run_onnx(model.SerializeToString(), [image])
    kernel = next(numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) == 4)
    expected = kernel[:, :, 0, 0].astype(np.float32).sum(axis=1) + bias
    np.testing.assert_allclose(made[0, :, 0, 0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made[0, :, 0, 1], bias, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_training_repeats_itself_and_folds_batch_normalization(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="the extra 'bench' isn't installed")
    from edgec.bench.lab import datasets, tiny_networks, training

    name = "anomaly_autoencoder"
    monkeypatch.setattr(datasets, "TRAINING_CLIPS", 4)
    monkeypatch.setitem(training.TASKS, name, replace(training.TASKS[name], steps=20))
    losses: list[float] = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        training.train(name, tmp_path / folder, tmp_path, lambda _done, _steps, loss: losses.append(loss))
    one, two = ((tmp_path / folder / f"{name}.onnx").read_bytes() for folder in ("one", "two"))
    assert one == two
    assert losses[:20] == losses[20:]
    assert losses[19] < losses[0]

    network = tiny_networks.autoencoder().train()
    window = torch.randn(8, tiny_networks.WINDOW)
    network(window)
    expected = network.eval()(window)
    assert torch.allclose(tiny_networks.folded(network)(window), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["out", "vww"], "no network 'vww' to train: choose vww_mobilenetv1 or anomaly_autoencoder"),
        (["out", "vww_mobilenetv1", "--data-root", "none"], "isn't there: --data-root names the folder"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    pytest.importorskip("torch", reason="the extra 'bench' isn't installed")
    command = [sys.executable, "-m", "edgec.bench.lab.train", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1

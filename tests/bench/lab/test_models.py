"""The networks that speed is measured on."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.kernels import reference

pytest.importorskip("torch", reason="the extra 'bench' isn't installed")

MMAC = {"mobilenetv2": 300.8, "resnet18": 1814.1, "resnet50": 4089.2}
"""Of the published networks, at 224x224."""


def macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of the convolutions and of the classifier."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.value_info}
    shapes |= {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.output}
    weights = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    products = (node for node in inferred.node if node.op_type in ("Conv", "Gemm"))
    return sum(
        int(np.prod(shapes[node.output[0]])) * int(np.prod(weights[node.input[1]][1:])) for node in products
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter's own
@pytest.mark.parametrize("name", MMAC)
def test_networks_are_the_published_ones_and_their_activations_are_sane(name: str, tmp_path: Path) -> None:
    from edgec.bench.lab.networks import write

    path = write(name, tmp_path)
    if name == "mobilenetv2":  # the one that takes a second
        content = path.read_bytes()
        assert write(name, tmp_path).read_bytes() == content
    model = onnx.load(path)
    assert macs(model) / 1e6 == pytest.approx(MMAC[name], abs=0.1)
    for value in ("Conv", "Add"):  # their results become outputs, to look at them
        model.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(node.output[0])
            for node in model.graph.node
            if node.op_type == value
        )
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    scores, *activations = reference.run_onnx(model.SerializeToString(), [image])
    assert scores.shape == (1, 1000)
    assert 0.1 < scores.std() < 10
    spreads = [float(array.std()) for array in activations]
    assert min(spreads) > 0.1
    assert max(spreads) < 100

"""Float models: what has a kernel, what becomes an island, and that both compute what ONNX Runtime does."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.compiler.lower.graph.floating import floating
from edgec.compiler.lower.network.fuse_residuals import fuse_residuals
from edgec.kernels.operations import FloatConv2d, Island, Network
from tests.compiler import onnx_models
from tests.compiler.lowering_cases import NETWORKS, OPERATORS, Case, weights
from tests.compiler.onnx_models import sqnr

WEIGHTS = {"w": weights(4, 4, 3, 3), "v": weights(4, 4, 1, 1)}
CASES = OPERATORS | NETWORKS


def lowered(case: Case, folder: Path) -> Network:
    model = onnx_models.loaded(onnx_models.model(case.graph, case.constants, case.opset), folder)
    return fuse_residuals(floating(model))


@pytest.mark.parametrize("name", CASES)
def test_what_runs_in_int8_runs_in_float(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    check(case, lowered(case, tmp_path))


def check(case: Case, network: Network) -> None:
    plain = onnx_models.model(case.graph, case.constants, case.opset)
    inputs = onnx_models.samples(plain)
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(plain, inputs)
    assert [(a.shape, a.dtype) for a in ours] == [(b.shape, b.dtype) for b in theirs]
    assert sqnr(ours, theirs) > 100


def image(body: str, **keywords: str) -> Case:
    return Case("float[1,4,6,5] x", body, WEIGHTS, **keywords)


LOWERED = {
    "a clip and an addition belong to the convolution": (
        image("a = Conv<pads=[1,1,1,1]>(x, w)\n b = Relu(a)\n c = Conv(b, v)\n d = Add(c, b)\n y = Relu(d)"),
        "Rearrange FloatConv2d FloatConv2d Rearrange",
    ),
    "elementwise islands lie as the kernels around them": (
        image("a = Conv(x, v)\n b = Sigmoid(a)\n c = Mul(a, b)\n d = Tanh(c)\n y = Conv(d, v)"),
        "Rearrange FloatConv2d Island FloatBinary Island FloatConv2d Rearrange",
    ),
    "what reads along a dimension lies as in ONNX": (
        image("a = Conv(x, v)\n b = LogSoftmax<axis=2>(a)\n y = Conv(b, v)"),
        "Rearrange FloatConv2d Rearrange Island Rearrange FloatConv2d Rearrange",
    ),
    "a movement between islands belongs to them": (
        image("a = Sigmoid(x)\n b = Transpose<perm=[0,1,3,2]>(a)\n c = LogSoftmax(b)\n y = Neg(c)"),
        "Island",
    ),
    "islands apart from each other are two": (
        image("a = Sigmoid(x)\n b = Conv(a, v)\n c = Exp(b)\n y = Add(a, c)"),
        "Rearrange Island FloatConv2d Island FloatBinary Rearrange",
    ),
    "clips of a value that others read are their own": (
        image("a = Conv(x, v)\n b = Relu(a)\n y = Add(a, b)"),
        "Rearrange FloatConv2d Island FloatBinary Rearrange",
    ),
    "constants may be outputs, inputs too": (image("y = Identity(x)"), "Rearrange"),
}


@pytest.mark.parametrize("name", LOWERED)
def test_kernels_and_islands(name: str, tmp_path: Path) -> None:
    case, operations = LOWERED[name]
    network = lowered(case, tmp_path)
    check(case, network)
    assert onnx_models.operations(network) == operations.split()


def test_limits_are_the_convolution_s(tmp_path: Path) -> None:
    case = image("a = Conv(x, v)\n b = Add(a, x)\n y = Clip(b, low, high)")
    case.constants.update(low=weights(1)[0] * 0 - 0.5, high=weights(1)[0] * 0 + 1)
    network = lowered(case, tmp_path)
    check(case, network)
    (operation,) = (o.operation for o in network.operators if isinstance(o.operation, FloatConv2d))
    assert (operation.residual, operation.low, operation.high) == (True, -0.5, 1)


def test_islands_are_what_has_no_kernel(tmp_path: Path) -> None:
    network = lowered(image("a = Conv(x, v)\n y = Sin(a)"), tmp_path)
    (island,) = (o.operation for o in network.operators if isinstance(o.operation, Island))
    assert [node.op_type for node in onnx.load_from_string(island.model).graph.node] == ["Sin"]


GREY = {
    "softmax": "y = Softmax<axis=-1>(x)",
    "softmax over channels": "y = Softmax<axis=1>(x)",
    "what is element by element before what is not": "a = Sigmoid(x)\n y = Softmax<axis=2>(a)",
    "maximum of the image": "y = GlobalMaxPool(x)",
    "maximum along a row": "y = ReduceMax<axes=[3], keepdims=0>(x)",
    "spread over an image": "a = GlobalAveragePool(x)\n b = Expand(a, shape)\n y = Add(b, x)",
    "an island behind a kernel": "a = Mul(x, x)\n b = LogSoftmax<axis=3>(a)\n y = Add(b, x)",
    "an island read as another shape": "a = Exp(x)\n b = Reshape(a, flat)\n y = Softmax(b)",
}


@pytest.mark.parametrize(
    "shape", [(1, 1, 4, 6), (2, 1, 3, 4), (1, 3, 1, 4), (1, 1, 1, 5), (1, 2, 3, 1)], ids=str
)
@pytest.mark.parametrize("name", GREY)
def test_axes_of_extent_1_stay_where_they_are(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    constants = {"shape": np.array(shape), "flat": np.array([shape[0] * shape[1], -1])}
    dimensions = ",".join(map(str, shape))
    case = Case(f"float[{dimensions}] x", GREY[name], constants)
    check(case, lowered(case, tmp_path))

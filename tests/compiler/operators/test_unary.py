"""Chains of unary operators are one table: what ONNX Runtime computes for every one of the 256 codes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.compiler import onnx_models
from tests.compiler.lowering_cases import Case, floats, integers
from tests.compiler.onnx_models import sqnr


def unary(body: str, *, opset: int = 20, sqnr: float = 30, **constants: Any) -> Case:
    return Case("float[1000] x", body, constants, "Lookup", sqnr=sqnr, opset=opset)


_SMOOTH = (
    "Abs", "Atan", "Asinh", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish",
    "LeakyRelu", "Mish", "Neg", "Relu", "Selu", "Sigmoid", "Sin", "Sinh", "Softplus", "Softsign", "Tanh",
)  # fmt: skip
_JUMPING = ("Ceil", "Floor", "Round", "Shrink", "Sign", "ThresholdedRelu")

CASES = {
    **{name: unary(f"y = {name}(x)") for name in _SMOOTH},
    # Rounding the input moves some results by the whole jump.
    **{name: unary(f"y = {name}(x)", sqnr=10) for name in _JUMPING},
    "Acos": unary("a = Softsign(x) y = Acos(a)"),
    "Acosh": unary("a = Cosh(x) y = Acosh(a)"),
    "Asin": unary("a = Softsign(x) y = Asin(a)"),
    "Atanh": unary("a = Softsign(x) y = Atanh(a)"),
    "Tan": unary("a = Tanh(x) y = Tan(a)"),
    "Swish": unary("y = Swish<alpha=1.5>(x)", opset=24),
    "Celu with a slope": unary("y = Celu<alpha=0.7>(x)"),
    "Elu with a slope": unary("y = Elu<alpha=0.3>(x)"),
    "Gelu by tanh": unary('y = Gelu<approximate="tanh">(x)'),
    "HardSigmoid of its own": unary("y = HardSigmoid<alpha=0.4, beta=0.3>(x)"),
    "LeakyRelu with a slope": unary("y = LeakyRelu<alpha=0.3>(x)"),
    "Selu of its own": unary("y = Selu<alpha=1.2, gamma=0.9>(x)"),
    "Shrink with a bias": unary("y = Shrink<lambd=0.7, bias=0.2>(x)", sqnr=10),
    "ThresholdedRelu of its own": unary("y = ThresholdedRelu<alpha=0.2>(x)", sqnr=10),
    "Clip": unary("y = Clip(x, low, high)", low=np.float32(-0.5), high=np.float32(1.5)),
    "Clip from below": unary("y = Clip(x, low)", low=np.float32(-0.5)),
    "Clip from above": unary("y = Clip(x, , high)", high=np.float32(0.5)),
    "Sqrt": unary("a = Abs(x) y = Sqrt(a)", sqnr=25),
    "Log": unary("a = Cosh(x) y = Log(a)"),
    "Reciprocal": unary("a = Exp(x) y = Reciprocal(a)"),
    "PRelu with one slope": unary("y = PRelu(x, c)", c=floats(0.2)),
    "add a scalar": unary("a = Add(x, c) y = Abs(a)", c=np.float32(0.7)),
    "subtract from a scalar": unary("y = Sub(c, x)", c=floats(0.7)),
    "multiply by a scalar": unary("y = Mul(c, x)", c=np.float32(-1.7)),
    "divide by a scalar": unary("a = Div(x, c) y = Abs(a)", c=floats(1.7)),
    "divide a scalar": unary("e = Exp(x) y = Div(c, e)", c=floats(1.7)),
    "power": unary("y = Pow(x, c)", c=floats(3.0), sqnr=25),
    "power of a scalar": unary("y = Pow(c, x)", c=floats(1.5)),
    "max and min": unary("a = Max(x, c) y = Min(a, d)", c=floats(-0.3), d=floats(0.6)),
    "a chain": unary("a = Sigmoid(x) b = Mul(a, c) d = Tanh(b) y = Neg(d)", c=np.float32(3)),
    "a chain through a transpose": Case(
        "float[40,60] x", "a = Tanh(x) b = Transpose(a) y = Sigmoid(b)", operations="Lookup Rearrange"
    ),
    "a chain through a slice": Case(
        "float[40,60] x",
        "a = Tanh(x) b = Slice(a, s, e) y = Sigmoid(b)",
        {"s": integers(1), "e": integers(30)},
        "Rearrange Lookup",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_tables_hold_what_onnx_runtime_computes(name: str, tmp_path: Path) -> None:
    """ONNX Runtime's own float32 functions are some units in the last place off."""
    case = CASES[name]
    plain = onnx_models.model(case.graph, case.constants, case.opset)
    inputs = onnx_models.samples(plain)
    model = onnx_models.quantized(plain, inputs)
    network = onnx_models.network(model, tmp_path)
    assert onnx_models.operations(network) == case.operations.split()
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    found = onnx_models.difference(network, ours, theirs)
    assert found.steps <= 1
    assert found.share <= 0.005
    assert sqnr(ours, onnx_models.run_onnx(plain, inputs)) >= case.sqnr


def test_what_is_no_number_is_the_lowest_code(tmp_path: Path) -> None:
    """As in ONNX Runtime: the logarithm of a negative number, and of 0, minus infinity."""
    plain = onnx_models.model("(float[256] x) => (float y) { y = Log(x) }")
    codes = np.arange(-128, 128)
    inputs = {"x": (0.25 * codes).astype(np.float32)}
    with np.errstate(all="ignore"):
        observed = {"x": inputs["x"], "y": np.log(np.maximum(inputs["x"], 0.1))}
    model = onnx_models.quantized(plain, inputs, ranges=observed)
    network = onnx_models.network(model, tmp_path)
    ours, theirs = onnx_models.run_network(network, inputs), onnx_models.run_onnx(model, inputs)
    assert (ours[0] == theirs[0]).all()


def test_an_operand_that_widens_the_result_is_no_scalar(tmp_path: Path) -> None:
    """[3] + [1, 1] is [1, 3]: another rank, so not a function of one tensor's elements."""
    plain = onnx_models.model(
        "(float[3] x) => (float y) { y = Mul(x, c) }", {"c": np.full((1, 1), 2, np.float32)}
    )
    inputs = onnx_models.samples(plain)
    network = onnx_models.network(onnx_models.quantized(plain, inputs), tmp_path)
    assert [kind for _, kind, _ in onnx_models.islands(network)] == ["Mul"]
    assert onnx_models.run_network(network, inputs)[0].shape == (1, 3)

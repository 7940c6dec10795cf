"""The float model in float64 is the one that ONNX means."""

import math
import weakref

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec.errors import ModelError
from edgec.kernels.reference.precise import Precise, evaluate, repeatable, rounded
from edgec.kernels.reference.precise_operators import erf
from tests.backend.cases import cases

OTHERWISE = {
    "bernoulli": "random",
    "range_": "its expanded form has a Loop, whose results the reference gives an axis too many",
    "bitcast": "the bits of a float32",
    "dynamicquantizelinear": "a scale that is rounded to float32",
    "gradient": "training",
    "training_mode": "training, of batch normalization",
    "optional_has_element_empty_optional_input": "the reference's own failure",
    "scan_sum": "the reference's own failure",
    "scatter_with": "an operator of old, which the conversion of opsets replaces",
    "quantizelinear_e5m2": "the reference has it from float32 only",
}
"""Parts of the names of cases that come out in another way, with the reason."""

FLOATS = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 5e-2}
"""Types whose results are compared, and how near the expected ones, which were computed in them, come."""


def test_it_computes_what_onnx_says() -> None:
    compared = 0
    for case in cases():
        if any(part in case.name for part in OTHERWISE):
            continue
        names = [value.name for value in case.model.graph.input]
        for inputs, outputs in case.data:
            given = {n: x for n, x in zip(names, inputs, strict=False) if isinstance(x, np.ndarray)}
            if len(given) < sum(x is not None for x in inputs):
                continue  # sequences
            found = dict(Precise(case.model.SerializeToString()).values(given))
            for value, expected in zip(case.model.graph.output, outputs, strict=True):
                if value.name in found and getattr(expected, "dtype", np.dtype(object)).name in FLOATS:
                    compared += 1
                    actual, near = found[value.name], FLOATS[expected.dtype.name]
                    assert actual.dtype == np.float64, case.name
                    assert actual.shape == expected.shape, case.name
                    close = np.isclose(actual, expected.astype(np.float64), near, near / 100, equal_nan=True)
                    assert close.all(), case.name
    assert compared > 1200


@pytest.mark.parametrize(("shape", "axis"), [((3, 200), 1), ((200, 3), 0), ((2, 3, 100), -1)])
def test_elements_are_gathered_from_any_number(shape: tuple[int, ...], axis: int) -> None:
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    wanted = [2] * len(shape)
    wanted[axis] = 5
    indices = np.random.default_rng(0).integers(-shape[axis], shape[axis], wanted)
    nodes = [helper.make_node("GatherElements", ["x", "i"], ["y"], axis=axis)]
    given = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("i", TensorProto.INT64, wanted),
    ]
    graph = helper.make_graph(
        nodes, "g", given, [helper.make_tensor_value_info("y", TensorProto.FLOAT, wanted)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": data, "i": indices})
    found = dict(Precise(model.SerializeToString()).values({"x": data, "i": indices}))
    np.testing.assert_array_equal(found["y"], expected)


def test_normalizations_are_float64_throughout() -> None:
    x, channels = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype(np.float32), np.ones(6)
    for operator, attributes in (
        ("GroupNormalization", {"num_groups": 3}),
        ("MeanVarianceNormalization", {}),
    ):
        inputs = ["x", "c", "c"] if attributes else ["x"]
        result = dict(Precise(model([helper.make_node(operator, inputs, ["y"], **attributes)],
                                    {"c": channels.astype(np.float32)})).values({"x": x}))["y"]  # fmt: skip
        assert np.mean(result == result.astype(np.float32)) < 0.1


def test_values_are_dropped_when_nothing_reads_them() -> None:
    nodes = [helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(20)]
    alive: list[weakref.ref] = []
    for _, value in Precise(model(nodes, {}, "v0", "v20")).values({"v0": np.ones((4, 4), np.float32)}):
        alive.append(weakref.ref(value))
        del value
        assert sum(reference() is not None for reference in alive) <= 3
    assert len(alive) == len(nodes) + 1


def test_a_subgraph_reads_what_is_around_it() -> None:
    then = helper.make_graph([helper.make_node("Add", ["a", "x"], ["t"])], "then", [], [output("t")])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["e"])], "else", [], [output("e")])
    nodes = [
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    made = Precise(model(nodes, {"c": np.array(True)}))
    x = np.array([[-1, 2]], np.float32)
    assert np.array_equal(dict(made.values({"x": x}))["y"], [[0, 4]])


def test_what_leads_to_no_wanted_value_is_left_out() -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["t"]),
        helper.make_node("Foo", ["t"], ["y"], domain="acme"),
    ]
    found = dict(Precise(model(nodes, {}), ["t"]).values({"x": np.zeros((2, 2), np.float32)}))
    assert sorted(found) == ["t", "x"]


def test_the_oracle_decides_what_is_computed_and_float64_the_bits() -> None:
    made, x = model([helper.make_node("Exp", ["x"], ["y"])], {}), np.linspace(-3, 3, 100, dtype=np.float32)
    x = x.reshape(10, 10)
    right = np.exp(x.astype(np.float64))
    for error, kept in ((1e-6, False), (1e-2, True)):
        said = (right * (1 + error)).astype(np.float32)
        ((found,),) = (run.values() for run in repeatable(made, [{"x": x}], [{"y": said}]))
        assert found.dtype == np.float32
        assert np.array_equal(found, said if kept else right.astype(np.float32))
    assert np.array_equal(evaluate(made, {"x": x})["y"], right.astype(np.float32))
    unknown = model([helper.make_node("Foo", ["x"], ["y"], domain="acme")], {})
    assert repeatable(unknown, [{"x": x}], [{"y": x}])[0]["y"] is x


def test_a_node_that_nothing_evaluates_is_named() -> None:
    with pytest.raises(ModelError, match=r"^node 'foo' \(acme:Foo\) can't be evaluated: [^\n]*$"):
        Precise(model([helper.make_node("Foo", ["x"], ["y"], name="foo", domain="acme")], {}))
    wrong = [helper.make_node("MatMul", ["x", "x"], ["y"], name="product")]
    with pytest.raises(ModelError, match=r"^node 'product' \(MatMul\) can't be evaluated: [^\n]*$"):
        list(Precise(model(wrong, {})).values({"x": np.ones((2, 3), np.float32)}))


@given(st.floats(-1e300, 1e300))
def test_rounding_keeps_so_many_bits(value: float) -> None:
    kept = float(rounded(value, 16))
    assert abs(kept - value) <= abs(value) * 2.0**-16 or abs(value) < 1e-300
    assert float(rounded(kept, 16)) == kept
    mantissa = np.frexp(kept)[0] * 2.0**16
    assert mantissa == np.rint(mantissa)


def test_rounding_keeps_what_is_simple_and_hides_what_is_small() -> None:
    simple = np.array([0, 1, -6, 0.5, 255, 1e-3 - 1e-3, 2.0**-140])
    assert np.array_equal(rounded(simple, 12), simple)
    values = np.random.default_rng(0).normal(size=100_000)
    assert np.array_equal(rounded(values, 20), rounded(values * (1 + 1e-15), 20))


def test_the_error_function_is_that_of_libm() -> None:
    x = np.linspace(-8, 8, 20_001)
    assert np.abs(erf(x) - [math.erf(value) for value in x]).max() < 1e-15
    assert np.array_equal(erf(np.array([np.inf, -np.inf, 0.0, np.nan])), [1, -1, 0, np.nan], equal_nan=True)


def output(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "m"])


def model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], x: str = "x", y: str = "y") -> bytes:
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [output(x)], [output(y)], initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("acme", 1)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return made

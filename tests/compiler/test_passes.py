"""What passes promise is checked behind each of them, and told to who watches."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir
import pytest

from edgec.compiler.compress.quantize import FINISHING, PREPARING
from edgec.compiler.frontend.load import PASSES, load
from edgec.compiler.graph import add_initializer
from edgec.compiler.passes import NAMED, SOUND, STATIC, STATIC_INPUTS, BrokenPassError, Fact, Pass, run
from edgec.errors import ModelError
from tests.compiler.onnx_models import model

CHAIN = "(float[2,3] x) => (float y) { a = Relu(x) y = Neg(a) }"


def chain() -> onnx_ir.Model:
    return onnx_ir.from_proto(model(CHAIN))


def kept(given: onnx_ir.Model) -> onnx_ir.Model:
    return given.clone()


def turned(given: onnx_ir.Model) -> onnx_ir.Model:
    made = given.clone()
    last = made.graph[-1]
    made.graph.remove(last)
    made.graph.insert_before(made.graph[0], last)
    return made


def named_twice(given: onnx_ir.Model) -> onnx_ir.Model:
    made = given.clone()
    made.graph[0].outputs[0].name = "x"
    return made


def from_nowhere(given: onnx_ir.Model) -> onnx_ir.Model:
    made = given.clone()
    made.graph[0].replace_input_with(0, onnx_ir.val("z", onnx_ir.DataType.FLOAT, [2, 3]))
    return made


def without_output(given: onnx_ir.Model) -> onnx_ir.Model:
    made = given.clone()
    made.graph.outputs[0] = onnx_ir.val("z", onnx_ir.DataType.FLOAT, [2, 3])
    return made


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (turned, "node 'neg_1' reads 'a'"),
        (named_twice, "node 'relu_0' computes 'x' again"),
        (from_nowhere, "node 'relu_0' reads 'z'"),
        (without_output, "output 'z' comes from nowhere"),
    ],
)
def test_behind_every_pass_the_graph_is_sound(broken: object, fault: str) -> None:
    with pytest.raises(
        BrokenPassError, match=f"behind {broken.__name__} this must hold: {SOUND.text}. {fault}"
    ):
        run(chain(), [Pass(kept), Pass(broken)])


def without_name(given: onnx_ir.Model) -> onnx_ir.Model:
    made = given.clone()
    made.graph[0].name = made.graph[1].name
    return made


def without_shape(given: onnx_ir.Model) -> onnx_ir.Model:
    made = given.clone()
    made.graph[0].outputs[0].shape = None
    return made


def dynamic(given: onnx_ir.Model) -> onnx_ir.Model:
    made = given.clone()
    made.graph.inputs[0].shape = onnx_ir.Shape(["N", 3])
    return made


@pytest.mark.parametrize(
    ("fact", "breaks"), [(NAMED, without_name), (STATIC, without_shape), (STATIC_INPUTS, dynamic)]
)
def test_facts_hold_or_are_broken(fact: Fact, breaks: object) -> None:
    assert run(chain(), [Pass(kept, before=(fact,), after=(fact,))])
    with pytest.raises(BrokenPassError, match="behind"):
        run(chain(), [Pass(breaks, after=(fact,))])
    with pytest.raises(BrokenPassError, match="in front of kept"):
        run(breaks(chain()), [Pass(kept, before=(fact,))])


def test_who_watches_sees_every_pass() -> None:
    def grown(given: onnx_ir.Model, by: int) -> onnx_ir.Model:
        made = given.clone()
        add_initializer(made.graph, "c", np.zeros(by))
        return made

    seen: list[tuple[str, int]] = []
    run(
        chain(),
        [Pass(kept), Pass(partial(grown, by=3)), Pass(kept)],
        lambda name, given: seen.append((name, len(given.graph.initializers))),
    )
    assert seen == [("kept", 0), ("grown", 1), ("kept", 1)]


def test_a_pass_is_called_as_its_file_is() -> None:
    for step in (*PASSES, *PREPARING, *FINISHING):
        assert step.rewrite.__module__.endswith(f".{step.name}")


@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 5), (3, 5), (3, 1), (7,), (0,)])
def test_the_form_of_gemm_is_asked_of_what_has_one_only(shape: tuple[int, ...], tmp_path: Path) -> None:
    """ONNX's inference lets other biases pass, of damaged files too: they are the user's mistakes."""
    weights = np.ones((4, 5), np.float32)
    text = "(float[3,4] x) => (float y) { y = Gemm<alpha=2.0, beta=0.5>(x, w, b) }"
    given = model(text, {"w": weights, "b": np.ones(shape, np.float32)})
    (tmp_path / "model.onnx").write_bytes(given.SerializeToString())
    try:
        (gemm,) = load(tmp_path / "model.onnx").ir.graph
    except ModelError:
        return
    fits = shape in ((), (1,), (5,), (1, 5))
    assert (gemm.attributes.get_int("transB", 0), gemm.attributes.get_float("alpha", 1.0)) == (
        (1, 1.0) if fits else (0, 2.0)
    )


@pytest.mark.parametrize(("weight", "alpha"), [(np.inf, 1.0), (3e38, 2.0)])
def test_a_gemm_that_would_overflow_stays_as_it_is(weight: float, alpha: float, tmp_path: Path) -> None:
    given = model(
        f"(float[3,4] x) => (float y) {{ y = Gemm<alpha={alpha}, beta=0.5>(x, w) }}",
        {"w": np.full((4, 5), weight, np.float32)},
    )
    (tmp_path / "model.onnx").write_bytes(given.SerializeToString())
    (gemm,) = load(tmp_path / "model.onnx").ir.graph
    assert (gemm.attributes.get_int("transB", 0), gemm.attributes.get_float("alpha", 1.0)) == (0, alpha)

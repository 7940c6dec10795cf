"""Random graphs, the same ones every time: CI's share of what `make fuzz` does for hours."""

import pytest

from edgec.compiler.operators.table import OPERATORS
from tests.fuzz.draw import draw
from tests.fuzz.operators import INTEGER
from tests.fuzz.runs import outcomes


def test_every_operator_with_an_integer_form_is_drawn() -> None:
    assert set(OPERATORS) == set(INTEGER) - {"BatchNormalization"}  # which is taken apart


def test_a_seed_is_a_model() -> None:
    first, again = draw(7), draw(7)
    assert first.model == again.model
    assert {name: array.tobytes() for name, array in first.samples.items()} == {
        name: array.tobytes() for name, array in again.samples.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 200, 40))
def test_random_graphs(first: int) -> None:
    cases = [draw(seed) for seed in range(first, first + 40)]
    failed = [
        (one.case.seed, one.stage, one.verdict.text)
        for one in outcomes(cases, lambda case: case.seed // 3 % 5 == 0)
        if one.verdict.failed
    ]
    assert not failed

"""Which nodes are movements that are known at compile time."""

import numpy as np
import onnx_ir
import pytest

from edgec.compiler.operators.nodes import moves


def node(operator: str, *parameters: np.ndarray, **attributes: object) -> onnx_ir.Node:
    """A node that reads a tensor of [2, 3, 4], and these parameters, into a result of some shape."""
    x = onnx_ir.val("x", onnx_ir.DataType.FLOAT, (2, 3, 4))
    constants = [
        onnx_ir.val(f"p{i}", const_value=onnx_ir.tensor(array)) for i, array in enumerate(parameters)
    ]
    result = onnx_ir.val("y", onnx_ir.DataType.FLOAT, (2, 3, 4))
    made = onnx_ir.node(operator, [x, *constants], attributes, outputs=[result])
    onnx_ir.Graph([x], [result], nodes=[made], initializers=constants)
    return made


ENDS = np.array([2], np.int64)


@pytest.mark.parametrize(
    ("made", "accepted"),
    [
        (node("Transpose", perm=[0, 2, 1]), True),
        (node("Transpose"), True),
        (node("Transpose", perm=[0, 3, 1, 2]), False),
        (node("Transpose", perm=[0, 1, 1]), False),
        (node("Slice", np.array([0], np.int64), ENDS), True),
        (node("Slice", np.array([[0]], np.int64), ENDS), False),
        (node("Slice", np.array(0, np.int64), ENDS), False),
    ],
)
def test_parameters_have_the_form_that_onnx_gives_them(made: onnx_ir.Node, accepted: bool) -> None:
    """Damaged files have others, which ONNX's shape inference lets pass."""
    assert moves(made) == accepted

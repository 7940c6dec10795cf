"""Models of one recurrent node, drawn from a seed."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(
    operator: str, outputs: str = "y", states: str = "", lengths: tuple[int, ...] = (),
    sizes: tuple[int, int, int, int] = (9, 2, 5, 7), **attributes: Any,
) -> onnx.ModelProto:  # fmt: skip
    """One node that reads x and returns some of y, h and c.

    `states` are the initial ones, in ONNX's order: "h" or "hc", inputs, or constants in capital letters.
    `sizes` are steps, batch, inputs and hidden.
    """
    steps, batch, inputs, hidden = sizes
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    rng, rows = np.random.default_rng(0), _GATES[operator] * hidden
    first = bool(attributes.get("layout"))
    state = [batch, directions, hidden] if first else [directions, batch, hidden]
    constants: dict[str, Any] = {
        "W": rng.standard_normal((directions, rows, inputs)) * 0.7,
        "R": rng.standard_normal((directions, rows, hidden)) * 0.5,
        "B": rng.standard_normal((directions, 2 * rows)) * 0.3,
        **{name: np.tanh(rng.standard_normal(state)) for name in states if name.isupper()},
    }
    arrays = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    if lengths:
        arrays.append(numpy_helper.from_array(np.array(lengths, np.int32), "lengths"))
    shapes = {
        "x": [batch, steps, inputs] if first else [steps, batch, inputs],
        "y": [batch, steps, directions, hidden] if first else [steps, directions, batch, hidden],
    }

    def value(name: str, as_output: str = "") -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(as_output or name, TensorProto.FLOAT, shapes.get(name, state))

    results = [f"{name}_out" if name in outputs else "" for name in "yhc"[: 2 + (operator == "LSTM")]]
    node = helper.make_node(
        operator, ["x", "W", "R", "B", "lengths" if lengths else "", *states], results, name="layer",
        hidden_size=hidden, **attributes,
    )  # fmt: skip
    graph = helper.make_graph(
        [node], "g", [value("x"), *(value(name) for name in states if name.islower())],
        [value(name[0], name) for name in results if name], arrays,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def feed(model: onnx.ModelProto, samples: int = 0, seed: int = 1) -> dict[str, np.ndarray]:
    """Inputs of such a model, states between -1 and 1; with `samples`, so many along a new first axis."""
    rng = np.random.default_rng(seed)
    found = {}
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        drawn = rng.standard_normal([samples, *shape] if samples else shape)
        found[value.name] = (drawn if value.name == "x" else np.tanh(drawn)).astype(np.float32)
    return found

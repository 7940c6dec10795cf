"""A random model from a seed, and inputs for it; float, or quantized as other tools write it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.compiler.onnx_models import Form, quantized
from tests.fuzz.float_operators import FLOAT
from tests.fuzz.graph import Graph, ImpossibleError
from tests.fuzz.operators import INTEGER, MOVEMENTS, PRODUCTS

OPSETS = (13, 17, 18, 19, 20, 21, 22, 23)
_MOST_NODES = 12
_TRIES = 60
"""Rows that are drawn until a graph is long enough."""
_FLOAT_SHARE = {"fp32": 0.5, "int8": 0.07}
"""Of nodes that only float islands take."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A case: what a seed stands for."""

    seed: int
    precision: str
    """int8 or fp32."""
    model: onnx.ModelProto
    samples: dict[str, NDArray[Any]]
    """Per input, [samples, *shape]."""


SAMPLES = 4


def draw(seed: int) -> Drawn:
    """The same for the same seed; two of three are for int8, of these some quantized already."""
    dice = np.random.default_rng([seed, 0xED6EC])
    precision = "fp32" if seed % 3 == 0 else "int8"
    while True:
        graph = Graph(dice, OPSETS[int(dice.integers(len(OPSETS)))])
        _fill(graph, precision)
        if graph.nodes and graph.inputs:
            break
    samples = {v.name: graph.numbers((SAMPLES, *v.shape), v.dtype) for v in graph.inputs}
    model = graph.model()
    if seed % 6 == 1:
        model = _quantized(graph, model, {name: array[0] for name, array in samples.items()})
    return Drawn(seed, precision, model, samples)


def _quantized(graph: Graph, model: onnx.ModelProto, inputs: dict[str, NDArray[Any]]) -> onnx.ModelProto:
    """Return the model in one of the forms that tools write, some values left in float; or as it is."""
    results = [value.name for value in graph.values if value not in graph.inputs and value.dtype == "float32"]
    if any(output.name not in results for output in model.graph.output):
        return model
    outputs = {output.name for output in model.graph.output}
    share = graph.one([0.5, 0.9, 1.0])
    inner = [name for name in results if name not in outputs and graph.chance(share)]
    form = Form(
        activations=graph.one([np.int8, np.int8, np.uint8]),
        symmetric=graph.chance(0.3),
        weights=graph.one([np.int8, np.int8, np.uint8]),
        per_channel=graph.chance(0.7),
        weight_zero_point=graph.one([0, 0, 0, 3]),
        float_bias=graph.chance(0.3),
    )
    try:
        with np.errstate(all="raise"):
            return quantized(model, inputs, form, inner)
    except Exception:  # not finite, or more than the test's own quantizer knows
        return model


def _fill(graph: Graph, precision: str) -> None:
    wanted = graph.integer(1, _MOST_NODES)
    for _ in range(_TRIES):
        if len(graph.nodes) >= wanted:
            return
        before = graph.checkpoint()
        try:
            if graph.chance(_FLOAT_SHARE[precision]):
                table = FLOAT
            else:  # products are what int8 is for, and movements what goes wrong between them
                table = graph.one([INTEGER, INTEGER, PRODUCTS, MOVEMENTS])
            table[graph.one(sorted(table))](graph)
        except ImpossibleError:
            graph.restore(before)

"""What a pass on a model promises, and who checks it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import onnx_ir

from edgec.compiler.graph import shape_of

Watch = Callable[[str, onnx_ir.Model], None]
"""Called with the name of every pass and the model that it left."""


class BrokenPassError(Exception):
    """A pass was given, or left, what its contract rules out: a bug of edgec's, whatever the model is."""


@dataclass(frozen=True)
class Fact:
    """Something that holds of a model or doesn't."""

    text: str
    """What holds, as a sentence."""
    fault: Callable[[onnx_ir.Graph], str | None]
    """Return where it doesn't hold, in a few words; None if it holds."""


@dataclass(frozen=True)
class Pass:
    """A rewriting of a model, and what its neighbours may rely on."""

    rewrite: Callable[[onnx_ir.Model], onnx_ir.Model]
    """Takes a model and returns a new one that computes the same; the one that it takes stays as it is."""
    before: tuple[Fact, ...] = ()
    """What it relies on."""
    after: tuple[Fact, ...] = ()
    """What holds behind it, whatever held before. `SOUND` does behind every pass."""

    @property
    def name(self) -> str:
        """Name of the function, which is that of its file."""
        function: Any = self.rewrite.func if isinstance(self.rewrite, partial) else self.rewrite
        return str(function.__name__)


def unwatched(name: str, model: onnx_ir.Model) -> None:
    """Look at nothing: the default of `run`."""
    del name, model


def run(model: onnx_ir.Model, passes: Sequence[Pass], watch: Watch = unwatched) -> onnx_ir.Model:
    """Return what the passes make of a model, one after the other.

    Raises BrokenPassError where a contract doesn't hold, and whatever the passes raise.
    """
    for step in passes:
        _verify(f"in front of {step.name}", step.before, model.graph)
        model = step.rewrite(model)
        _verify(f"behind {step.name}", (SOUND, *step.after), model.graph)
        watch(step.name, model)
    return model


def _verify(where: str, facts: Sequence[Fact], graph: onnx_ir.Graph) -> None:
    for fact in facts:
        if fault := fact.fault(graph):
            raise BrokenPassError(f"{where} this must hold: {fact.text}. {fault}")


def _unsound(graph: onnx_ir.Graph) -> str | None:
    known: set[onnx_ir.Value] = {*graph.inputs, *graph.initializers.values()}
    names = {value.name for value in known}
    if len(names) < len(known):
        return "two inputs or constants have one name"
    for node in graph:
        for value in node.inputs:
            if value is not None and value not in known:
                return f"node '{node.name}' reads '{value.name}'"
        for output in node.outputs:
            if output.name and output.name in names:
                return f"node '{node.name}' computes '{output.name}' again"
            names.add(output.name)
        known.update(node.outputs)
    missing = next((value for value in graph.outputs if value not in known), None)
    return None if missing is None else f"output '{missing.name}' comes from nowhere"


SOUND = Fact("a value is computed once, under a name of its own, before anything reads it", _unsound)


def _unnamed(graph: onnx_ir.Graph) -> str | None:
    seen: set[str] = set()
    for node in graph.all_nodes():
        if not node.name or node.name in seen:
            return f"a node {node.op_type} is called '{node.name or ''}'"
        seen.add(node.name)
    return None


NAMED = Fact("every node has a name of its own", _unnamed)


def _open_input(graph: onnx_ir.Graph) -> str | None:
    return next((f"input '{v.name}' has none" for v in graph.inputs if shape_of(v) is None), None)


def _open_value(graph: onnx_ir.Graph) -> str | None:
    values = [*graph.inputs, *(output for node in graph for output in node.outputs if output.name)]
    return next((f"'{v.name}' has none" for v in values if shape_of(v) is None or v.dtype is None), None)


STATIC_INPUTS = Fact("every input has a static shape", _open_input)
STATIC = Fact("every value has a static shape and a type", _open_value)

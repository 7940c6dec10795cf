"""The ONNX project's own models, each with inputs and the outputs that ONNX says they have."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

KINDS = ("simple", "pytorch-operator", "pytorch-converted")
"""Folders of the onnx package; models of single nodes, by far the most, are made when they are asked for."""


@dataclass(frozen=True, eq=False)
class Case:
    """A model and what it computes. A value that is no tensor (a sequence, say) is kept as ONNX has it."""

    name: str
    model: onnx.ModelProto
    data: tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...]
    """Inputs and outputs of every inference, in the model's order."""


def cases() -> tuple[Case, ...]:
    """Return all models, by name."""
    np.random.seed(0)  # some of the data are drawn when they are made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests, load_node_model_tests

        made = [_made(case) for case in load_node_model_tests()]
    stored = [_stored(Path(case.model_dir)) for kind in KINDS for case in load_model_tests(kind=kind)]
    return tuple(sorted([*made, *stored], key=lambda case: case.name))


def _made(case: Any) -> Case:
    data = [(tuple(map(_value, inputs)), tuple(map(_value, outputs))) for inputs, outputs in case.data_sets]
    return Case(case.name, case.model, tuple(data))


def _stored(folder: Path) -> Case:
    model = onnx.load(folder / "model.onnx")
    data = []
    for one in sorted(folder.glob("test_data_set_*")):
        inputs = tuple(_read(one / f"input_{i}.pb", v.type) for i, v in enumerate(model.graph.input))
        outputs = tuple(_read(one / f"output_{i}.pb", v.type) for i, v in enumerate(model.graph.output))
        data.append((inputs, outputs))
    return Case(folder.name, model, tuple(data))


def _read(path: Path, kind: onnx.TypeProto) -> Any:
    """Return a value's file; None where there is none, as an input with a default needs none."""
    if not path.exists():
        return None
    which = kind.WhichOneof("value")
    proto = {"sequence_type": onnx.SequenceProto, "optional_type": onnx.OptionalProto}.get(
        which or "", onnx.TensorProto
    )()
    proto.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(proto) if which == "tensor_type" else proto


def _value(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return value if value is None or isinstance(value, list | tuple) else np.asarray(value)

"""What a tuning record is of: all of a layer that its time depends on, as text."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from edgec.kernels.isa.x86 import AVX2BYTES
from edgec.kernels.operations import ARGUMENTS, FREE, Conv2d, Demands, Operation

_SHAPES = frozenset({"residual", "tables", "weights"})
"""Arguments that a layer may have or not have, or whose shape says what it does."""


def _small(operation: Operation) -> bool:
    """Whether the one product applies that isn't exact for all weights: such layers have a choice more."""
    return isinstance(operation, Conv2d) and operation.groups == 1 and AVX2BYTES.accepts(operation.weights)


WEIGHTS: dict[str, Callable[[Operation], bool]] = {"small": _small}
"""Classes of weights that change which code is fastest: all that a signature says of their values."""


def signature(operation: Operation, demands: Demands) -> str:
    """Return type, shapes, strides, ... of an operation, the classes of its weights, and what is demanded."""
    classes = (f"{name} weights" for name, holds in WEIGHTS.items() if holds(operation))
    return " ".join([_text(operation), *classes, *([] if demands == FREE else [_text(demands)])])


def _fields(value: Any) -> str:
    parts = []
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        free = content is None or (isinstance(value, Demands) and content == field.default)
        if field.name not in ARGUMENTS - _SHAPES and not isinstance(content, float) and not free:
            parts.append(f"{field.name}={_text(content)}")
    return " ".join(parts)


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, tuple):
        return f"[{','.join(_text(item) for item in value if not isinstance(item, float))}]"
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}({_fields(value)})"
    return str(value)

"""What stays in float and no kernel computes."""

from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Island:
    """A part of the model that stays in float: an ONNX model of its own, lowered by Relax.

    Its result has a stated tolerance against ONNX Runtime instead of exactness.
    """

    model: bytes
    """Serialized ONNX model: nodes and shapes as the user's model has them. Its inputs and outputs are in the
    order of the operator's."""
    order: tuple[int, ...] | None = None
    """How all its tensors lie: their axes, outermost first. None: row-major, each with axes of its own."""

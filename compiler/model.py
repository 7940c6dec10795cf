"""A model between the stages of compression: an ONNX graph with static shapes, and what is known of it."""

from dataclasses import dataclass

import onnx_ir

from edgec.compiler.provenance import Provenance
from edgec.errors import ModelError


@dataclass(frozen=True, eq=False)
class Model:
    """An ONNX graph whose shapes are all static, with its origin."""

    ir: onnx_ir.Model
    """Treated as a value: a pass clones it before it changes anything."""
    name: str
    """Stem of the source file's name."""
    source_name: str
    """File name of the model as given, without its folder."""
    source_sha256: str
    """Hash of that file's bytes."""
    source_nodes: int
    """Nodes it had before normalization."""
    original: bytes
    """The model as it was given, in one file, with its inputs' shapes: what outputs are compared with."""
    widened: bool = False
    """Whether it has float16, which is computed in float32."""
    calibration: Provenance | None = None
    """None until the model was quantized."""

    @property
    def opset(self) -> int:
        """Version of the standard ONNX operator set."""
        return self.ir.opset_imports[""]


def is_qdq(model: Model) -> bool:
    """Whether the model comes quantized: some value goes through QuantizeLinear or DequantizeLinear."""
    return has_qdq(model.ir.graph)


def has_qdq(graph: onnx_ir.Graph) -> bool:
    """Whether some value of a graph goes through QuantizeLinear or DequantizeLinear."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph)


def serialize(model: Model) -> bytes:
    """Return the model as ONNX bytes; equal models give equal bytes.

    Raises ModelError when it is larger than protobuf's 2 GiB.
    """
    return encoded(model.ir, model.source_name)


def encoded(model: onnx_ir.Model, name: str) -> bytes:
    """Return a graph as ONNX bytes; equal ones give equal bytes.

    Raises ModelError, with its name in front, when it is larger than protobuf's 2 GiB.
    """
    try:
        serialized: bytes = onnx_ir.to_proto(model).SerializeToString(deterministic=True)
    except ValueError as error:
        raise ModelError(f"{name}: larger than ONNX's 2 GiB per file") from error
    return serialized

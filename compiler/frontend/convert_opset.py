"""Bring a model to an operator set with per-channel quantization."""

import onnx
import onnx_ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass

from edgec.compiler.frontend.facts import MINIMUM_OPSET
from edgec.compiler.frontend.malformed import malformed, reason
from edgec.errors import ModelError

_IR_VERSION = 7
"""The version of files that opset 13 belongs to."""


def convert_opset(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with its functions inlined, at opset 13 or the later one it came with.

    Raises ModelError when an operator can't be converted, naming it, or the opset isn't known yet.
    """
    model = model.clone()
    with malformed("a function can't be inlined"):
        InlinePass()(model)
    opset = model.opset_imports.get("")
    if opset is not None and opset > onnx.defs.onnx_opset_version():
        newest = onnx.defs.onnx_opset_version()
        raise ModelError(f"opset {opset} is newer than {newest}, the last that package onnx knows here")
    if opset is None or opset >= MINIMUM_OPSET:
        model.opset_imports.setdefault("", MINIMUM_OPSET)
        return model
    proto = _proto(model)
    try:
        converted = onnx_ir.from_proto(_converted(proto, MINIMUM_OPSET))
    except Exception as error:  # the converter raises RuntimeError, ConvertError and what C++ does
        raise ModelError(
            f"{_culprit(proto)}opset {opset} can't be converted to {MINIMUM_OPSET} ({reason(error)}); "
            f"export the model with opset {MINIMUM_OPSET} or later"
        ) from error
    converted.metadata_props.update(model.metadata_props)
    return converted


def at_opset(model: onnx_ir.Model, opset: int) -> onnx_ir.Model | None:
    """Return a model at a later opset, its constants initializers; None where onnx can't convert it."""
    try:
        converted = onnx_ir.from_proto(_converted(_proto(model), opset))
    except Exception:  # as above
        return None
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(converted)
    converted.metadata_props.update(model.metadata_props)
    return converted


def _proto(model: onnx_ir.Model) -> onnx.ModelProto:
    """Return a model for the converter, which looks for constants among inputs in files of version 3."""
    model.ir_version = max(model.ir_version, _IR_VERSION)
    return onnx_ir.to_proto(model)


def _converted(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    converted: onnx.ModelProto = onnx.version_converter.convert_version(proto, opset)
    return converted


def _culprit(proto: onnx.ModelProto) -> str:
    """Return `node 'name' (Operator): ` of the first node that can't be converted alone, if there is one."""
    values = (*proto.graph.input, *proto.graph.value_info, *proto.graph.output)
    types = {value.name: value for value in values}
    for node in proto.graph.node:
        inputs = [types.get(name, onnx.ValueInfoProto(name=name)) for name in node.input if name]
        outputs = [types.get(name, onnx.ValueInfoProto(name=name)) for name in node.output if name]
        alone = onnx.helper.make_graph([node], "node", inputs, outputs)
        try:
            alone_model = onnx.helper.make_model(
                alone, opset_imports=proto.opset_import, ir_version=_IR_VERSION
            )
            _converted(alone_model, MINIMUM_OPSET)
        except Exception:
            return f"node '{node.name}' ({node.op_type}): "
    return ""

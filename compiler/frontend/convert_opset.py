"""Bring a model to an operator set with per-channel quantization."""

import onnx
import onnx_ir
from onnx_ir.passes.common import InlinePass

from edgec.errors import ModelError

MINIMUM_OPSET = 13
"""The first whose DequantizeLinear has an axis, as per-channel weights need."""

_IR_VERSION = 7
"""The version of files that opset 13 belongs to."""


def convert_opset(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return the model with its functions inlined, at opset 13 or the later one it came with.

    Raises ModelError when an operator can't be converted.
    """
    model = model.clone()
    InlinePass()(model)
    opset = model.opset_imports.get("")
    if opset is None or opset >= MINIMUM_OPSET:
        model.opset_imports.setdefault("", MINIMUM_OPSET)
        return model
    # In files of version 3 the converter looks for constants among the inputs, where fix_shapes left none.
    model.ir_version = max(model.ir_version, _IR_VERSION)
    try:
        converted = onnx_ir.from_proto(
            onnx.version_converter.convert_version(onnx_ir.to_proto(model), MINIMUM_OPSET)
        )
    except (RuntimeError, onnx.version_converter.ConvertError) as error:
        raise ModelError(
            f"opset {opset} can't be converted to {MINIMUM_OPSET} ({' '.join(str(error).split())}); "
            f"export the model with opset {MINIMUM_OPSET} or later"
        ) from error
    converted.metadata_props.update(model.metadata_props)
    return converted

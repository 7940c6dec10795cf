"""The model as it was given, in one file, to compare a build with: nothing of it is normalized."""

from collections.abc import Mapping
from pathlib import Path

import onnx
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]  # no stubs

from edgec.errors import ModelError


def as_given(path: Path, content: bytes, shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """Return the bytes of the ONNX file at `path`, external data brought in, shapes fixed that `shapes` has.

    `content` is what was read of it, and must be a valid model. Raises ModelError where the whole is larger
    than protobuf's 2 GiB.
    """
    model = onnx.load_from_string(content)
    external = any(
        tensor.data_location == onnx.TensorProto.EXTERNAL
        for tensor in onnx.external_data_helper._get_all_tensors(model)
    )
    if not external and not shapes:
        return content
    if external:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    for value in model.graph.input:
        if value.name in shapes:
            fixed = value.type.tensor_type.shape
            del fixed.dim[:]
            fixed.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=n) for n in shapes[value.name])
    if shapes:  # what the exporter noted for other input shapes
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except (ValueError, EncodeError) as error:
        raise ModelError(f"{path.name}: larger than ONNX's 2 GiB per file") from error

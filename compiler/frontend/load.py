"""From a file to a normalized Model."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs
from onnx_ir.external_data import load_to_model

from edgec import files
from edgec.compiler.frontend.convert_opset import convert_opset
from edgec.compiler.frontend.decompose_batch_norm import decompose_batch_norm
from edgec.compiler.frontend.explicit_pads import explicit_pads
from edgec.compiler.frontend.facts import EXPLICIT_PADS, ONE_GEMM, OPSET
from edgec.compiler.frontend.fix_shapes import fix_shapes
from edgec.compiler.frontend.fold.fold_affine import fold_affine
from edgec.compiler.frontend.fold.fold_constants import fold_constants
from edgec.compiler.frontend.fold.fold_empty import fold_empty
from edgec.compiler.frontend.fold.fold_pad import fold_pad
from edgec.compiler.frontend.given.as_given import as_given
from edgec.compiler.frontend.given.check_interface import check_interface
from edgec.compiler.frontend.given.check_tensors import check_tensors
from edgec.compiler.frontend.idioms.recognize_group_norm import recognize_group_norm
from edgec.compiler.frontend.idioms.recognize_normalization import recognize_normalization
from edgec.compiler.frontend.idioms.separate_skips import separate_skips
from edgec.compiler.frontend.infer_shapes import infer_shapes
from edgec.compiler.frontend.malformed import malformed
from edgec.compiler.frontend.merge_duplicates import merge_duplicates
from edgec.compiler.frontend.name_nodes import name_nodes
from edgec.compiler.frontend.normalize_gemm import normalize_gemm
from edgec.compiler.frontend.qdq.dequantize_codes import dequantize_codes
from edgec.compiler.frontend.qdq.one_scale import one_scale
from edgec.compiler.frontend.qdq.positive_scales import positive_scales
from edgec.compiler.frontend.qdq.quantize_between import quantize_between
from edgec.compiler.frontend.qdq.standard_qdq import standard_qdq
from edgec.compiler.frontend.qdq.write_as_qdq import write_as_qdq
from edgec.compiler.frontend.widen_half import holds_half, widen_half
from edgec.compiler.frontend.write_conv_transpose import write_conv_transpose
from edgec.compiler.frontend.write_matmul import write_matmul
from edgec.compiler.frontend.write_recurrent import write_recurrent
from edgec.compiler.model import Model
from edgec.compiler.passes import NAMED, STATIC_INPUTS, Pass, Watch, run, unwatched
from edgec.errors import ModelError, printable

_LIMIT = 2 * files.GIBIBYTE
"""Bytes of a file in ONNX's format; larger weights lie beside it."""

PASSES: tuple[Pass, ...] = (
    Pass(name_nodes, before=(STATIC_INPUTS,), after=(NAMED,)),
    Pass(standard_qdq),
    Pass(convert_opset, after=(OPSET,)),
    Pass(separate_skips),
    Pass(infer_shapes),
    Pass(fold_empty),
    Pass(fold_constants),
    Pass(write_as_qdq),
    Pass(infer_shapes),
    Pass(dequantize_codes),
    Pass(widen_half),
    Pass(recognize_normalization),
    Pass(recognize_group_norm),
    Pass(write_recurrent),
    Pass(infer_shapes),
    Pass(explicit_pads, after=(EXPLICIT_PADS,)),
    Pass(decompose_batch_norm),
    Pass(write_matmul),
    Pass(normalize_gemm, after=(ONE_GEMM,)),
    Pass(one_scale, before=(ONE_GEMM,), after=(ONE_GEMM,)),
    Pass(fold_affine, before=(ONE_GEMM,), after=(ONE_GEMM,)),
    Pass(fold_pad),
    Pass(write_conv_transpose),
    Pass(fold_constants),
    Pass(merge_duplicates),
    Pass(positive_scales),
    Pass(quantize_between),
    Pass(name_nodes, after=(NAMED,)),
    Pass(infer_shapes, after=(STATIC_INPUTS, NAMED, OPSET)),
)
"""In order. What holds behind the last one is what all later stages rely on."""


def load(path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None, watch: Watch = unwatched) -> Model:
    """Read an ONNX or .tflite file and normalize it; `shapes` fixes inputs with dynamic dimensions.

    What a .tflite file gives for the original is the ONNX model that it is converted to. `watch` sees the
    model behind every pass. Raises ModelError when the file or its external data can't be
    read, an input's shape stays dynamic, or the graph contradicts itself.
    """
    raw = files.read(path, ModelError, _LIMIT)
    content = _converted(path, raw) if _is_tflite(path) else raw
    source = _read(path, content)
    try:
        graph = run(fix_shapes(source, shapes or {}), PASSES, watch)
    except ModelError as error:
        raise ModelError(f"{path.name}: {error}") from error
    return Model(
        ir=graph,
        name=path.stem,
        source_name=path.name,
        source_sha256=hashlib.sha256(raw).hexdigest(),
        source_nodes=len(source.graph),
        original=as_given(path, content, shapes or {}),
        widened=holds_half(source),
    )


def _is_tflite(path: Path) -> bool:
    return path.suffix.lower() == ".tflite"


def _converted(path: Path, raw: bytes) -> bytes:
    """Return the ONNX model of a .tflite file. Raises ModelError."""
    from edgec.compiler.frontend.tflite.convert import (
        convert,
    )  # its schema's 200 modules load for these alone

    try:
        return bytes(convert(raw).SerializeToString(deterministic=True))
    except ModelError as error:
        raise ModelError(f"{path.name}: {error}") from error


def _read(path: Path, raw: bytes) -> onnx_ir.Model:
    """Parse the file's content and load its external data.

    Raises ModelError.
    """
    if printable(str(path)) != str(path):  # onnx takes no name that isn't UTF-8
        raise ModelError(f"{path}: rename the file: no control characters, and UTF-8")
    try:
        proto = onnx.load_from_string(raw)
    except DecodeError as error:
        raise ModelError(f"{path.name}: not an ONNX file, or a damaged one") from error
    with malformed(f"{path.name}: not a valid ONNX model"):
        onnx.checker.check_model(proto if _is_tflite(path) else path, full_check=False)
    try:
        check_tensors(proto)
        check_interface(proto)
    except ModelError as error:
        raise ModelError(f"{path.name}: {error}") from error
    with malformed(f"{path.name}: not a valid ONNX model"):
        model = onnx_ir.from_proto(proto)
        onnx_ir.external_data.set_base_dir(model.graph, path.parent)
    with malformed(f"{path.name}: external data can't be read"):
        return load_to_model(model)

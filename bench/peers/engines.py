"""The engines edgec is compared with: how each makes its int8 model, loads a model, and runs it.

All of them work in processes of their own (`worker.py`), so that a library's threads and environment meet no
other's. A package that isn't installed is never imported.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgec.arrays import Array
from edgec.kernels.reference import oracle
from edgec.targets.descriptor import Precision

Sample = dict[str, Array]
"""One array per input of the model, by name."""


@dataclass(frozen=True)
class Session:
    """A loaded model."""

    infer: Callable[[], object]
    """One inference on the first sample, with as little Python around the engine as its interface allows."""
    outputs: Callable[[Sample], list[Array]]
    """What the engine computes for a sample."""


@dataclass(frozen=True)
class Engine:
    """One engine in one precision."""

    name: str
    precision: Precision
    """int8 or fp32."""
    package: str
    """The distribution whose version is reported."""
    modules: tuple[str, ...]
    """What it imports."""
    model: str
    """What it starts from: `given` (the user's file), `float` (with static shapes, opset 13 or later), `qdq`
    (what edgec made of it), or `int8.tflite` or `fp32.tflite` where such a file lies beside the user's."""
    load: Callable[[Path, int, Sample], Session]
    """File, threads, first sample -> session."""
    quantize: Callable[[Path, Sequence[Sample], Path], Path] | None = None
    """Model, calibration samples, folder -> the int8 model that it loads then."""
    isa_variables: tuple[str, ...] = ()
    """Environment variables that limit its instruction set; none where it has no such switch."""

    @property
    def installed(self) -> bool:
        """Whether everything it imports is there."""
        return all(importlib.util.find_spec(module.partition(".")[0]) for module in self.modules)


def _onnxruntime(model: Path, threads: int, first: Sample) -> Session:
    """Return ONNX Runtime with all optimizations on, inputs and outputs bound once: no run copies them."""
    onnxruntime = oracle.runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, array in first.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return Session(
        lambda: session.run_with_iobinding(binding), lambda sample: list(session.run(None, sample))
    )


def _quantized_by_onnxruntime(model: Path, samples: Sequence[Sample], folder: Path) -> Path:
    """Return the QDQ model of ONNX Runtime's own quantizer: uint8 by int8 per channel, fast on x86."""
    oracle.runtime()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples = iter(samples)

        def get_next(self) -> Sample | None:
            return next(self.samples, None)

    prepared, output = folder / "prepared.onnx", folder / "u8s8.onnx"
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        output,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return output


def _openvino(model: Path, threads: int, first: Sample) -> Session:
    """Return OpenVINO with its latency hint, as its documentation advises for one request at a time.

    Float models run in float32: on CPUs with bfloat16 OpenVINO would round to that by default. What float is
    left in an int8 model may do so.
    """
    import openvino

    network = openvino.Core().read_model(model)
    network.reshape({name: list(array.shape) for name, array in first.items()})
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if model.suffix == ".onnx":
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    request = openvino.Core().compile_model(network, "CPU", settings).create_infer_request()
    for name, array in first.items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def outputs(sample: Sample) -> list[Array]:
        return [np.array(array) for array in request.infer(sample).values()]

    return Session(lambda: request.infer(share_inputs=True, share_outputs=True), outputs)


def _quantized_by_nncf(model: Path, samples: Sequence[Sample], folder: Path) -> Path:
    """Return NNCF's int8 model (post-training quantization, its defaults)."""
    import nncf
    import openvino

    network = openvino.Core().read_model(model)
    network.reshape({name: list(array.shape) for name, array in samples[0].items()})
    quantized = nncf.quantize(network, nncf.Dataset(list(samples)), subset_size=len(samples))
    output = folder / "nncf.xml"  # OpenVINO's own format
    openvino.save_model(quantized, output, compress_to_fp16=False)
    return output


def _litert(model: Path, threads: int, first: Sample) -> Session:
    """Return LiteRT with its default, XNNPACK; samples are converted to the file's own types and scales."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model), num_threads=threads)
    interpreter.allocate_tensors()
    inputs, results = interpreter.get_input_details(), interpreter.get_output_details()

    def place(sample: Sample) -> None:
        for detail, array in zip(inputs, sample.values(), strict=True):
            interpreter.set_tensor(detail["index"], quantized(detail, array.reshape(detail["shape"])))

    def outputs(sample: Sample) -> list[Array]:
        place(sample)
        interpreter.invoke()
        return [dequantized(detail, interpreter.get_tensor(detail["index"])) for detail in results]

    place(first)
    return Session(interpreter.invoke, outputs)


def quantized(detail: dict[str, Any], array: Array) -> Array:
    """Return floats as LiteRT's tensor of `detail` takes them: by its scale and zero point, if it has any."""
    scale, zero_point = detail["quantization"]
    if not scale:
        return array.astype(detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    integers: Array = np.clip(np.rint(array / scale) + zero_point, limits.min, limits.max)
    return integers.astype(detail["dtype"])


def dequantized(detail: dict[str, Any], array: Array) -> Array:
    """Return what LiteRT's tensor of `detail` stands for, in floats."""
    scale, zero_point = detail["quantization"]
    return (array.astype(np.float32) - np.float32(zero_point)) * np.float32(scale) if scale else array


_ORT = Engine("ORT float", "fp32", "onnxruntime", ("onnxruntime",), "given", _onnxruntime)
_OPENVINO = Engine(
    "OpenVINO float",
    "fp32",
    "openvino",
    ("openvino",),
    "given",
    _openvino,
    isa_variables=("ONEDNN_MAX_CPU_ISA",),
)
_LITERT = Engine("LiteRT float", "fp32", "ai-edge-litert", ("ai_edge_litert",), "fp32.tflite", _litert)

PEERS = (
    replace(_ORT, name="ORT u8s8", precision="int8", model="float", quantize=_quantized_by_onnxruntime),
    replace(_ORT, name="ORT s8s8", precision="int8", model="qdq"),
    replace(
        _OPENVINO,
        name="OpenVINO int8",
        precision="int8",
        modules=("openvino", "nncf"),
        quantize=_quantized_by_nncf,
    ),
    replace(_LITERT, name="LiteRT int8", precision="int8", model="int8.tflite"),
    _ORT,
    _OPENVINO,
    _LITERT,
)
"""Every peer, in the order of the tables."""

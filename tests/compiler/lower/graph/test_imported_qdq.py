"""Models that other tools quantized: onnxruntime.quantization in its variants and in both its forms."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)

from edgec.compiler.frontend.load import load
from edgec.compiler.lower.graph.check import check
from edgec.compiler.lower.graph.integer import integer
from edgec.kernels.operations import Network
from edgec.targets import loader
from tests.compiler import onnx_models
from tests.compiler.building import build, verified
from tests.compiler.lowering_cases import NETWORKS, Case
from tests.compiler.onnx_models import SHARED, Arrays

SIGNED = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8}
UNSIGNED = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8}

VARIANTS: dict[str, dict[str, Any]] = {
    "s8s8": SIGNED,
    "u8s8": SIGNED | {"activation_type": QuantType.QUInt8},
    "u8u8": UNSIGNED,
    "s8s8 per channel": SIGNED | {"per_channel": True},
    "s8s8 per channel, 7 bits": SIGNED | {"per_channel": True, "reduce_range": True},
    "weights with zero points": UNSIGNED | {"extra_options": {"WeightSymmetric": False}},
    "symmetric activations": SIGNED | {"extra_options": {"ActivationSymmetric": True}},
    "float biases": SIGNED | {"per_channel": True, "extra_options": {"QuantizeBias": False}},
    "a pair for every reader": SIGNED | {"extra_options": {"DedicatedQDQPair": True}},
    "its own operator set": SIGNED | {"extra_options": {"UseQDQContribOps": True}},
}
"""Options of quantize_static."""


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: list[Arrays]) -> None:
        self._batches: Iterator[Arrays] = iter(batches)

    def get_next(self) -> Arrays | None:
        return next(self._batches, None)


def quantized(
    path: Path, options: dict[str, Any], folder: Path, form: QuantFormat = QuantFormat.QDQ
) -> tuple[Path, list[Arrays]]:
    """The model as onnxruntime.quantization writes it, and the samples that it saw."""
    batches = [onnx_models.samples(onnx.load(path), seed) for seed in range(4)]
    prepared, result = folder / "prepared.onnx", folder / f"{form.name}.onnx"
    logging.disable(logging.WARNING)
    try:
        quant_pre_process(str(path), str(prepared))
        quantize_static(prepared, result, _Samples(batches), quant_format=form, **options)
    finally:
        logging.disable(logging.NOTSET)
    return result, batches


def lowered(path: Path) -> Network:
    model = load(path)
    check(model, loader.load("arm64-int8"))
    return integer(model)


def saved(case: Case, folder: Path) -> Path:
    path = folder / "float.onnx"
    onnx.save(onnx_models.model(case.graph, case.constants, case.opset), path)
    return path


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_small_networks_equal_onnx_runtime(variant: str, name: str, tmp_path: Path) -> None:
    path, batches = quantized(saved(NETWORKS[name], tmp_path), VARIANTS[variant], tmp_path)
    network = lowered(path)
    assert not onnx_models.islands(network)
    for inputs in batches[:2]:
        ours = onnx_models.run_network(network, inputs)
        found = onnx_models.difference(network, ours, onnx_models.run_onnx(onnx.load(path), inputs))
        assert found.steps <= 1
        assert found.share <= 0.02


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("variant", ["u8u8", "s8s8 per channel"])
def test_operators_on_integers_are_the_same_layers(variant: str, name: str, tmp_path: Path) -> None:
    path = saved(NETWORKS[name], tmp_path)
    check_equal_in_both_forms(path, VARIANTS[variant], tmp_path)


def check_equal_in_both_forms(path: Path, options: dict[str, Any], folder: Path) -> None:
    """QOperator is lowered to the operations of its QDQ twin, and computes what ONNX Runtime does."""
    made, batches = quantized(path, options, folder, QuantFormat.QOperator)
    twin, _ = quantized(path, options, folder, QuantFormat.QDQ)
    assert any(node.op_type.startswith("QLinear") for node in onnx.load(made).graph.node)
    network = lowered(made)
    assert not onnx_models.islands(network)
    assert onnx_models.operations(network) == onnx_models.operations(lowered(twin))
    for inputs in batches[:2]:
        ours = onnx_models.run_network(network, inputs)
        found = onnx_models.difference(network, ours, onnx_models.run_onnx(onnx.load(made), inputs))
        assert found.steps <= 1
        assert found.share <= 0.02


@pytest.mark.parametrize("variant", ["s8s8 per channel", "weights with zero points"])
def test_what_was_imported_builds_and_runs_bit_for_bit(variant: str, tmp_path: Path) -> None:
    path, batches = quantized(saved(NETWORKS["squeeze and excite"], tmp_path), VARIANTS[variant], tmp_path)
    bundle = build(path, tmp_path)
    assert bundle.manifest.model.calibration.kind == "qdq"
    found = verified(bundle, data={key: np.stack([batch[key] for batch in batches]) for key in batches[0]})
    assert found.exact_layers == len(bundle.steps)


def test_seven_bit_weights_are_multiplied_as_bytes_by_avx2(tmp_path: Path) -> None:
    """ONNX Runtime's `reduce_range`: no pair of products can saturate, which 8 bits don't prove."""
    kernels = []
    for variant in ("s8s8 per channel, 7 bits", "s8s8 per channel"):
        folder = tmp_path / variant
        folder.mkdir()
        path, batches = quantized(saved(NETWORKS["squeeze and excite"], folder), VARIANTS[variant], folder)
        bundle = build(path, folder, "x86-64-v3-int8")
        verified(bundle, data={key: np.stack([batch[key] for batch in batches]) for key in batches[0]})
        kernels.append({step.kernel for step in bundle.levels["x86-64-v3"].kernels})
    used = [("conv2d_avx2bytes" in names, "conv2d_avx2" in names) for names in kernels]
    assert used == [(True, False), (False, True)]


REAL = ("mlperf_kws_dscnn", "mlperf_ic_resnet8")


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("variant", VARIANTS)
def test_real_networks_equal_onnx_runtime(variant: str, name: str, tmp_path: Path) -> None:
    path = SHARED / f"models/{name}.onnx"
    if not path.exists():
        pytest.skip("no shared models")
    path, batches = quantized(path, VARIANTS[variant], tmp_path)
    network = lowered(path)
    assert not onnx_models.islands(network)
    ours = onnx_models.run_network(network, batches[0])
    found = onnx_models.difference(network, ours, onnx_models.run_onnx(onnx.load(path), batches[0]))
    # A float bias is rounded to a step of its layer's sums, which ONNX Runtime's float convolution is not.
    assert found.steps <= (3 if variant == "float biases" else 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("variant", ["u8u8", "s8s8 per channel"])
def test_real_networks_are_the_same_in_both_forms(variant: str, name: str, tmp_path: Path) -> None:
    path = SHARED / f"models/{name}.onnx"
    if not path.exists():
        pytest.skip("no shared models")
    check_equal_in_both_forms(path, VARIANTS[variant], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["u8u8", "s8s8 per channel", "symmetric activations"])
@pytest.mark.parametrize("name", REAL)
def test_real_networks_build_and_run_bit_for_bit(variant: str, name: str, tmp_path: Path) -> None:
    path = SHARED / f"models/{name}.onnx"
    if not path.exists():
        pytest.skip("no shared models")
    path, batches = quantized(path, VARIANTS[variant], tmp_path)
    verified(build(path, tmp_path), data=batches[1])

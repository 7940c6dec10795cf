"""Real models: the same bytes from every instruction set, on this machine and on emulated ones.

Each is quantized once, on synthetic inputs, and built for every target. Golden checksums, one per layer, are
the reference's, and `verify` compares every layer of a run with the reference.
"""

from pathlib import Path

import pytest

from edgec.bench.bundle import Bundle
from edgec.bench.measure.benchmark import benchmark
from edgec.targets.detect import host_arch
from tests.compiler.building import build, checksums, verified
from tests.compiler.onnx_models import SHARED

pytestmark = pytest.mark.slow

TARGETS = ("x86-64-int8", "cortex-a53-int8", "rpi4-int8", "rpi5-int8")
"""All levels that this machine has from SSE2 on, NEON scheduled in order and out of order, dotprod."""

MODELS = {
    "mlperf_kws_dscnn": 20.0,
    "mlperf_ic_resnet8": 20.0,
    "fmnist_dscnn": 20.0,
    "efficientnet_lite0": 10.0,
    "fastestdet_coco": 10.0,
}
"""Least SQNR in dB against the float model, on inputs that are noise."""


INSTRUCTIONS = {
    ("mlperf_kws_dscnn", "rpi5-int8"): 0.38e6,
    ("mlperf_kws_dscnn", "rpi4-int8"): 0.835e6,
    ("mlperf_ic_resnet8", "rpi5-int8"): 1.124e6,
    ("mlperf_ic_resnet8", "rpi4-int8"): 2.15e6,
    ("efficientnet_lite0", "rpi5-int8"): 48.6e6,
    ("efficientnet_lite0", "rpi4-int8"): 115.6e6,
}
"""Most that an inference may execute: a little more than when this was written, and 25 % fewer than the
better of ONNX Runtime and LiteRT, or less."""

Bundles = dict[str, Bundle]
"""By model: the first that was built."""


@pytest.fixture(scope="module")
def firsts() -> Bundles:
    return {}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_real_models_are_exact(name: str, target: str, firsts: Bundles, tmp_path: Path) -> None:
    path = SHARED / f"models/{name}.onnx"
    if not path.exists():
        pytest.skip("no shared models")
    if target.startswith("x86") and host_arch() != "x86-64":
        pytest.skip("x86 isn't emulated")
    source = firsts[name].file("model.onnx") if name in firsts else path
    bundle = build(source, tmp_path, target, name=name)
    first = firsts.setdefault(name, bundle)
    assert not bundle.manifest.islands
    sums, others = checksums(bundle), checksums(first)
    # Which layers are one step depends on the target's caches: the rest of their tensors aren't stored.
    assert all(sums[tensor] == others[tensor] for tensor in sums.keys() & others.keys())
    assert {output.name for output in bundle.outputs} <= sums.keys() & others.keys()
    assert None not in sums.values()
    found = verified(bundle)
    assert found.exact_layers == len(bundle.steps)
    if (name, target) in INSTRUCTIONS:
        instructions = benchmark(bundle, bundle.device("emulator")).instructions
        assert instructions is not None
        assert instructions <= INSTRUCTIONS[name, target]
    if bundle is first:
        assert all((output.sqnr_db or 0) > MODELS[name] for output in found.accuracy.outputs)

"""The machine's peak and the roofline."""

from pathlib import Path

import numpy as np
import pytest

from edgec.bench.measure.measurement import Layer, Measurement, Memory
from edgec.bench.measure.peak import Peak, measure_peak
from edgec.bench.report import plot
from edgec.errors import DataError, DeviceError, PackageError
from edgec.kernels import cost, peak
from edgec.kernels.table import KERNELS
from edgec.targets import detect, loader

NO_CLOCK = ("arm-m", "riscv32")
PEAK = Peak({"avx2": 80.0}, memory_gbytes=10.0)
LAYERS = (
    Layer("a", "conv2d_avx2", 40_000_000, 1_000_000, ms=1.0),
    Layer("b", "depthwise_avx2", 1_000_000, 1_000_000, ms=1.0),
    Layer("c", "quantize", 0, 1_000, ms=0.1),
)


def measurement(found: Peak | None) -> Measurement:
    conditions = {"target": "x86-64-v3-int8"}
    memory = Memory(0, 0, 0, None, {})
    return Measurement("toy", "local", "CPU", "level", 1, 1, LAYERS, memory, conditions, peak=found)


def test_every_product_kernel_has_a_peak() -> None:
    known = {isa.name for isa in cost.INSTRUCTION_SETS}
    named = {
        kernel.name.rpartition("_")[2]
        for kernel in KERNELS
        if kernel.name.startswith(("conv2d_", "depthwise_")) and kernel.arch not in NO_CLOCK
    }
    # Forms of the portable kernel, the last three of them for cores without a clock.
    assert named - known <= {"wide", "fixed", "unrolled", "plain"}


@pytest.mark.parametrize(
    "target", ["x86-64-v3-int8", "x86-64-int8", "rpi5-int8", "rpi4-int8", "cortex-a53-int8"]
)
def test_benchmarks_need_no_more_than_the_target_has(target: str) -> None:
    described = loader.load(target)
    found = list(peak.probes(described))
    sets = {isa.name: isa.features for isa in cost.INSTRUCTION_SETS}
    names = {probe.name for probe in found} - {"fp32", "memory"}
    assert "generic" in names
    assert all(sets[name] <= described.features for name in names)
    for probe in found:
        assert probe.work > 0
        assert sum(array.nbytes for array in probe.inputs[:2]) < 2**15 or probe.name in ("fp32", "memory")


def test_operands_are_no_zeros() -> None:
    """Some processors take less power, and run faster, for zeros."""
    probes = list(peak.probes(loader.load(f"{detect.host_arch()}-int8")))
    assert all(np.any(array) for probe in probes for array in probe.inputs)
    assert any(probe.inputs for probe in probes)


@pytest.mark.slow
def test_this_machine_has_a_peak() -> None:
    found = measure_peak(loader.load(f"{detect.host_arch()}-int8"))
    assert found.gmacs.keys() >= {"generic", "fp32"}
    assert all(rate > 0.1 for rate in found.gmacs.values())
    assert max(found.gmacs.values()) > found.gmacs["generic"]
    assert 0.1 < found.memory_gbytes < 10_000


def test_kernels_are_judged_by_the_instruction_set_in_their_name() -> None:
    assert PEAK.set_of("conv2d_avx2") == "avx2"
    assert PEAK.set_of("quantize") is None
    assert PEAK.set_of("island") is None
    both = Peak({"avx2": 80.0, "fp32": 40.0}, 1.0)
    assert both.set_of("island") == both.set_of("float_conv2d_avx2") == "fp32"


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_roofline_is_drawn(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'plot' isn't installed")
    path = tmp_path / f"roofline{suffix}"
    plot.check(path)
    plot.draw(measurement(PEAK), path)
    assert path.stat().st_size > 1000
    with pytest.raises(DeviceError, match="a roofline needs times"):
        plot.draw(measurement(None), path)
    with pytest.raises(DataError, match="can't be written"):
        plot.draw(measurement(PEAK), tmp_path / "missing" / path.name)


def test_a_plot_that_could_not_be_written_is_refused_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"roofline.gif: a plot ends in .svg, .png, .pdf"):
        plot.check(Path("roofline.gif"))
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(PackageError, match=r"pip install 'edgec\[plot\]'"):
        plot.check(Path("roofline.svg"))

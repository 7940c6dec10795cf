import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from edgec.bench.bundle import Bundle
from edgec.bench.measure.benchmark import benchmark
from edgec.bench.measure.measurement import Layer, Measurement, Memory, latency, to_json
from edgec.bench.measure.peak import Peak
from edgec.bench.report.tables import print_measurement
from edgec.errors import DeviceError

MEMORY = {"arena_bytes", "weights_bytes", "code_bytes", "peak_rss_bytes", "levels"}


def test_percentiles_in_milliseconds() -> None:
    found = latency([1_000_000 * value for value in range(101)])
    assert (found.min, found.median, found.p90, found.p99) == (0, 50, 90, 99)


def test_a_device_with_a_clock_gives_times(local_bundle: Bundle) -> None:
    found = benchmark(local_bundle, local_bundle.device(), threads=2, runs=20)
    data = json.loads(json.dumps(to_json(found)))
    assert data.keys() >= {"device", "cpu", "threads", "runs", "latency_ms", "layers", "memory", "conditions"}
    assert data["latency_ms"].keys() == {"min", "median", "p90", "p99"}
    assert 0 < data["latency_ms"]["min"] <= data["latency_ms"]["median"] <= data["latency_ms"]["p99"]
    assert [set(layer) for layer in data["layers"]] == [{"name", "kernel", "ms", "macs", "moved_bytes"}] * 4
    assert data["memory"].keys() == MEMORY
    assert data["memory"]["peak_rss_bytes"] > 2**18
    assert (data["device"], data["threads"], data["runs"]) == ("local", 2, 20)
    assert not data.keys() & {"instructions", "mac_instructions"}


def test_an_emulator_gives_instructions_and_never_milliseconds(a76_bundle: Bundle) -> None:
    device = a76_bundle.device("emulator")
    found = benchmark(a76_bundle, device)
    data = json.loads(json.dumps(to_json(found)))
    assert "latency_ms" not in data
    assert [set(layer) for layer in data["layers"]] == [
        {"name", "kernel", "instructions", "mac_instructions", "macs", "moved_bytes"}
    ] * 4
    assert data["instructions"] == sum(layer["instructions"] for layer in data["layers"])
    assert data["instructions"] == sum(data["instruction_classes"].values())
    assert data["memory"].keys() == MEMORY
    assert data["memory"]["peak_rss_bytes"] is None
    assert benchmark(a76_bundle, device).instructions == found.instructions


def test_a_layer_moves_its_inputs_constants_and_outputs(local_bundle: Bundle) -> None:
    layers = benchmark(local_bundle, local_bundle.device(), runs=1).layers
    assert [layer.moved_bytes for layer in layers] == [32 + 8, 8 + 256 + 8, 8 + 32, 32 + 32]


def test_layers_stand_under_a_peak() -> None:
    peak = Peak({"avx2": 80.0, "fp32": 40.0}, memory_gbytes=10.0)
    layers = (
        Layer("a", "conv2d_avx2", 40_000_000, 1_000_000, ms=1.0),
        Layer("b", "island", 20_000_000, 1_000_000, ms=1.0),
        Layer("c", "quantize", 0, 1_000_000, ms=1.0),
        Layer("d", "conv2d_wide_generic", 1_000_000, 1_000_000, ms=1.0),
    )
    memory = Memory(0, 0, 0, None, {})
    found = Measurement("m", "local", "cpu", "x86-64-v3", 2, 1, layers, memory, {"target": "x"}, peak=peak)
    assert [found.share_of_peak(layer) for layer in layers] == [0.25, 0.25, None, None]
    assert (layers[0].gmacs, layers[0].intensity) == (40.0, 40.0)
    assert to_json(found)["peak"] == {"gmacs": peak.gmacs, "memory_gbytes": 10.0}


def test_an_emulator_has_no_peak(a76_bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match="a peak is measured on this machine alone"):
        benchmark(a76_bundle, a76_bundle.device("emulator"), peak=True)


def test_an_emulator_counts_one_thread(a76_bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match="one thread: leave --threads at 1"):
        benchmark(a76_bundle, a76_bundle.device("emulator"), threads=2)


def test_reports_print_the_unit_of_the_device(
    local_bundle: Bundle, a76_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(width=120)
    print_measurement(console, benchmark(local_bundle, local_bundle.device(), runs=5))
    here = capsys.readouterr().out
    assert "ms median of 5 runs, 1 thread" in here
    assert "load average" in here
    print_measurement(console, benchmark(a76_bundle, a76_bundle.device("emulator")))
    emulated = capsys.readouterr().out
    assert "executed by one inference" in emulated
    assert "branches, calls and returns" in emulated
    assert " ms" not in emulated


def test_a_manifest_that_does_not_fit_the_program(local_bundle: Bundle, tmp_path: Path) -> None:
    (level,) = local_bundle.manifest.levels
    levels = (replace(level, kernels=level.kernels[:-1]),)
    cut_off = replace(local_bundle.manifest, steps=local_bundle.manifest.steps[:-1], levels=levels)
    cut = Bundle(local_bundle.path, cut_off)
    with pytest.raises(DeviceError, match="'layers_ns' than 3 whole numbers: it isn't that of this bundle"):
        benchmark(cut, cut.device(), runs=1)


def test_what_disturbed_a_measurement_is_printed(local_bundle: Bundle) -> None:
    found = replace(benchmark(local_bundle, local_bundle.device(), runs=1), warnings=("it was too hot",))
    console = Console(width=100, file=io.StringIO())
    print_measurement(console, found)
    assert console.file.getvalue().endswith("\nWARNING: it was too hot\n")
    assert {"system", "load_average"} <= found.conditions.keys()

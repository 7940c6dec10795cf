"""edgec beside ONNX Runtime on this machine: `python -m edgec.bench.peers MODEL.onnx...`.

Both run int8 forms of the same float model, and ONNX Runtime the float model too, in turns, so that what else
the machine does meets them all alike. Inputs are random: time doesn't depend on them.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from edgec import api
from edgec.bench.bundle import Bundle
from edgec.bench.devices import checked

Array = NDArray[Any]
Samples = list[dict[str, Array]]
Engine = Callable[[int], list[float]]
"""Runs N inferences after a warm-up and returns the milliseconds of each."""

CALIBRATION_SAMPLES = 4
WARMUP_RUNS = 5


def onnxruntime_engine(model: Path, sample: Mapping[str, Array], threads: int) -> Engine:
    """Return ONNX Runtime, all its optimizations on, as an engine for `model`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(runs: int) -> list[float]:
        taken = []
        for _ in range(WARMUP_RUNS + runs):
            before = time.perf_counter_ns()
            session.run(None, sample)
            taken.append((time.perf_counter_ns() - before) / 1e6)
        return taken[WARMUP_RUNS:]

    return run


def edgec_engine(bundle: Bundle, threads: int) -> Engine:
    """Return a bundle's bench program as an engine."""
    device = bundle.device("local")

    def run(runs: int) -> list[float]:
        arguments = ["--threads", str(threads), "--runs", str(runs), "--warmup", str(WARMUP_RUNS)]
        said = json.loads(checked(device.execute(bundle, arguments)).stdout)
        return [nanoseconds / 1e6 for nanoseconds in said["latency_ns"]]

    return run


def quantized_by_onnxruntime(model: Path, output: Path, samples: Samples) -> Path:
    """Write the QDQ model that ONNX Runtime's own quantizer makes: uint8 by int8, which is fast on x86."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples = iter(samples)

        def get_next(self) -> dict[str, Array] | None:
            return next(self.samples, None)

    prepared = output.with_suffix(".prepared.onnx")
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


def engines(model: Path, target: str, threads: int, folder: Path) -> tuple[dict[str, Engine], float]:
    """Return every engine by name, and the model's millions of multiply-accumulates."""
    bundle = api.build(model, target=target, output=folder / "model.edgec")
    rng = np.random.default_rng(0)
    inputs = [(tensor["name"], tensor["shape"], tensor["dtype"]) for tensor in bundle.inputs]
    samples = [
        {name: rng.normal(size=shape).astype(dtype) for name, shape, dtype in inputs}
        for _ in range(CALIBRATION_SAMPLES)
    ]
    unsigned = quantized_by_onnxruntime(bundle.file("float.onnx"), folder / "u8s8.onnx", samples)
    return {
        "edgec": edgec_engine(bundle, threads),
        "ORT int8 (u8s8)": onnxruntime_engine(unsigned, samples[0], threads),
        "ORT int8 (s8s8)": onnxruntime_engine(bundle.file("model.onnx"), samples[0], threads),
        "ORT float": onnxruntime_engine(model, samples[0], threads),
    }, sum(step["macs"] for step in bundle.steps) / 1e6


def compare(model: Path, target: str, threads: int, runs: int, rounds: int) -> dict[str, Any]:
    """Return every engine's median milliseconds of `runs` inferences, in the best of its `rounds` turns.

    `ratio` is the faster int8 ONNX Runtime's time by edgec's.
    """
    with tempfile.TemporaryDirectory() as folder:
        contenders, macs = engines(model, target, threads, Path(folder))
        taken: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, engine in contenders.items():
                taken[name].append(float(np.median(engine(runs))))
    # The best turn: a busy machine makes the others longer, and not for all engines alike.
    ms = {name: min(turns) for name, turns in taken.items()}
    best_int8_peer = min(time for name, time in ms.items() if name.startswith("ORT int8"))
    return {"model": model.stem, "mmac": macs, "ms": ms, "ratio": best_int8_peer / ms["edgec"]}


def main(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL.onnx...")],
    target: Annotated[str, typer.Option(help="An int8 target that runs on this machine.")] = "host-int8",
    threads: Annotated[int, typer.Option(min=1)] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Inferences per engine and turn.")] = 30,
    rounds: Annotated[int, typer.Option(min=1, help="Turns.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare latency with ONNX Runtime's, in the same run."""
    results = [compare(model, target, threads, runs, rounds) for model in models]
    if as_json:
        print(json.dumps({"target": target, "threads": threads, "results": results}, indent=2))
        return
    shown = Table(title=f"Latency in ms, median of the best turn: {target}, threads {threads}", box=None)
    shown.add_column("model")
    for heading in ("MMAC", *results[0]["ms"], "best ORT int8 / edgec"):
        shown.add_column(heading, justify="right")
    for result in results:
        times = (f"{ms:.3f}" for ms in result["ms"].values())
        shown.add_row(result["model"], f"{result['mmac']:.1f}", *times, f"{result['ratio']:.2f}")
    Console().print(shown)


if __name__ == "__main__":
    typer.run(main)

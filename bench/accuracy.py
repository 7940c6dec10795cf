"""Accuracy of int8 against float on real data: `python -m edgec.bench.accuracy`.

Models and data lie in the folder `shared` beside the checkout, or where --data-root says; models that the
project brings are in `examples/`. Calibration samples take no part in the evaluation. Exits with 1 when a
model loses more than its allowance.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from edgec.arrays import Array
from edgec.bench.lab import datasets
from edgec.bench.lab.datasets import DATA_ROOT, Dataset
from edgec.bench.peers.engines import dequantized, quantized
from edgec.errors import DataError, PackageError, reported
from edgec.kernels.reference import oracle
from edgec.options import Optimize
from edgec.output import console

if TYPE_CHECKING:
    from edgec.compiler.model import Model

Predictor = Callable[[Array], Array]
"""Samples [S, *input shape] to outputs [S, elements]."""

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@dataclass(frozen=True)
class Metric:
    """How good a model's outputs are."""

    name: str
    verdicts: Callable[[Dataset, Array], Array]
    """What the outputs say of every label's samples: [labels]."""
    share: Callable[[Array, Array], float]
    """Share of the verdicts that the labels confirm, from 0 to 1."""
    same: Callable[[Array, Array], Array]
    """Which verdicts of two models agree."""


def anomaly_scores(data: Dataset, outputs: Array) -> Array:
    """Return the mean squared error of each clip's reconstruction: [labels]."""
    errors = np.square(outputs - data.images.reshape(outputs.shape)).mean(axis=1)
    of_clips: Array = errors.reshape(len(data.labels), -1).mean(axis=1)
    return of_clips


def area_under_curve(scores: Array, labels: Array) -> float:
    """Return how often a sample labelled 1 has a higher score than one labelled 0, from 0 to 1."""
    higher = np.subtract.outer(scores[labels == 1], scores[labels == 0])
    return float(np.mean((higher > 0) + 0.5 * (higher == 0)))


TOP_1 = Metric(
    "top-1",
    lambda _data, outputs: outputs.argmax(axis=1),
    lambda classes, labels: float(np.mean(classes == labels)),
    lambda one, other: one == other,
)
AUC = Metric(
    "AUC",
    anomaly_scores,
    area_under_curve,
    # Above the median or not: the half that a model finds the stranger one.
    lambda one, other: (one > np.median(one)) == (other > np.median(other)),
)


@dataclass(frozen=True)
class Task:
    """One model, its data, and the points that int8 may cost."""

    model: str
    read: Callable[[Path], Dataset]
    allowed_loss: float
    metric: Metric = TOP_1


@dataclass(frozen=True)
class Result:
    """The metric in percent, over the same samples."""

    model: str
    metric: str
    samples: int
    """With a label each."""
    calibration_samples: int
    float_accuracy: float
    int8_accuracy: float
    difference: float
    """In points; negative is a loss."""
    allowed_loss: float
    agreement: float
    """Samples with the same class from both, in percent; of AUC, in the same half."""
    official_accuracy: float | None = None
    """Accuracy of the int8 file that the model's publisher offers."""

    @property
    def passed(self) -> bool:
        """Whether the loss is within the allowance."""
        return self.difference >= -self.allowed_loss


TASKS = (
    Task("mlperf_kws_dscnn", datasets.keyword_spotting, 0.6),
    Task("mlperf_ic_resnet8", datasets.cifar10, 0.5),
    Task("fmnist_dscnn", datasets.fashion_mnist, 0.3),
    Task("vww_mobilenetv1", datasets.animals, 0.6),
    Task("anomaly_autoencoder", datasets.machines, 0.6, AUC),
    Task("efficientnet_lite0", datasets.imagenet, 2.0),
)


def found(model: str, root: Path) -> Path:
    """Return the file of a task's model; raises DataError where there is none."""
    paths = [EXAMPLES / f"{model}.onnx", root / "models" / f"{model}.onnx"]
    for path in paths:
        if path.exists():
            return path
    raise DataError(f"{model}.onnx is in neither {paths[0].parent} nor {paths[1].parent}")


def onnx_predictor(model: bytes, optimize: bool) -> Predictor:
    """Return a predictor that runs an ONNX model in ONNX Runtime.

    Without `optimize`, quantized models run as float arithmetic between roundings: on CPUs without VNNI ONNX
    Runtime's own int8 kernels saturate.
    """
    onnxruntime = oracle.runtime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def predict(samples: Array) -> Array:
        return np.concatenate([session.run(None, {name: sample})[0].reshape(1, -1) for sample in samples])

    return predict


def bundle_predictor(
    path: Path, target: str, calibration: dict[str, Array], folder: Path, optimize: Optimize = "speed"
) -> Predictor:
    """Build a bundle in `folder` and return a predictor that runs it."""
    import edgec

    output = folder / f"{path.stem}.edgec"
    bundle = edgec.build(path, target=target, calibration=calibration, output=output, optimize=optimize)
    (name,) = calibration

    def predict(samples: Array) -> Array:
        (scores,) = bundle.run_samples({name: samples}).values()
        return scores.reshape(len(samples), -1)

    return predict


def qdq_predictor(model: "Model", calibration: dict[str, Array], observer: str) -> Predictor:
    """Quantize the model and return a predictor that runs the QDQ ONNX in ONNX Runtime."""
    from edgec.compiler.compress.calibration import load_calibration
    from edgec.compiler.compress.quantize import quantize
    from edgec.compiler.model import serialize

    quantized = quantize(model, load_calibration(calibration, model), observer)
    return onnx_predictor(serialize(quantized), optimize=False)


def official_predictor(path: Path) -> Predictor:
    """Return a predictor that runs an int8 .tflite by LiteRT's reference kernels.

    Raises PackageError where LiteRT isn't installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ModuleNotFoundError as error:
        raise PackageError("ai-edge-litert isn't installed: pip install 'edgec[peers]'") from error
    interpreter = Interpreter(model_path=str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(samples: Array) -> Array:
        outputs = []
        for sample in samples:
            interpreter.set_tensor(given["index"], quantized(given, sample.reshape(given["shape"])))
            interpreter.invoke()
            outputs.append(dequantized(result, interpreter.get_tensor(result["index"])).reshape(1, -1))
        return np.concatenate(outputs)

    return predict


def evaluate(
    task: Task, data: Dataset, reference: Predictor, int8: Predictor, official: Predictor | None = None
) -> Result:
    """Compare predictors on a task's evaluation samples."""
    metric = task.metric

    def percent(share: float) -> float:
        return round(100 * share, 2)

    expected, actual = (metric.verdicts(data, predict(data.images)) for predict in (reference, int8))
    float_accuracy, int8_accuracy = (percent(metric.share(one, data.labels)) for one in (expected, actual))
    return Result(
        model=task.model,
        metric=metric.name,
        samples=len(data.labels),
        calibration_samples=len(data.calibration),
        float_accuracy=float_accuracy,
        int8_accuracy=int8_accuracy,
        difference=round(int8_accuracy - float_accuracy, 2),
        allowed_loss=task.allowed_loss,
        agreement=percent(float(np.mean(metric.same(expected, actual)))),
        official_accuracy=percent(metric.share(metric.verdicts(data, official(data.images)), data.labels))
        if official
        else None,
    )


def main(
    models: Annotated[list[str] | None, typer.Argument(help="Only these, by file stem.")] = None,
    target: Annotated[str, typer.Option(help="What bundles are built for.")] = "host-int8",
    optimize: Annotated[Optimize, typer.Option(help="As of 'edgec build'.")] = "speed",
    qdq: Annotated[bool, typer.Option("--qdq", help="Run the QDQ model in ONNX Runtime instead.")] = False,
    observer: Annotated[str, typer.Option(help="min-max or percentile, with --qdq.")] = "min-max",
    official: Annotated[
        bool,
        typer.Option("--official", help="Run the publisher's MODEL_int8.tflite too, where there is one."),
    ] = False,
    data_root: Annotated[Path, typer.Option(help="Folder with models/ and data/.")] = DATA_ROOT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure accuracy of int8 against float."""
    from edgec.compiler.frontend.load import load

    unknown = set(models or ()) - {task.model for task in TASKS}
    if unknown:
        known = ", ".join(task.model for task in TASKS)
        raise DataError(f"no model '{min(unknown)}' to evaluate: choose of {known}")
    results = []
    for task in TASKS:
        if models and task.model not in models:
            continue
        data, path = task.read(data_root), found(task.model, data_root)
        model = load(path, {})
        calibration = {str(model.ir.graph.inputs[0].name): data.calibration}
        published = data_root / "models" / f"{task.model}_int8.tflite"
        theirs = official_predictor(published) if official and published.exists() else None
        with tempfile.TemporaryDirectory() as folder:
            if qdq:
                int8 = qdq_predictor(model, calibration, observer)
            else:
                int8 = bundle_predictor(path, target, calibration, Path(folder), optimize)
            reference = onnx_predictor(path.read_bytes(), optimize=True)
            results.append(evaluate(task, data, reference, int8, theirs))
    if as_json:
        engine = (
            {"engine": "onnxruntime", "observer": observer}
            if qdq
            else {"engine": "bundle", "target": target, "optimize": optimize}
        )
        entries = [asdict(result) | {"passed": result.passed} for result in results]
        print(json.dumps(engine | {"results": entries}, indent=2))
    else:
        console(as_json).print(table(results, "QDQ in ONNX Runtime" if qdq else target))
    raise typer.Exit(0 if all(result.passed for result in results) else 1)


def table(results: list[Result], title: str) -> Table:
    """Return the results as a table for people."""
    shown = Table(
        title=f"Accuracy in percent, int8 ({title}) against float",
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    left = ("model", "", "metric")
    figures = ("samples", "calibration", "float", "int8", "points", "allowed", "agree", "official")
    for heading in ("model", "metric", *figures, ""):
        shown.add_column(heading, justify="left" if heading in left else "right", no_wrap=True)
    for result in results:
        shown.add_row(
            result.model,
            result.metric,
            str(result.samples),
            str(result.calibration_samples),
            f"{result.float_accuracy:.2f}",
            f"{result.int8_accuracy:.2f}",
            f"{result.difference:+.2f}",
            f"-{result.allowed_loss:.1f}",
            f"{result.agreement:.1f}",
            "" if result.official_accuracy is None else f"{result.official_accuracy:.2f}",
            "ok" if result.passed else "too low",
        )
    return shown


if __name__ == "__main__":
    with reported():
        typer.run(main)

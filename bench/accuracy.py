"""Accuracy of int8 against float on real data: `python -m edgec.bench.accuracy`.

Models and data lie in the folder `shared` beside the checkout, or where --data-root says. Calibration samples
take no part in the evaluation. Exits with 1 when a model loses more than its allowance.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from edgec.compiler.model import Model

Array = NDArray[Any]
Predictor = Callable[[Array], Array]
"""Samples [S, *input shape] to scores [S, classes]."""

DATA_ROOT = Path(__file__).resolve().parents[1].parent / "shared"


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a model is calibrated and evaluated on."""

    calibration: Array
    """[samples, *input shape]."""
    images: Array
    """[S, *input shape]."""
    labels: Array
    """[S]."""


@dataclass(frozen=True)
class Task:
    """One model, its data, and the points of accuracy that int8 may cost."""

    model: str
    read: Callable[[Path], Dataset]
    allowed_loss: float


@dataclass(frozen=True)
class Result:
    """Top-1 accuracy in percent, over the same samples."""

    model: str
    samples: int
    calibration_samples: int
    float_accuracy: float
    int8_accuracy: float
    difference: float
    """In points; negative is a loss."""
    allowed_loss: float
    agreement: float
    """Samples with the same class from both, in percent."""

    @property
    def passed(self) -> bool:
        """Whether the loss is within the allowance."""
        return self.difference >= -self.allowed_loss


def keyword_spotting(root: Path) -> Dataset:
    """MLPerf Tiny keyword spotting: the first 100 of 500 recordings calibrate."""
    with np.load(root / "data/kws01_dev500.npz") as data:
        features = (data["mfcc_int8"].astype(np.float64) - data["zero_point"]) * data["scale"]
        labels = data["label"]
    samples = features.astype(np.float32)[:, np.newaxis]
    return Dataset(samples[:100], samples[100:], labels[100:])


def cifar10(root: Path) -> Dataset:
    """CIFAR-10: the first 200 of 2000 images calibrate."""
    with np.load(root / "data/cifar10_dev2000.npz") as data:
        images, labels = data["image"].astype(np.float32)[:, np.newaxis], data["label"]
    return Dataset(images[:200], images[200:], labels[200:])


def fashion_mnist(root: Path) -> Dataset:
    """Fashion-MNIST: the first 200 training images calibrate, 5000 test images evaluate."""
    with np.load(root / "data/fashion_mnist_dev.npz") as data:
        train, test = (
            (data[name].astype(np.float32) / 255)[:, np.newaxis, np.newaxis]
            for name in ("train_image", "test_image")
        )
        return Dataset(train[:200], test, data["test_label"])


def imagenet(root: Path) -> Dataset:
    """ImageNet: every fifth of 500 images calibrates."""
    from PIL import Image

    files = sorted((root / "data/imagenet_dev500").glob("*.jpg"))
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB"), np.float32) for file in files])
    images = ((pixels - 127) / 128).transpose(0, 3, 1, 2)[:, np.newaxis]
    labels = np.array([int(file.name[:4]) for file in files])
    calibrates = np.arange(len(files)) % 5 == 0
    return Dataset(images[calibrates], images[~calibrates], labels[~calibrates])


TASKS = (
    Task("mlperf_kws_dscnn", keyword_spotting, 0.6),
    Task("mlperf_ic_resnet8", cifar10, 0.5),
    Task("fmnist_dscnn", fashion_mnist, 0.3),
    Task("efficientnet_lite0", imagenet, 2.0),
)


def onnx_predictor(model: bytes, optimize: bool) -> Predictor:
    """Return a predictor that runs an ONNX model in ONNX Runtime.

    Without `optimize`, quantized models run as float arithmetic between roundings: on CPUs without VNNI ONNX
    Runtime's own int8 kernels saturate.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def predict(samples: Array) -> Array:
        return np.concatenate([session.run(None, {name: sample})[0].reshape(1, -1) for sample in samples])

    return predict


def bundle_predictor(path: Path, target: str, calibration: dict[str, Array], folder: Path) -> Predictor:
    """Build a bundle in `folder` and return a predictor that runs it."""
    import edgec

    bundle = edgec.build(path, target=target, calibration=calibration, output=folder / f"{path.stem}.edgec")
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


def evaluate(task: Task, data: Dataset, reference: Predictor, int8: Predictor) -> Result:
    """Compare two predictors on a task's evaluation samples."""
    expected, actual = (predict(data.images).argmax(axis=1) for predict in (reference, int8))
    float_accuracy, int8_accuracy, agreement = (
        round(100 * float(np.mean(same)), 2)
        for same in (expected == data.labels, actual == data.labels, expected == actual)
    )
    return Result(
        model=task.model,
        samples=len(data.labels),
        calibration_samples=len(data.calibration),
        float_accuracy=float_accuracy,
        int8_accuracy=int8_accuracy,
        difference=round(int8_accuracy - float_accuracy, 2),
        allowed_loss=task.allowed_loss,
        agreement=agreement,
    )


def main(
    models: Annotated[list[str] | None, typer.Argument(help="Only these, by file stem.")] = None,
    target: Annotated[str, typer.Option(help="What bundles are built for.")] = "host-int8",
    qdq: Annotated[bool, typer.Option("--qdq", help="Run the QDQ model in ONNX Runtime instead.")] = False,
    observer: Annotated[str, typer.Option(help="min-max or percentile, with --qdq.")] = "min-max",
    data_root: Annotated[Path, typer.Option(help="Folder with models/ and data/.")] = DATA_ROOT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure top-1 accuracy of int8 against float."""
    from edgec.compiler.frontend.load import load

    if not (data_root / "data").is_dir():
        raise typer.BadParameter(f"{data_root} has no folder 'data'", param_hint="--data-root")
    results = []
    for task in TASKS:
        if models and task.model not in models:
            continue
        data, path = task.read(data_root), data_root / "models" / f"{task.model}.onnx"
        model = load(path, {})
        calibration = {str(model.ir.graph.inputs[0].name): data.calibration}
        with tempfile.TemporaryDirectory() as folder:
            if qdq:
                int8 = qdq_predictor(model, calibration, observer)
            else:
                int8 = bundle_predictor(path, target, calibration, Path(folder))
            results.append(evaluate(task, data, onnx_predictor(path.read_bytes(), optimize=True), int8))
    if as_json:
        engine = (
            {"engine": "onnxruntime", "observer": observer} if qdq else {"engine": "bundle", "target": target}
        )
        entries = [asdict(result) | {"passed": result.passed} for result in results]
        print(json.dumps(engine | {"results": entries}, indent=2))
    else:
        Console().print(table(results, "QDQ in ONNX Runtime" if qdq else target))
    raise typer.Exit(0 if all(result.passed for result in results) else 1)


def table(results: list[Result], title: str) -> Table:
    """Return the results as a table for people."""
    shown = Table(
        title=f"Top-1 accuracy in percent, int8 ({title}) against float",
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for heading in ("model", "samples", "calibration", "float", "int8", "points", "allowed", "agree", ""):
        shown.add_column(heading, justify="left" if heading in ("model", "") else "right", no_wrap=True)
    for result in results:
        shown.add_row(
            result.model,
            str(result.samples),
            str(result.calibration_samples),
            f"{result.float_accuracy:.2f}",
            f"{result.int8_accuracy:.2f}",
            f"{result.difference:+.2f}",
            f"-{result.allowed_loss:.1f}",
            f"{result.agreement:.1f}",
            "ok" if result.passed else "too low",
        )
    return shown


if __name__ == "__main__":
    typer.run(main)

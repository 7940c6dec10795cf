"""How good models are, and what of data they see."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.bench.accuracy import AUC, TOP_1, Task, area_under_curve, evaluate, found, main
from edgec.bench.lab import datasets
from edgec.bench.lab.datasets import Dataset
from edgec.errors import DataError

SHARED = Path(__file__).parents[2] / "../shared"


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2))
def test_the_area_under_the_curve_counts_pairs(scored: list[tuple[int, bool]]) -> None:
    strange = [score for score, label in scored if label]
    usual = [score for score, label in scored if not label]
    if not strange or not usual:
        return
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in strange for b in usual]
    scores, labels = (np.array(column) for column in zip(*scored, strict=True))
    assert area_under_curve(scores.astype(float), labels.astype(int)) == pytest.approx(np.mean(pairs))


def test_top_1_is_the_share_of_right_classes() -> None:
    data = Dataset(np.zeros((5, 1, 3)), np.eye(3)[[0, 1, 2, 2]][:, np.newaxis], np.array([0, 1, 2, 0]))

    def wrong_once(samples: np.ndarray) -> np.ndarray:
        scores = samples.reshape(len(samples), -1).copy()
        scores[0] = scores[0, ::-1]
        return scores

    result = evaluate(
        Task("m", lambda _: data, 20.0, TOP_1), data, lambda x: x.reshape(len(x), -1), wrong_once
    )
    assert (result.float_accuracy, result.int8_accuracy, result.agreement) == (75.0, 50.0, 75.0)
    assert (result.samples, result.calibration_samples) == (4, 5)
    assert not result.passed


def test_an_anomaly_is_what_is_reconstructed_badly() -> None:
    clips = np.zeros((6, 4, 2))
    clips[4:] = 3.0  # two clips, of four windows each, that a model of zeros doesn't know
    data = Dataset(clips[0], clips.reshape(-1, 1, 2), np.array([0, 0, 0, 0, 1, 1]))
    task = Task("m", lambda _: data, 0.5, AUC)
    result = evaluate(
        task,
        data,
        lambda x: np.zeros((len(x), 2)),
        lambda x: x.reshape(len(x), -1),
        lambda x: np.ones((len(x), 2)),
    )
    assert (result.float_accuracy, result.int8_accuracy, result.official_accuracy) == (100.0, 50.0, 100.0)
    assert result.samples == 6
    assert not result.passed


def test_a_model_that_is_unknown_is_told_with_those_there_are() -> None:
    with pytest.raises(DataError, match=r"^no model 'kws' to evaluate: choose of mlperf_kws_dscnn, "):
        main(["kws", "mlperf_kws_dscnn"])


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cifar10_dev2000\.npz isn't there: --data-root names"):
        datasets.animals(tmp_path)
    with pytest.raises(DataError, match=r"^nothing\.onnx is in neither .*examples nor .*models$"):
        found("nothing", tmp_path)


@pytest.mark.slow
def test_what_trains_does_not_evaluate() -> None:
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the development data")
    data = datasets.animals(SHARED)
    pixels, labels = datasets.animals_to_train(SHARED)
    assert (len(pixels), len(labels), len(data.images), len(data.labels)) == (1500, 1500, 1000, 1000)
    seen = {image.tobytes() for image in pixels}
    held_out = np.rint(data.images * 255).astype(np.uint8)
    assert not [image for image in held_out if image.tobytes() in seen]
    assert {image.tobytes() for image in np.rint(data.calibration * 255).astype(np.uint8)} <= seen

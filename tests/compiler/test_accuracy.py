"""How near the original: figures per output and per group of channels, and what is too far."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.compiler import accuracy
from edgec.compiler.accuracy import Accuracy, Figure, compare, measure, shortfalls

RNG = np.random.default_rng(7)


def figure(**values: object) -> Figure:
    return Figure(**{"output": "y", "channels": None, "sqnr_db": None, "varying_db": None, "equal": None,
                     "top1_agreement": None} | values)  # fmt: skip


@given(st.floats(0.001, 0.5))
def test_sqnr_is_that_of_the_noise_added(noise: float) -> None:
    reference = np.ones((4, 10))
    (found,) = compare("y", reference, reference + noise)
    assert found.sqnr_db == pytest.approx(-20 * np.log10(noise), abs=0.06)
    assert found.varying_db is None  # nothing varies


def test_no_noise_is_as_good_as_it_gets_and_top1_counts_samples() -> None:
    reference = np.eye(4)[:, np.newaxis, :]  # [S, 1, 4]
    (same,) = compare("y", reference, reference)
    assert (same.sqnr_db, same.varying_db, same.top1_agreement) == (100, 100, 1.0)
    device = reference.copy()
    device[0] = device[1]
    assert compare("y", reference, device)[0].top1_agreement == 0.75


def test_an_image_has_no_top1() -> None:
    image = np.ones((1, 1, 4, 4))
    assert compare("y", image, image)[0].top1_agreement is None


def test_what_varies_between_samples_has_a_figure_of_its_own() -> None:
    """An output that is always the same has a fine ratio of signal to noise, and says nothing."""
    varying = np.tile([[1.0], [-1.0]], (8, 8))
    (found,) = compare("y", 100 + varying, np.full((16, 8), 100.0))
    assert (found.sqnr_db, found.varying_db) == (40, 0)
    assert " dB of what varies between samples" in str(found.shortfall("int8"))


def test_one_sample_doesnt_vary() -> None:
    (found,) = compare("y", np.arange(8.0).reshape(1, 8), np.arange(8.0).reshape(1, 8) + 0.1)
    assert found.varying_db is None
    assert found.shortfall("int8") is None


def test_rounding_of_a_constant_output_is_no_variation() -> None:
    """The sum of a softmax is 1, give or take float32's last bit, and int8 has it as 1."""
    ones = np.ones((16, 1), np.float32)
    ones[::2] += np.float32(1e-7)
    (found,) = compare("y", ones, np.full((16, 1), 0.9961))
    assert found.varying_db is None


def test_floats_last_bits_are_no_loss_however_little_varies() -> None:
    varying = 1000 + 0.02 * RNG.standard_normal((8, 16))
    (found,) = compare("y", varying, varying.astype(np.float32) * (1 + 3e-8))
    assert found.sqnr_db == 100
    assert found.shortfall("fp32") is None


def boxes_and_scores(order: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """[S, 1, 9, 40]: four boxes' corners in pixels and five scores, which int8 makes 0; channels permuted."""
    boxes = RNG.uniform(100, 600, (8, 1, 4, 40))
    scores = RNG.uniform(0, 0.9, (8, 1, 5, 40))
    original = np.concatenate([boxes, scores], 2)
    return original[:, :, order], np.round(original / 5)[:, :, order] * 5


@pytest.mark.parametrize(
    ("order", "named"),
    [
        ((0, 1, 2, 3, 4, 5, 6, 7, 8), "channels 4..8 of axis 1"),
        ((4, 5, 6, 7, 8, 0, 1, 2, 3), "channels 0..4 of axis 1"),
        ((0, 4, 1, 5, 2, 6, 3, 7, 8), "channels 1, 3, 5, ... of axis 1"),
    ],
)
def test_what_is_small_beside_something_large_is_measured_by_itself(
    order: tuple[int, ...], named: str
) -> None:
    whole, *groups = compare("output", *boxes_and_scores(order))
    assert len(groups) == 2
    assert whole.sqnr_db is not None
    assert whole.sqnr_db > 40
    (short,) = shortfalls([whole, *groups], "int8")
    assert short.startswith(f"'output' {named}: ")
    assert short.endswith("dB, less than 10 dB")


def test_groups_are_found_on_the_last_axis_too() -> None:
    original, device = boxes_and_scores(tuple(range(9)))
    _, *groups = compare("output", original.swapaxes(2, 3), device.swapaxes(2, 3))
    assert {group.channels for group in groups} == {"0..3 of axis 2", "4..8 of axis 2"}


@pytest.mark.parametrize("shape", [(1, 1, 10), (20, 1, 10)])
def test_probabilities_are_one_kind_of_quantity(shape: tuple[int, ...]) -> None:
    """A class that no sample is of has a tiny probability, which int8 makes 0, rightly."""
    likely = np.full(shape, 1e-6)
    likely[..., 0] = 0.999
    assert len(compare("y", likely, np.round(likely * 256) / 256)) == 1


def test_channels_that_are_zero_have_no_range() -> None:
    padded = RNG.standard_normal((4, 3, 20))
    padded[:, 1] = 0
    assert len(compare("y", padded, padded)) == 1


def test_integers_are_equal_or_not() -> None:
    classes = np.arange(10).reshape(10, 1)
    wrong = classes.copy()
    wrong[:6] = 9
    (found,) = compare("class", classes, wrong)
    assert (found.sqnr_db, found.equal) == (None, 0.4)
    assert found.shortfall("int8") == "'class': 40.0% of the elements equal, fewer than 50%"
    assert compare("class", classes > 3, classes > 3)[0].equal == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_isnt_finite_on_one_side_is_as_wrong_as_can_be(value: float) -> None:
    original = np.ones((2, 4))
    device = original.copy()
    device[0, 0] = value
    for pair in ((original, device), (device, original)):
        assert compare("y", *pair)[0].sqnr_db == -100
    assert compare("y", device, device)[0].sqnr_db == 100


def test_noise_where_the_original_is_silent_is_a_loss() -> None:
    silent = np.zeros((2, 4))
    assert compare("y", silent, silent + 0.5)[0].sqnr_db == -100
    assert compare("y", silent, silent)[0].sqnr_db == 100
    (rounding,) = compare("y", silent, silent + 1e-10)
    assert rounding.shortfall("fp32") is None


@pytest.mark.parametrize(
    ("values", "precision", "limit", "short"),
    [
        ({"sqnr_db": 9.9}, "int8", None, True),
        ({"sqnr_db": 10.0}, "int8", None, False),
        ({"sqnr_db": 59.9}, "fp32", None, True),
        ({"sqnr_db": 60.0}, "fp32", None, False),
        ({"sqnr_db": 30.0, "varying_db": 9.0}, "int8", None, True),
        ({"sqnr_db": 30.0}, "int8", 35, True),
        ({"sqnr_db": -5.0}, "int8", 0, False),
        ({"sqnr_db": -5.0}, "int8", -6, False),
        ({"equal": 0.98}, "fp32", None, True),
        ({"equal": 0.98}, "int8", None, False),
        ({"equal": 0.1}, "int8", 0, False),
    ],
)
def test_limits(values: dict[str, float], precision: str, limit: float | None, short: bool) -> None:
    assert (figure(**values).shortfall(precision, limit) is not None) is short


def test_the_worst_output_comes_first() -> None:
    figures = [
        figure(output="a", sqnr_db=5.0),
        figure(output="b", sqnr_db=-3.0),
        figure(output="c", equal=1.0),
    ]
    assert [text[:3] for text in shortfalls(figures, "int8")] == ["'b'", "'a'"]
    found = Accuracy("held back", 6, tuple(figures))
    assert found.summary == "'b': SQNR -3.0 dB from the original, on 6 samples held back"


@pytest.mark.parametrize(
    ("on", "precision", "short"),
    [("held back", "int8", 1), ("calibrated", "int8", 1), ("synthetic", "int8", 0), ("synthetic", "fp32", 1)],
)
def test_what_varies_between_samples_of_noise_is_no_measure_of_int8(
    on: str, precision: str, short: int
) -> None:
    found = Accuracy(on, 8, (figure(sqnr_db=70.0, varying_db=8.6),))
    assert len(found.warnings(precision)) == short


MODEL = '<ir_version: 8, opset_import: ["" : 17]> toy (float[1,8] x) => (float[1,8] y, int64[1,1] n) {{ {} }}'


def model(body: str) -> bytes:
    return onnx.parser.parse_model(MODEL.format(body)).SerializeToString()


def test_every_output_is_compared_with_the_original_by_its_place() -> None:
    x = RNG.standard_normal((1, 8)).astype(np.float32)
    runs = [{"renamed": np.maximum(x, 0), "n": np.argmax(x, 1, keepdims=True)}]
    found = measure(model("y = Relu(x) n = ArgMax<axis = 1>(x)"), "given", [{"x": x}], runs)
    assert [(each.output, each.worst_db) for each in found.outputs] == [("renamed", 100), ("n", 100)]


def test_an_output_of_another_size_is_as_wrong_as_can_be() -> None:
    x = RNG.standard_normal((1, 8)).astype(np.float32)
    runs = [{"y": x[:, :4], "n": np.zeros((1, 1), np.int64)}]
    found = measure(model("y = Relu(x) n = ArgMax<axis = 1>(x)"), "given", [{"x": x}], runs)
    assert found.outputs[0].sqnr_db == accuracy.WORST_DB


def test_a_model_that_nobody_runs_is_said_to_be_not_compared() -> None:
    x = np.zeros((1, 8), np.float32)
    odd = onnx.parser.parse_model(MODEL.format("y = Relu(x) n = ArgMax<axis = 1>(x)"))
    odd.graph.node[0].op_type = "Unheard"
    runs = [{"y": x, "n": np.zeros((1, 1), np.int64)}]
    found = measure(odd.SerializeToString(), "given", [{"x": x}], runs)
    assert not found.outputs
    (warning,) = found.warnings("int8")
    assert warning.startswith("not compared with the original: ")
    assert "\n" not in warning
    assert not found.warnings("int8", 0)

import numpy as np
import pytest

from edgec.bench.comparison import close, errors, exact


def test_exact_names_the_first_element_that_differs() -> None:
    expected = np.zeros((2, 3), np.int8)
    device = expected.copy()
    device[1, 1], device[1, 2] = 5, -1
    found = exact("conv", "t", 4, device, expected)
    assert found is not None
    assert (found.layer, found.tensor, found.sample) == ("conv", "t", 4)
    assert (found.differing, found.elements, found.index) == (2, 6, (1, 1))
    assert (found.device, found.expected) == (5, 0)
    assert exact("conv", "t", 4, expected, expected) is None


def test_exact_means_the_bits() -> None:
    zero = np.zeros(1, np.float32)
    assert exact("l", "t", 0, -zero, zero) is not None
    nan = np.full(1, np.nan, np.float32)
    assert exact("l", "t", 0, nan, -nan) is None  # but for NaN, whose bits CPUs choose
    assert exact("l", "t", 0, nan, zero) is not None


def test_different_types_are_never_compared() -> None:
    with pytest.raises(ValueError, match="two types"):
        exact("l", "t", 0, np.zeros(4, np.int8), np.zeros(4, np.uint8))


@pytest.mark.parametrize(
    ("device", "expected", "passes"),
    [
        ([1000.0, 0.0], [1000.9, 0.05], True),  # 1e-3 relative, 1e-4 of the largest absolute
        ([1000.0, 0.0], [1002.0, 0.0], False),
        ([1000.0, 0.0], [1000.0, 0.2], False),
        ([np.nan, np.inf], [np.nan, np.inf], True),
        ([np.nan, 1.0], [1.0, 1.0], False),
        ([np.inf, 1.0], [-np.inf, 1.0], False),
    ],
)
def test_the_tolerance_of_float_islands(device: list[float], expected: list[float], passes: bool) -> None:
    found = close("island", "t", 0, np.array(device, np.float32), np.array(expected, np.float32))
    assert (found is None) == passes


def test_errors_of_what_is_equal_are_zero() -> None:
    values = np.array([1.0, np.inf, np.nan])
    np.testing.assert_array_equal(errors(values, values), [0, 0, 0])

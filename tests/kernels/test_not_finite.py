"""What kernels make of infinities and NaNs: the same as the reference, on every processor that has floats."""

import warnings
from typing import get_args

import numpy as np
import pytest

from edgec.kernels import reference
from edgec.kernels.operations import BinaryKind, FloatBinary, FloatMean, MaxPool, Operation, Quantize
from edgec.kernels.table import KERNELS
from edgec.targets import loader
from tests.kernels.harness import Machines
from tests.kernels.operations import ODD, Case
from tests.kernels.test_exactness import DEVICES, check, whole

VALUES = np.resize(np.append(ODD, np.array([1.5, -0.0, -2.0], np.float32)), 2 * 3 * 5 * 37).astype(np.float32)
FLAT = ((1,), (1,))
CASES = (
    (Quantize(VALUES.size, 0.5, 3), 1),
    (Quantize(VALUES.size, 1e-30, -128), 1),
    (MaxPool((2, 3, 5, 37), (2, 2, 4, 37), (2, 2), (1, 1), (0, 0), "float32"), 1),
    (MaxPool((2, 3, 5, 37), (2, 3, 5, 37), (3, 3), (1, 1), (1, 1), "float32"), 1),
    (FloatBinary("add", (VALUES.size,), FLAT, 0.0, np.inf), 2),
    (FloatBinary("mul", (VALUES.size,), FLAT, -1.5, 2.5), 2),
    *((FloatBinary(kind, (VALUES.size,), FLAT), 2) for kind in get_args(BinaryKind)),
    (FloatMean(1, 2, VALUES.size // 2, 0.0, 6.0), 1),
)
"""Operations, and how many operands each has."""


@pytest.mark.parametrize("device", DEVICES)
def test_kernels_equal_the_reference(device: str, machines: Machines) -> None:
    target = loader.load(f"{device}-int8")
    if target.requantization != "float32":
        pytest.skip("has no floats")
    cases = [Case(op, (VALUES, np.roll(VALUES, 3))[:operands]) for op, operands in CASES]
    check(machines, target, [whole(_kernel(case.operation, target), target, case) for case in cases])


def _kernel(operation: Operation, target: loader.Target) -> object:
    return next(k for k in KERNELS if isinstance(operation, k.operation) and k.runs_on(target))


def test_nan_has_the_lowest_code_and_nothing_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes = reference.quantize(Quantize(ODD.size, 1e-3, 7), ODD)
    np.testing.assert_array_equal(codes, [127, -128, -128, -128, -128, 127, -128])


def test_nan_stays_nan_in_floats() -> None:
    result = reference.float_binary(
        FloatBinary("add", (1,), FLAT, 0.0, 6.0), *[np.full(1, np.nan, np.float32)] * 2
    )
    assert np.isnan(result).all()

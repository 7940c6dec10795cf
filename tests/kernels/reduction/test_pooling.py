"""Windows of more taps than are written out one by one: 60x80 of them ended in a signal."""

import numpy as np
import pytest

from edgec.kernels.operations import AveragePool, FloatAveragePool, MaxPool
from edgec.kernels.table import KERNELS
from edgec.targets import loader
from tests.kernels.harness import Machines
from tests.kernels.operations import Case
from tests.kernels.test_exactness import check, whole

IMAGE, RESULT = (1, 62, 83, 5), (1, 3, 4, 5)
WINDOW = {"kernel": (60, 80), "strides": (1, 2), "pads": (0, 2)}
SCALES = np.full((3, 4), 2.0**-12, np.float32)
ENDING = {"input_zero_point": 3, "output_zero_point": 1, "low": -9, "high": 99}
CODES = np.random.default_rng(0).integers(-128, 128, IMAGE).astype(np.int8)
FLOATS = np.where(CODES == 127, np.float32(np.nan), CODES / np.float32(7))
FLOATS[:, 20:] = np.float32(0.5)
CASES = (
    (MaxPool(IMAGE, RESULT, **WINDOW), CODES),
    (MaxPool(IMAGE, (1, 3, 3, 5), (30, 20), (2, 4), (1, 2), dilations=(2, 4)), CODES),
    (MaxPool(IMAGE, RESULT, **WINDOW, dtype="float32"), FLOATS),
    (AveragePool(IMAGE, RESULT, **WINDOW, multiplier=SCALES, **ENDING), CODES),
    (FloatAveragePool(IMAGE, RESULT, **WINDOW, multiplier=SCALES), (CODES / 7).astype(np.float32)),
)


@pytest.mark.parametrize("device", ["x86-64-v3", "arm64", "cortex-m4"])
def test_wide_windows_equal_the_reference(device: str, machines: Machines) -> None:
    target = loader.load(f"{device}-int8")
    calls = []
    for operation, image in CASES:
        kernel = next(k for k in KERNELS if isinstance(operation, k.operation) and k.runs_on(target))
        calls.append(whole(kernel, target, Case(operation, (image,))))
    check(machines, target, calls)

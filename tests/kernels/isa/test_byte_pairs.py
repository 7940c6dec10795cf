"""`vpmaddubsw` is taken where no pair of products can leave int16: at the edge of the proof, and beyond."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgec.kernels.isa.x86 import AVX2BYTES
from edgec.kernels.kernel import Kernel
from edgec.kernels.operations import Conv2d
from edgec.kernels.table import KERNELS, candidates
from edgec.targets import loader
from tests.kernels.harness import Machines
from tests.kernels.operations import BUILDING, Case
from tests.kernels.test_exactness import check, whole

TARGET = loader.load("x86-64-v3-int8")
KERNEL: Kernel = next(kernel for kernel in KERNELS if kernel.name == "conv2d_avx2bytes")


def convolution(weights: NDArray[np.int8], groups: int = 1) -> Conv2d:
    outputs, rows, _, inputs = weights.shape
    return Conv2d(
        (1, 7, 7, inputs * groups), weights,
        np.arange(outputs, dtype=np.int32), np.full(outputs, 2.0**-9, np.float32), 3, -5, -128, 127,
        pads=(rows // 2, rows // 2, rows // 2, rows // 2), groups=groups,
    )  # fmt: skip


@given(st.integers(-128, 127), st.integers(-128, 127))
def test_a_pair_is_accepted_where_no_activations_saturate(one: int, two: int) -> None:
    """Sums are largest and smallest at 0 and 255."""
    sums = [a * one + b * two for a, b in product((0, 255), repeat=2)]
    fits = min(sums) >= -(2**15) and max(sums) < 2**15
    weights = np.array([0, 0, one, two], np.int8).reshape(1, 1, 1, 4)
    assert AVX2BYTES.accepts(weights) == fits
    assert AVX2BYTES.accepts(np.array([one], np.int8).reshape(1, 1, 1, 1))


def test_the_edge_of_the_proof() -> None:
    def accepts(*row: int) -> bool:
        return AVX2BYTES.accepts(np.array(row, np.int8).reshape(1, 1, 1, -1))

    assert accepts(127, 1)
    assert not accepts(127, 2)
    assert accepts(-128, 0)
    assert not accepts(-128, -1)
    assert accepts(127, -128)
    assert accepts(64, 64, -64, -64)
    assert accepts(1, 127, 127, 1), "127 + 127 is no pair"


def test_pairs_go_across_pixels_and_within_them() -> None:
    """Three channels: (0, 1), (2, 3), ... of a row; (0, 1), (2,) of a pixel where the row is torn apart."""
    across = np.zeros((1, 1, 2, 3), np.int8)
    across[0, 0, 0, 2] = across[0, 0, 1, 0] = 100
    within = np.zeros((1, 1, 2, 3), np.int8)
    within[0, 0, 1, :2] = 100
    assert not AVX2BYTES.accepts(across)
    assert not AVX2BYTES.accepts(within)


@settings(BUILDING, max_examples=5)
@given(st.data())
def test_weights_at_the_edge_and_extreme_activations_are_exact(
    machines: Machines, data: st.DataObject
) -> None:
    calls = []
    for _ in range(6):
        rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
        window, outputs = data.draw(st.sampled_from((1, 3))), data.draw(st.sampled_from((1, 8, 17, 48)))
        inputs, groups = data.draw(st.sampled_from((2, 4, 6, 32, 66))), data.draw(st.sampled_from((1, 1, 2)))
        first = rng.integers(1, 128, (groups * outputs, window, window, inputs // 2))
        pairs = np.stack([first, 128 - first], axis=-1)
        kinds = rng.integers(0, 3, first.shape)  # both at the top, both at the bottom, one at either end
        pairs[kinds == 1] *= -1
        pairs[kinds == 2] = (127, -128)
        weights = pairs.reshape(groups * outputs, window, window, inputs).astype(np.int8)
        op = convolution(weights, groups)
        ends = data.draw(st.sampled_from(([-128], [127], [-128, 127])))
        x = rng.choice(np.array(ends, np.int8), op.input_shape)
        calls.append(whole(KERNEL, TARGET, Case(op, (x,))))
    check(machines, TARGET, calls)


def test_it_is_taken_before_other_lines_and_for_no_other_weights() -> None:
    seven, eight = (convolution(np.full((16, 1, 1, 16), value, np.int8)) for value in (64, 65))
    assert next(candidates(seven, TARGET))[0] is KERNEL
    assert KERNEL not in [kernel for kernel, _ in candidates(eight, TARGET)]

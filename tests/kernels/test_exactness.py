"""Every line of the table equals the reference bit for bit, on every processor at hand.

Float convolutions, whose sums have an order of their own, stay within the bound of their rounding errors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgec.kernels import reference
from edgec.kernels.kernel import Kernel
from edgec.kernels.operations import (
    Conv2d,
    Dequantize,
    FloatAveragePool,
    FloatBinary,
    FloatConv2d,
    FloatMean,
    FloatNormalize,
    Interpolate,
    MaxPool,
    Quantize,
)
from edgec.kernels.table import KERNELS
from edgec.targets import loader
from edgec.targets.descriptor import Target
from tests.kernels.harness import Call, Machines
from tests.kernels.operations import BUILDING, Case, batches, called

# The plainest of each architecture, then those whose compiled code differs: wider vectors, FMA, fp16, other
# scheduling.
DEVICES = (
    "x86-64", "x86-64-v3", "x86-64-v4", "x86-64-avxvnni", "cortex-a53", "rpi4", "rpi5", "cortex-a720",
    "cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "riscv32",
)  # fmt: skip

FIXED_POINT = ("_fixed", "_thumb", "_plain", "_unrolled")
"""How the names of kernels for cores without an FPU end."""
TAKE_NO_1X1 = frozenset(
    {kernel.name for kernel in KERNELS if kernel.name.startswith("winograd")}
    | {"conv2d_int16_avx2", "depthwise_dsp", "depthwise_mve", "depthwise_thumb"}
)
"""Kernels of other windows, or of larger images."""
FASTER = frozenset({"avx512vnni", "avxvnni", "dotprod", "i8mm"})
"""Products of four, or more."""


def lines(operation: type = object) -> Iterator[Any]:
    """A kernel that needs features runs on the first device that has them, any other on every device."""
    for kernel in KERNELS:
        devices = [d for d in DEVICES if kernel.runs_on(loader.load(f"{d}-int8"))]
        if kernel.features:
            # AVX-VNNI's products are AVX-512's in another encoding: machines with either can try its lines.
            devices = devices[:1] + ["x86-64-v4"] * ("avxvnni" in kernel.features)
            # Armv8-M is another architecture than the first one's, Armv7E-M.
            devices += ["cortex-m33"] * (kernel.features == {"dsp"})
        else:  # x86-64-v3 and rpi5 but for those products
            devices = [d for d in devices if d not in ("x86-64-avxvnni", "cortex-a720")]
        if not kernel.name.endswith(FIXED_POINT):  # what only moves elements is LLVM's, as on others
            devices = [d for d in devices if d not in ("cortex-m0plus", "riscv32")]
        targets = [loader.load(f"{device}-int8") for device in devices]
        if kernel.name.startswith("winograd"):
            targets = targets[:1]
        targets = [slower for target in targets if (slower := suited(kernel, target)) is not None]
        for target in filter(partial(_has_form, kernel), targets):
            if issubclass(kernel.operation, operation):
                yield pytest.param(kernel, target, id=f"{kernel.name}-{target.device}")


def suited(kernel: Kernel, target: Target) -> Target | None:
    """The target, without what makes the kernel take no layer at all; None where it takes none anyway."""
    if kernel.name == "chain_generic" and not target.platform.loads_programs:
        return None
    if kernel.name.startswith("winograd"):
        # Beside faster products it doesn't pay; test_winograd.py tries it whether it does or not.
        return replace(target, features=target.features - (FASTER - kernel.features))
    return target


def _has_form(kernel: Kernel, target: Target) -> bool:
    """Whether the kernel requantizes in the target's form, if at all, and has floats where it wants them."""
    if target.requantization == "float32":
        return not kernel.name.endswith(FIXED_POINT)
    if kernel.operation in reference.REQUANTIZING:
        return kernel.name.endswith((*FIXED_POINT, "_mcu"))
    return kernel.operation not in FLOATS


FLOATS = (Dequantize, FloatAveragePool, FloatBinary, FloatConv2d, FloatMean, FloatNormalize, Quantize)


@pytest.mark.parametrize(("kernel", "target"), list(lines()))
@settings(BUILDING, max_examples=3)
@given(data=st.data())
def test_a_kernel_equals_the_reference(
    kernel: Kernel, target: Target, machines: Machines, data: st.DataObject
) -> None:
    # A small cache makes many tiles of small operations.
    target = replace(target, l1d_bytes=data.draw(st.sampled_from((32768, 2048))))
    floats = target.requantization == "float32"

    def takes(case: Case) -> bool:
        operation = case.operation
        if isinstance(operation, MaxPool | Interpolate) and operation.dtype == "float32" and not floats:
            return False
        if isinstance(operation, Dequantize) and "mve.fp" in target.features and operation.scale < 2.0**-126:
            return False  # Helium takes subnormal numbers for zero
        return case.code(kernel, target) is not None

    cases = data.draw(batches(kernel.operation, takes, 8))
    calls = [data.draw(_call(kernel, target, case)) for case in cases]
    if kernel.operation is FloatConv2d:
        check_sums(machines, target, cases, calls)
    else:
        check(machines, target, calls)


@pytest.mark.parametrize(("kernel", "target"), list(lines(Conv2d)))
def test_windows_may_lie_in_the_padding(kernel: Kernel, target: Target, machines: Machines) -> None:
    """The one column of the output starts two to the left of the image and doesn't reach it."""
    x = np.arange(-50, 49, dtype=np.int8)
    weights, bias = np.ones((33, 1, 1, 33), np.int8), np.arange(33, dtype=np.int32)
    op = Conv2d(
        (1, 3, 1, 33), weights, bias, np.ones(33, np.float32), 5, -3, -128, 127, strides=(1, 3),
        pads=(0, 2, 0, 0),
    )  # fmt: skip
    depthwise = replace(op, weights=op.weights[..., :1], groups=33)
    wide = replace(op, weights=op.weights.astype(np.int16))
    cases = [Case(op, (x,)) for op in (op, depthwise, wide) if kernel.code(op, target) is not None]
    if kernel.name in TAKE_NO_1X1:
        assert not cases
        pytest.skip("takes no window of 1x1")
    check(machines, target, [whole(kernel, target, case) for case in cases])


@pytest.mark.parametrize(("kernel", "target"), list(lines(Conv2d)))
def test_windows_reach_into_the_padding_whichever_tiles_are_asked_for(
    kernel: Kernel, target: Target, machines: Machines
) -> None:
    taken = ([op for op in layers if kernel.code(op, target) is not None] for layers in padded())
    calls = []
    for op in next(filter(None, taken), []):
        x = np.random.default_rng(1).integers(-128, 128, op.input_shape).astype(np.int8)
        call = whole(kernel, target, Case(op, (x,)))
        calls.append(replace(call, boundaries=(*range(min(call.code.tiles, 6)), call.code.tiles)))
    check(machines, target, calls)


def padded() -> Iterator[list[Conv2d]]:
    """Layers with padding: those that most kernels take, then some for kernels that take none of these."""
    windows = ((3, 1, (1, 1, 1, 1)), (5, 2, (1, 2, 2, 1)), (4, 1, (3, 0, 2, 3)))
    yield [_padded(5, *window, groups=groups) for window in windows for groups in (1, 5)]
    yield [_padded(8, *window, groups=8) for window in (windows[0], (3, 2, (0, 0, 1, 1)))]
    yield [_padded(5, *window, largest=63) for window in windows]  # all that pairs in int16 can hold
    yield [_padded(5, *window, dtype="int16") for window in windows]
    yield [_padded(64, 3, 1, pads) for pads in ((1, 1, 1, 1), (1, 2, 2, 1))]


def _padded(
    channels: int, size: int, stride: int, pads: tuple[int, int, int, int],
    groups: int = 1, largest: int = 127, dtype: str = "int8",
) -> Conv2d:  # fmt: skip
    rng = np.random.default_rng(0)
    shape = (channels, size, size, channels // groups)
    weights = rng.integers(-largest, largest + 1, shape).astype(dtype)
    bias, multiplier = rng.integers(-999, 999, channels).astype(np.int32), np.full(channels, 1e-3, np.float32)
    return Conv2d(
        (2, 9, 32, channels), weights, bias, multiplier, 7, -3, -128, 127, strides=(stride, stride),
        pads=pads, groups=groups,
    )  # fmt: skip


def check(machines: Machines, target: Target, calls: Sequence[Call]) -> None:
    """Run the calls together and compare each with its result, byte by byte."""
    assert calls, "nothing to compare"
    for call, output in zip(calls, machines.run(target, calls), strict=True):
        memory = call.memory(call.expected)
        actual = np.frombuffer(output, call.expected.dtype).reshape(memory.shape)
        np.testing.assert_array_equal(_bits(actual), _bits(memory), err_msg=call.code.key)


def check_sums(machines: Machines, target: Target, cases: Sequence[Case], calls: Sequence[Call]) -> None:
    """Run float convolutions in ranges of tiles and at once: the bits are the same, and near the reference.

    n additions and multiplications, one rounding each at most, are off by 2n half units in the last place of
    the sum of magnitudes (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1).
    """
    wholes = [replace(call, boundaries=(0, call.code.tiles)) for call in calls]
    outputs, others = machines.run(target, calls), machines.run(target, wholes)
    for case, call, output, other in zip(cases, calls, outputs, others, strict=True):
        assert output == other, call.code.key
        op = case.operation
        assert isinstance(op, FloatConv2d)
        positive = replace(op, weights=abs(op.weights), bias=abs(op.bias), low=-np.inf, high=np.inf)
        magnitudes = reference.float_conv2d(positive, *map(abs, case.inputs))
        bound = 2 * (op.weights[0].size + 2) * 2.0**-24 * magnitudes
        actual = np.frombuffer(output, np.float32)
        if call.positions is not None:
            np.testing.assert_array_equal(_bits(actual), _bits(call.memory(actual[call.positions])))
            actual = actual[call.positions]
        actual = actual.reshape(call.expected.shape)
        assert (abs(actual - call.expected) <= bound).all(), call.code.key


def whole(kernel: Kernel, target: Target, case: Case) -> Call:
    """All tiles of the case in one range."""
    code = case.code(kernel, target)
    assert code is not None
    with np.errstate(over="ignore", invalid="ignore"):  # they are clamped like any other value
        (expected,) = reference.compute(case.operation, case.inputs, target.requantization)
    return called(case.operation, Call(code, case.inputs, expected, (0, code.tiles)), case.demands)


@st.composite
def _call(draw: st.DrawFn, kernel: Kernel, target: Target, case: Case) -> Call:
    """Up to three ranges of tiles, empty ones too, and in place where the kernel allows it."""
    call = whole(kernel, target, case)
    cuts = sorted(draw(st.lists(st.integers(0, call.code.tiles), max_size=2)))
    inplace = draw(st.sampled_from((None, *call.code.inplace)))
    return replace(call, boundaries=(0, *cuts, call.code.tiles), at_end=draw(st.booleans()), inplace=inplace)


def _bits(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Integers whose equality is that of the bytes: -0.0 is not 0.0; all NaNs are one."""
    if values.dtype == np.float32:
        values = np.where(np.isnan(values), np.float32(np.nan), values)
    return np.ascontiguousarray(values).view(f"i{values.itemsize}")

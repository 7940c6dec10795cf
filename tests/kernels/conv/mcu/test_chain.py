"""Chains on microcontrollers: exact however many rows a step has, in little scratch, and mostly calls."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.kernels import reference
from edgec.kernels.codegen import elf, native
from edgec.kernels.kernel import KernelCode
from edgec.kernels.operations import FREE, Binary, Chain, Conv2d, Demands
from edgec.kernels.table import KERNELS
from edgec.targets import loader
from edgec.targets.descriptor import Target
from tests.kernels.harness import Call, Machines
from tests.kernels.operations import BUILDING
from tests.kernels.test_exactness import check

CORES = ("cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
(KERNEL,) = (kernel for kernel in KERNELS if kernel.name == "chain_mcu")


def convolution(
    shape: tuple[int, int, int, int],
    outputs: int = 0,
    kernel: int = 1,
    stride: int = 1,
    pads: tuple[int, int, int, int] | None = None,
) -> Conv2d:
    """Dense with so many outputs, else depthwise; padded by half a window, if not otherwise."""
    channels = shape[3]
    rng = np.random.default_rng(sum(shape) + outputs)
    window = (outputs or channels, kernel, kernel, channels if outputs else 1)
    weights = rng.integers(-127, 128, window).astype(np.int8)
    bias, multiplier = rng.integers(-99, 99, len(weights)), rng.uniform(1e-3, 4e-3, len(weights))
    return Conv2d(
        shape, weights, bias.astype(np.int32), multiplier.astype(np.float32), 3, -7, -128, 127,
        (stride, stride), (kernel // 2,) * 4 if pads is None else pads, groups=1 if outputs else channels,
    )  # fmt: skip


def first_layers(size: int = 48) -> Chain:
    """Of MobileNetV1-0.25, from the image to the second depthwise convolution, at stride 2."""
    first = convolution((1, 2 * size, 2 * size, 3), 8, 3, 2)
    middle = convolution(first.output_shape, kernel=3)
    pointwise = convolution(middle.output_shape, 16)
    return Chain((first, middle, pointwise, convolution(pointwise.output_shape, kernel=3, stride=2)))


def code(operation: Chain, target: Target, demands: Demands = FREE) -> KernelCode:
    found = KERNEL.code(operation, target, demands)
    assert found is not None
    return found


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    """Of what the compact kernels take: windows in and out of the image, strides, padding of any side."""
    size = st.integers(5, 21)
    shape = (draw(st.integers(1, 2)), draw(size), draw(size), draw(st.sampled_from((1, 3, 8, 16))))
    stages: list[Conv2d] = []
    for _ in range(draw(st.integers(2, 4))):
        depthwise = shape[3] % 8 == 0 and draw(st.booleans())
        kernel = 3 if depthwise else draw(st.sampled_from((1, 1, 2, 3, 5)))
        kernel = min(kernel, *shape[1:3])
        depthwise = depthwise and kernel == 3
        pads = draw(st.none() | st.tuples(*[st.integers(0, kernel - 1)] * 4))
        outputs = 0 if depthwise else draw(st.sampled_from((4, 7, 8, 16)))
        stages.append(convolution(shape, outputs, kernel, draw(st.integers(1, 2 if depthwise else 3)), pads))
        shape = stages[-1].output_shape
    return Chain(tuple(stages))


@pytest.mark.parametrize("core", CORES)
@settings(BUILDING, max_examples=3)
@given(data=st.data())
def test_every_step_size_equals_the_reference(core: str, machines: Machines, data: st.DataObject) -> None:
    target = loader.load(f"{core}-int8")
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    calls = []
    # A dense layer is in none: it is one pixel.
    several = st.lists(
        chains().filter(lambda op: KERNEL.code(op, target) is not None), min_size=8, max_size=8
    )
    for operation in data.draw(several):
        inputs = [rng.integers(-128, 128, operation.input_shape).astype(np.int8)]
        *before, last = operation.stages
        if last.groups == 1 and data.draw(st.booleans()):
            size = int(np.prod(last.output_shape))
            added = Binary("add", (size,), ((1,), (1,)), (-7, 5), (0.5, 0.75), 1, -128, 127)
            operation = replace(operation, stages=(*before, replace(last, residual=added)))
            inputs.append(rng.integers(-128, 128, size).astype(np.int8))
        most = code(operation, target).scratch_bytes
        limit = data.draw(st.sampled_from((None, most // 2, most // 4, 0)))
        made = code(operation, target, Demands(limit))
        (expected,) = reference.compute(operation, inputs, target.requantization)
        inplace = data.draw(st.sampled_from((None, *made.inplace)))
        calls.append(Call(made, tuple(inputs), expected, (0, made.tiles), data.draw(st.booleans()), inplace))
    check(machines, target, calls)


@pytest.mark.parametrize("core", CORES)
def test_the_first_layers_of_a_mobilenet_are_stripes_over_their_input(core: str, machines: Machines) -> None:
    """Their image and its result take 36,864 bytes side by side; the result lies where the image was read."""
    target, operation = loader.load(f"{core}-int8"), first_layers()
    least = code(operation, target, Demands(scratch=0))
    assert least.inplace == (0,)
    assert least.scratch_bytes < 9000
    assert code(operation, target).scratch_bytes > 1.5 * least.scratch_bytes
    x = np.random.default_rng(0).integers(-128, 128, operation.input_shape).astype(np.int8)
    (expected,) = reference.compute(operation, [x], target.requantization)
    check(machines, target, [Call(least, (x,), expected, (0, 1), inplace=0)])


@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m4", "cortex-m55"])
def test_a_chain_is_little_more_than_calls_of_what_its_layers_call(core: str) -> None:
    target, operation = loader.load(f"{core}-int8"), first_layers()
    made = code(operation, target)
    symbols = [kernel.symbol(callee) for kernel, callee in made.callees]
    assert len(made.callees) == 4
    for (kernel, callee), stage in zip(made.callees, operation.stages, strict=True):
        assert kernel.symbol(callee) in [kernel.symbol(one) for one in kernel.codes(stage, target)]
    compiled = native.compile_object(made.make(), "chain", target, symbols)
    assert elf.undefined_symbols(compiled) == set(symbols)
    assert elf.loaded_bytes(compiled) < 1000


def test_what_no_compact_kernel_takes_is_in_no_chain() -> None:
    target, operation = loader.load("cortex-m4-int8"), first_layers(8)
    first, *others = operation.stages
    wide = replace(first, weights=first.weights.astype(np.int16))
    odd = convolution((1, 8, 8, 6), kernel=5)
    for stages in ((wide, *others), (convolution((1, 8, 8, 3), 6), odd)):
        assert not [kernel for kernel in KERNELS if kernel.operation is Chain and kernel.runs_on(target)
                    and kernel.code(Chain(stages), target)]  # fmt: skip


def test_of_an_image_turned_the_rows_stay_rows() -> None:
    """By themselves depthwise layers run along columns where those are longer."""
    target = loader.load("cortex-m4-int8")
    first = convolution((1, 25, 5, 1), 8, 3)
    narrow = convolution(first.output_shape, kernel=3)
    (_, alone), *_ = ((k, k.code(narrow, target)) for k in KERNELS if k.name == "depthwise_dsp")
    assert alone is not None
    assert alone.configuration == "along columns"
    assert code(Chain((first, narrow)), target).callees[1][1].configuration == "along rows"

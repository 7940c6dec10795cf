"""Every line of the table equals the reference bit for bit, on every processor at hand."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgec.kernels import reference
from edgec.kernels.table import KERNELS
from edgec.kernels.kernel import Kernel, KernelCode
from edgec.targets import loader
from edgec.targets.descriptor import Target
from tests.kernels.harness import Call, Machines
from tests.kernels.operations import Case, batches

# The plainest of each architecture, then those whose compiled code differs: wider vectors, FMA, fp16, other
# scheduling.
DEVICES = ("x86-64", "x86-64-v3", "x86-64-v4", "cortex-a53", "rpi4", "rpi5")


def lines() -> Iterator[object]:
    """A kernel that needs features runs on the first device that has them, any other on every device."""
    for kernel in KERNELS:
        targets = [t for t in (loader.load(f"{device}-int8") for device in DEVICES) if kernel.runs_on(t)]
        for target in targets[: 1 if kernel.features else None]:
            yield pytest.param(kernel, target, id=f"{kernel.name}-{target.device}")


@pytest.mark.parametrize(("kernel", "target"), list(lines()))
@settings(
    derandomize=True,
    deadline=None,
    max_examples=3,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(data=st.data())
def test_a_kernel_equals_the_reference(
    kernel: Kernel, target: Target, machines: Machines, data: st.DataObject
) -> None:
    # A small cache makes many tiles of small operations.
    target = replace(target, l1d_bytes=data.draw(st.sampled_from((32768, 2048))))
    cases = data.draw(batches(kernel.operation, lambda op: kernel.code(op, target) is not None, 8))
    assume(cases)
    expected = [reference.SEMANTICS[kernel.operation](case.operation, *case.inputs) for case in cases]
    calls = []
    for case, result in zip(cases, expected, strict=True):
        code = kernel.code(case.operation, target)
        assert code is not None
        calls.append(data.draw(_call(code, case, result.nbytes)))
    for case, call, right, output in zip(cases, calls, expected, machines.run(target, calls), strict=True):
        actual = np.frombuffer(output, right.dtype).reshape(right.shape)
        message = f"{call.code.key}, ranges {call.boundaries}, in place {call.inplace}: {case.operation}"
        np.testing.assert_array_equal(_bits(actual), _bits(right), err_msg=message)


@st.composite
def _call(draw: st.DrawFn, code: KernelCode, case: Case, output_bytes: int) -> Call:
    """Up to three ranges of tiles, empty ones too, and in place where the kernel allows it."""
    cuts = sorted(draw(st.lists(st.integers(0, code.tiles), max_size=2)))
    inplace = draw(st.sampled_from((None, *code.inplace)))
    return Call(code, case.inputs, output_bytes, (0, *cuts, code.tiles), draw(st.booleans()), inplace)


def _bits(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Integers whose equality is that of the bytes: -0.0 is not 0.0."""
    return np.ascontiguousarray(values).view(f"i{values.itemsize}")

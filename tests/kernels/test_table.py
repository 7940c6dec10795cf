"""What holds for every line of the table: names, a portable last line, keys, and nothing but plain code."""

import re
from dataclasses import fields, replace
from typing import Any, get_args

import numpy as np
import pytest
import tvm_ffi
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from edgec.errors import UnsupportedError
from edgec.kernels import reference
from edgec.kernels.codegen import elf, native
from edgec.kernels.kernel import Kernel, KernelCode
from edgec.kernels.operations import (
    ARGUMENTS,
    Attention,
    Binary,
    Chain,
    Conv2d,
    Demands,
    FloatAveragePool,
    FloatBinary,
    FloatConv2d,
    FloatMean,
    FloatNormalize,
    Island,
    Matrices,
    Operation,
    Product,
    Rearrange,
    Runs,
)
from edgec.kernels.table import KERNELS, candidates
from edgec.targets import loader
from edgec.targets.descriptor import Target
from tests.kernels.operations import BUILDING, CASES, Case, batches
from tests.kernels.test_exactness import FIXED_POINT, suited

EXACT = [operation for operation in get_args(Operation) if operation is not Island]

FLOAT = FloatAveragePool, FloatBinary, FloatConv2d, FloatMean, FloatNormalize

LINES = [
    pytest.param(kernel, target, id=f"{kernel.name}-{target.device}")
    for largest in map(loader.load, ("x86-64-v4-int8", "cortex-a720-int8", "cortex-m55-int8"))
    for kernel in KERNELS
    if kernel.runs_on(largest) and (target := suited(kernel, largest)) is not None
]
"""Every kernel on the largest devices, which have fused multiply-add."""


def test_names_are_unique() -> None:
    assert len({kernel.name for kernel in KERNELS}) == len(KERNELS)


@pytest.mark.parametrize("operation", EXACT)
def test_every_operation_has_a_meaning_a_test_and_a_portable_last_line(operation: type[Operation]) -> None:
    assert operation in reference.SEMANTICS
    assert operation in CASES
    last = [kernel for kernel in KERNELS if kernel.operation is operation][-1]
    assert (last.features, last.arch) == (frozenset(), None)


@pytest.mark.parametrize("operation", EXACT)
@settings(BUILDING, max_examples=50)
@given(data=st.data())
def test_portable_lines_take_whatever_comes(operation: type[Operation], data: st.DataObject) -> None:
    unknown = replace(loader.load("x86-64-int8"), arch="riscv64")
    case = data.draw(CASES[operation])
    assert any(candidates(case.operation, unknown, case.demands))


@pytest.mark.parametrize(("kernel", "target"), LINES)
@settings(BUILDING, max_examples=4)
@given(data=st.data())
def test_values_are_arguments_and_not_code(kernel: Kernel, target: Target, data: st.DataObject) -> None:
    for case in data.draw(batches(kernel.operation, lambda case: case.code(kernel, target) is not None, 1)):
        one = case.operation
        two = _of_other_values(one)
        code = case.code(kernel, target)
        assert code is not None
        # Weights may leave no proof for the first choice, and then take another of the layer's.
        same = next(
            (other for other in kernel.codes(two, target, case.demands) if other.key == code.key), None
        )
        if same is None and kernel.name.startswith("winograd"):
            reject()  # such small weights have faster products, beside which no transform pays
        assert same is not None
        assert tvm_ffi.structural_equal(code.make(), same.make())


@pytest.mark.parametrize(("kernel", "target"), LINES)
@settings(BUILDING, max_examples=10)
@given(data=st.data())
def test_equal_keys_mean_equal_code(kernel: Kernel, target: Target, data: st.DataObject) -> None:
    """Whatever shape changes by one: either the key tells, or the code is the same."""
    for case in data.draw(batches(kernel.operation, lambda case: case.code(kernel, target) is not None, 1)):
        part = data.draw(st.sampled_from(("operation", "operation", "demands")))
        changed = data.draw(_bumped_field(getattr(case, part)))
        try:
            codes = case.code(kernel, target), replace(case, **{part: changed}).code(kernel, target)
        except (ValueError, ZeroDivisionError):  # shapes that don't go together
            continue
        both = [code for code in codes if code is not None]
        differ = len(both) < 2 or both[0].key != both[1].key
        assert differ or tvm_ffi.structural_equal(both[0].make(), both[1].make())


@pytest.mark.parametrize(("kernel", "target"), LINES)
@settings(BUILDING, max_examples=2)
@given(data=st.data())
def test_code_is_plain(kernel: Kernel, target: Target, data: st.DataObject) -> None:
    """One rounding for every product and sum, and no library but the C library's memory functions."""
    for case in data.draw(batches(kernel.operation, lambda case: case.code(kernel, target) is not None, 2)):
        code = case.code(kernel, target)
        assert code is not None
        callees = {row.symbol(callee) for row, callee in code.callees}
        text = native.assembly(code.make(), "kernel", target)
        fused = re.findall(r"\bvfn?m(?:add|sub)\w+|\bfn?m(?:la|ls|add|sub)\b", text)
        assert not fused or kernel.operation is FloatConv2d
        names = elf.global_symbols(native.compile_object(code.make(), "kernel", target, callees))
        assert names <= {"kernel", "memcpy", "memmove", "memset"} | callees


@pytest.mark.parametrize("operation", reference.REQUANTIZING)
@settings(BUILDING, max_examples=6)
@given(data=st.data())
def test_cores_without_an_fpu_get_no_float_instruction_and_no_library_for_arithmetic(
    operation: type[Operation], data: st.DataObject
) -> None:
    target = loader.load("cortex-m3-int8")
    case = data.draw(CASES[operation])
    _, code = next(candidates(case.operation, target, case.demands), (None, None))
    assert code is not None or operation is Chain  # whose layers are then by themselves
    for each in [] if code is None else (code, *(callee for _, callee in code.callees)):
        callees = {row.symbol(callee) for row, callee in each.callees}
        text = native.assembly(each.make(), "kernel", target).partition(".Lfunc_end0")[0]
        assert not re.findall(r"\n\tv\w+\b.*", text)
        names = elf.global_symbols(native.compile_object(each.make(), "kernel", target, callees))
        assert names <= {"kernel", "memcpy", "memset"} | callees


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if kernel.operation is Conv2d])
def test_a_sum_that_may_leave_int32_is_refused(kernel: Kernel) -> None:
    # A layer that is the kernel's own: output channels, window, input channels, groups and size of the image.
    microcontroller = kernel.arch == "arm-m" and "any" not in kernel.name
    outputs, window, inputs, groups, size = {
        "depthwise": (8, (3, 3), 1, 8, 3) if microcontroller else (2, (1, 1), 1, 2, 1),
        "depthwise_any": (2, (1, 1), 1, 2, 1),
        "winograd": (32, (3, 3), 32, 1, 18),
        "conv2d_int16": (2, (1, 1), 8, 1, 8),
    }.get(kernel.name.rpartition("_")[0], (2, (1, 1), 8, 1, 1))
    # Of 7 bits, which every kernel takes.
    weights = np.full((outputs, *window, inputs), 63, np.int16 if "wide" in kernel.name else np.int8)
    op = Conv2d(
        (1, size, size, inputs * groups), weights, np.zeros(outputs, np.int32),
        np.full(outputs, 0.125, np.float32), 0, 0, -128, 127, groups=groups,
    )  # fmt: skip
    fixed = kernel.name.endswith(FIXED_POINT)
    target = loader.load("cortex-m3-int8" if fixed else "x86-64-int8")
    assert kernel.code(op, target) is not None
    too_large = replace(op, bias=np.full(outputs, 2**31 - 1000, np.int32))
    # What leaves it to the kernels without a transform, or takes nothing that isn't far from that.
    if kernel.name.startswith("winograd") or kernel.name == "conv2d_dsp":
        assert kernel.code(too_large, target) is None
        return
    with pytest.raises(UnsupportedError, match="int32"):
        kernel.code(too_large, target)


def _of_other_values(one: Any) -> Any:
    """The same operation on the same shapes, with everything else exchanged that is no code."""
    if isinstance(one, Chain):
        return replace(one, stages=tuple(map(_of_other_values, one.stages)))
    names = ARGUMENTS & {field.name for field in fields(one)}
    # What code may know: int8's own bounds, its lowest zero point ...
    if isinstance(one, Attention | Conv2d | Product) and (
        one.saturating or (getattr(one, "residual", None) or one).output_zero_point == -128
    ):
        names -= {"low", "high", "output_zero_point", "residual"}
    if isinstance(one, FLOAT):
        names -= {"low", "high", "residual"}  # constants in the code, and there are few of them
    two = replace(one, **{name: _other(getattr(one, name)) for name in names})
    if isinstance(one, Attention | Product):  # ... and how far the values reach that it rounds
        two = replace(two, multiplier=one.multiplier * (2.0 if one.reach >= 2.0**30 else 0.75))
    if isinstance(one, Conv2d):  # ... and how far the values reach that it rounds
        reach, other = (replace(op, residual=None).reach for op in (one, two))
        two = replace(two, multiplier=np.float32(reach / other) * two.multiplier)
    return two


def _other(value: Any) -> Any:
    """A value of the same form that differs."""
    if isinstance(value, np.ndarray):
        return np.where(value == 1, 2, 1).astype(value.dtype)
    if isinstance(value, tuple):
        return tuple(map(_other, value))
    if isinstance(value, Binary):
        return replace(value, **{name: _other(getattr(value, name)) for name in ARGUMENTS & set(vars(value))})
    return value if value is None else type(value)(2 if value == 1 else 1)


def _bumped_field(value: Any) -> st.SearchStrategy[Any]:
    """The same operation or demands with one field bumped that code may depend on."""
    names = sorted({field.name for field in fields(value)} - ARGUMENTS)
    return st.sampled_from(names).flatmap(
        lambda name: _bumped(getattr(value, name)).map(lambda bumped: replace(value, **{name: bumped}))
    )


def _bumped(value: Any) -> st.SearchStrategy[Any]:
    """The same value with one number in it one larger, or another word."""
    if value is None or value == ():
        return st.just(value)
    if isinstance(value, Runs):
        return st.sampled_from((replace(value, pitch=value.pitch + 1), None))
    if isinstance(value, Matrices):
        bumped = ("size", "offset", "row" if value.column == 1 else "column")
        return st.sampled_from([replace(value, **{name: getattr(value, name) + 1}) for name in bumped])
    if isinstance(value, str):
        return st.just({"add": "mul", "mul": "add"}.get(value, "int16" if value != "int16" else "int32"))
    if isinstance(value, tuple) and value:
        index = st.integers(0, len(value) - 1)
        return index.flatmap(
            lambda i: _bumped(value[i]).map(lambda bumped: (*value[:i], bumped, *value[i + 1 :]))
        )
    if isinstance(value, Conv2d | Demands):  # of a chain
        return _bumped_field(value)
    if isinstance(value, bool):
        return st.just(not value)
    return st.just(value + 1)


@pytest.mark.parametrize(
    ("kernel", "target"), [line for line in LINES if line.values[0].operation in (Conv2d, Chain)]
)
@settings(BUILDING, max_examples=10)
@given(data=st.data())
def test_scratch_is_limited_where_it_can_be(kernel: Kernel, target: Target, data: st.DataObject) -> None:
    """The first code with no scratch allowed is the smallest; with as much as it takes, it is the same."""
    for case in data.draw(batches(kernel.operation, lambda case: case.code(kernel, target) is not None, 2)):

        def limited_to(scratch: int, case: Case = case) -> KernelCode | None:
            return replace(case, demands=replace(case.demands, scratch=scratch)).code(kernel, target)

        code, least = case.code(kernel, target), limited_to(0)
        assert code is not None
        if least is None:  # Winograd's transforms can't do with less
            continue
        assert least.scratch_bytes <= code.scratch_bytes
        limited = limited_to(code.scratch_bytes)
        assert limited is not None
        assert limited.key == code.key
        between = (code.scratch_bytes + least.scratch_bytes) // 2
        limited = limited_to(between)
        assert limited is not None
        assert limited.scratch_bytes <= between


def test_a_kernel_runs_where_results_are_requantized_as_it_does() -> None:
    by_integers = {kernel.name for kernel in KERNELS if kernel.runs_on(loader.load("cortex-m3-int8"))}
    by_floats = {kernel.name for kernel in KERNELS if kernel.runs_on(loader.load("x86-64-v3-int8"))}
    assert {"conv2d_thumb", "binary_fixed", "pad"} <= by_integers
    assert {"conv2d_generic", "binary", "pad"} <= by_floats
    assert not {kernel.name for kernel in KERNELS if kernel.requantization} & by_integers & by_floats


def test_a_kernel_takes_the_dtypes_that_its_line_names() -> None:
    target = loader.load("x86-64-v3-int8")
    added = Binary("add", (8,), ((1,), (1,)), (0, 0), (1.0, 1.0), 0, -128, 127)
    moved = Rearrange((8,), (1,), 0, "int8", 8)
    assert any(candidates(added, target))
    assert not any(candidates(replace(added, dtype="int16"), target))
    assert any(candidates(replace(moved, dtype="int16"), target))
    assert not any(kernel.dtypes is None for kernel in KERNELS if kernel.requantization is not None)

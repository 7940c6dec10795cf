"""The table of kernels, best first. A new line here is a new kernel: selected, tested and benchmarked."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from edgec.kernels.conv import chain, conv2d, depthwise, float_conv2d, float_depthwise, winograd
from edgec.kernels.conv.mcu import chain as mcu_chain
from edgec.kernels.conv.mcu import conv2d as mcu_conv2d
from edgec.kernels.conv.mcu import depthwise as mcu_depthwise
from edgec.kernels.conv.mcu import depthwise_any as mcu_depthwise_any
from edgec.kernels.conv.mcu.conv2d_dsp import Dsp
from edgec.kernels.conv.mcu.conv2d_mve import Mve
from edgec.kernels.conv.mcu.conv2d_plain import Plain, Unrolled
from edgec.kernels.conv.mcu.conv2d_thumb import Thumb
from edgec.kernels.conv.mcu.depthwise import DepthwiseRows
from edgec.kernels.conv.mcu.depthwise_any import DepthwiseAny
from edgec.kernels.conv.mcu.depthwise_dsp import DspAny, DspRows
from edgec.kernels.conv.mcu.depthwise_mve import MveAny, MveRows
from edgec.kernels.conv.mcu.depthwise_plain import PlainAny
from edgec.kernels.conv.mcu.depthwise_thumb import ThumbAny, ThumbRows
from edgec.kernels.isa import arm64, fixed, fma, int16, tables, x86
from edgec.kernels.isa.base import DepthwiseSet, InstructionSet
from edgec.kernels.isa.generic import Generic, GenericDepthwise
from edgec.kernels.isa.tables import TableSet
from edgec.kernels.kernel import Kernel, KernelCode
from edgec.kernels.movement import concat, interpolate, pad, rearrange
from edgec.kernels.operations import (
    FREE,
    Attention,
    AveragePool,
    Binary,
    Chain,
    Concat,
    Conv2d,
    Demands,
    Dequantize,
    FloatAveragePool,
    FloatBinary,
    FloatConv2d,
    FloatMean,
    FloatNormalize,
    Interpolate,
    Lookup,
    MaxPool,
    Mean,
    Normalize,
    Operation,
    Pad,
    Product,
    Quantize,
    Rearrange,
    Recurrent,
    Softmax,
)
from edgec.kernels.pointwise import elementwise, lookup
from edgec.kernels.pointwise.mcu import fixed_point as pointwise_fixed
from edgec.kernels.product import attention, product
from edgec.kernels.recurrent import recurrent
from edgec.kernels.reduction import float_normalize, normalize, pooling, softmax
from edgec.kernels.reduction.mcu import fixed_point as reduction_fixed
from edgec.kernels.reduction.mcu import normalize as normalize_fixed
from edgec.targets.descriptor import Requantization, Target

INT8, FLOAT = frozenset({"int8"}), frozenset({"float32"})
"""Types of codes and numbers that kernels take."""
Codes = Callable[[Any, Any, Target, Demands], Iterable[KernelCode]]


def _vectorized(family: str, codes: Codes, isa: InstructionSet | DepthwiseSet) -> Kernel:
    name, bound = f"{family}_{isa.name}", partial(codes, isa)
    return Kernel(name, Conv2d, isa.features, isa.arch, bound, "float32", INT8)


def _chained(dense: InstructionSet, channelwise: DepthwiseSet) -> Kernel:
    name, bound = f"chain_{dense.name}", partial(chain.codes, dense, channelwise)
    return Kernel(name, Chain, dense.features | channelwise.features, dense.arch, bound, "float32", INT8)


def _product(isa: InstructionSet, group: int, requantization: Requantization = "float32") -> Kernel:
    name, bound = f"product_{isa.name}", partial(product.codes, isa, group)
    return Kernel(name, Product, isa.features, isa.arch, bound, requantization, INT8)


def _attention(
    isa: InstructionSet, group: int, table: TableSet | None, requantization: Requantization = "float32"
) -> Kernel:
    features = isa.features | (table.features if table else frozenset())
    bound = partial(attention.codes, isa, group, table, requantization != "float32")
    return Kernel(f"attention_{isa.name}", Attention, features, isa.arch, bound, requantization, INT8)


def _recurrent(isa: InstructionSet, requantization: Requantization = "float32") -> Kernel:
    name, bound = f"recurrent_{isa.name}", partial(recurrent.codes, isa, requantization != "float32")
    return Kernel(name, Recurrent, isa.features, isa.arch, bound, requantization, INT8)


def _mcu(family: str, codes: Codes, isa: mcu_conv2d.McuSet | DepthwiseRows | DepthwiseAny) -> Kernel:
    name, bound = f"{family}_{isa.name}", partial(codes, isa)
    return Kernel(name, Conv2d, isa.features, isa.arch, bound, isa.requantization, INT8)


def _fixed(family: str, codes: Codes, isa: fixed.Fixed | fixed.FixedDepthwise) -> Kernel:
    name, bound = f"{family}_{isa.name}", partial(codes, isa)
    return Kernel(name, Conv2d, isa.features, None, bound, "fixed-point", INT8)


def _float(family: str, codes: Codes, isa: fma.FloatSet) -> Kernel:
    name, bound = f"{family}_{isa.name}", partial(codes, isa)
    return Kernel(name, FloatConv2d, isa.features, isa.arch, bound, None, FLOAT)


def _mapped(family: str, operation: type[Operation], codes: Codes, isa: TableSet) -> Kernel:
    name, bound = f"{family}_{isa.name}", partial(codes, isa)
    return Kernel(name, operation, isa.features, isa.arch, bound, None, INT8)


def _portable(
    name: str,
    operation: type[Operation],
    code: Callable[[Any, Target, Demands], KernelCode],
    requantization: Requantization | None = None,
    dtypes: frozenset[str] | None = None,
) -> Kernel:
    return Kernel(name, operation, frozenset(), None, partial(_single, code), requantization, dtypes)


def _single(
    code: Callable[[Any, Target, Demands], KernelCode], operation: Operation, target: Target, demands: Demands
) -> Iterable[KernelCode]:
    return (code(operation, target, demands),)


_MCU = (
    _mcu("depthwise", mcu_depthwise.codes, MveRows()),
    _mcu("depthwise", mcu_depthwise.codes, DspRows()),
    _mcu("depthwise", mcu_depthwise.codes, ThumbRows()),
    _mcu("depthwise_any", mcu_depthwise_any.codes, MveAny()),
    _mcu("depthwise_any", mcu_depthwise_any.codes, DspAny()),
    _mcu("depthwise_any", mcu_depthwise_any.codes, ThumbAny()),
    _mcu("depthwise_any", mcu_depthwise_any.codes, PlainAny()),
    _mcu("conv2d", mcu_conv2d.codes, Mve()),
    _mcu("conv2d", mcu_conv2d.codes, Dsp()),
    _mcu("conv2d", mcu_conv2d.codes, Thumb()),
    _mcu("conv2d", mcu_conv2d.codes, Unrolled()),
    _mcu("conv2d", mcu_conv2d.codes, Plain()),
)

KERNELS: tuple[Kernel, ...] = (
    _vectorized("depthwise", depthwise.codes, x86.DEPTHWISE_AVX512VNNI),
    _vectorized("depthwise", depthwise.codes, x86.DEPTHWISE_AVX512),
    _vectorized("depthwise", depthwise.codes, x86.DEPTHWISE_AVXVNNI),
    _vectorized("depthwise", depthwise.codes, x86.DEPTHWISE_AVX2),
    _vectorized("depthwise", depthwise.codes, arm64.DEPTHWISE_DOTPROD),
    _vectorized("depthwise", depthwise.codes, arm64.DEPTHWISE_NEON),
    _vectorized("depthwise", depthwise.codes, x86.DEPTHWISE_SSE2),
    *_MCU,
    _fixed("depthwise", depthwise.codes, fixed.FixedDepthwise()),
    _vectorized("depthwise", depthwise.codes, GenericDepthwise()),
    _vectorized("winograd", winograd.codes, int16.AVX512VNNI),
    _vectorized("winograd", winograd.codes, int16.AVX512),
    _vectorized("winograd", winograd.codes, int16.AVXVNNI),
    _vectorized("winograd", winograd.codes, int16.AVX2),
    _vectorized("winograd", winograd.codes, int16.NEON),
    _vectorized("winograd", winograd.codes, int16.SSE2),
    _vectorized("conv2d", conv2d.codes, x86.AVX512VNNI),
    _vectorized("conv2d", conv2d.codes, x86.AVX512),
    _vectorized("conv2d", conv2d.codes, x86.AVXVNNI),
    _vectorized("conv2d", conv2d.codes, x86.AVX2BYTES),
    _vectorized("conv2d_int16", conv2d.widened, int16.AVX2),
    _vectorized("conv2d", conv2d.codes, x86.AVX2),
    _vectorized("conv2d", conv2d.codes, arm64.I8MM),
    _vectorized("conv2d", conv2d.codes, arm64.DOTPROD),
    _vectorized("conv2d", conv2d.codes, arm64.NEON),
    _vectorized("conv2d", conv2d.codes, x86.SSE2),
    _fixed("conv2d", conv2d.codes, fixed.Fixed()),
    _fixed("conv2d_wide", conv2d.codes, fixed.Fixed("int16")),
    _vectorized("conv2d", conv2d.codes, Generic()),
    _vectorized("conv2d_wide", conv2d.codes, Generic("int16")),
    _attention(x86.AVX512VNNI, 4, tables.AVX512),
    _attention(int16.AVX512, 2, tables.AVX512),
    _attention(x86.AVXVNNI, 4, tables.AVX2),
    _attention(int16.AVX2, 2, tables.AVX2),
    _attention(arm64.I8MM, 8, tables.NEON),
    _attention(arm64.DOTPROD, 4, tables.NEON),
    _attention(int16.NEON, 1, tables.NEON),
    _attention(int16.SSE2, 2, None),
    _attention(fixed.Fixed(), 1, None, "fixed-point"),
    _attention(Generic(), 1, None),
    _product(x86.AVX512VNNI, group=4),
    _product(int16.AVX512, group=2),
    _product(x86.AVXVNNI, group=4),
    _product(int16.AVX2, group=2),
    _product(arm64.I8MM, group=8),
    _product(arm64.DOTPROD, group=4),
    _product(int16.NEON, group=1),
    _product(int16.SSE2, group=2),
    _product(fixed.Fixed(), group=1, requantization="fixed-point"),
    _product(Generic(), group=1),
    _recurrent(x86.AVX512VNNI),
    _recurrent(x86.AVX512),
    _recurrent(x86.AVXVNNI),
    _recurrent(x86.AVX2),
    _recurrent(arm64.DOTPROD),
    _recurrent(arm64.NEON),
    _recurrent(x86.SSE2),
    _recurrent(fixed.Fixed(), "fixed-point"),
    _recurrent(Generic()),
    _chained(x86.AVX512VNNI, x86.DEPTHWISE_AVX512VNNI),
    _chained(x86.AVX512, x86.DEPTHWISE_AVX512),
    _chained(x86.AVXVNNI, x86.DEPTHWISE_AVXVNNI),
    _chained(x86.AVX2, x86.DEPTHWISE_AVX2),
    _chained(arm64.I8MM, arm64.DEPTHWISE_DOTPROD),
    _chained(arm64.DOTPROD, arm64.DEPTHWISE_DOTPROD),
    _chained(arm64.NEON, arm64.DEPTHWISE_NEON),
    _chained(x86.SSE2, x86.DEPTHWISE_SSE2),
    Kernel("chain_mcu", Chain, frozenset(), "arm-m", partial(mcu_chain.codes, _MCU), None, INT8),
    _chained(Generic(), GenericDepthwise()),
    _float("float_depthwise", float_depthwise.codes, fma.AVX512),
    _float("float_depthwise", float_depthwise.codes, fma.AVX2),
    _float("float_depthwise", float_depthwise.codes, fma.NEON),
    _float("float_depthwise", float_depthwise.codes, fma.GENERIC),
    _float("float_conv2d", float_conv2d.codes, fma.AVX512),
    _float("float_conv2d", float_conv2d.codes, fma.AVX2),
    _float("float_conv2d", float_conv2d.codes, fma.NEON),
    _float("float_conv2d", float_conv2d.codes, fma.GENERIC),
    _portable("binary_fixed", Binary, pointwise_fixed.binary, "fixed-point", INT8),
    _portable("average_pool_fixed", AveragePool, reduction_fixed.average_pool, "fixed-point", INT8),
    _portable("mean_fixed", Mean, reduction_fixed.mean, "fixed-point", INT8),
    _portable("normalize_fixed", Normalize, normalize_fixed.normalize, "fixed-point", INT8),
    _portable("softmax_fixed", Softmax, reduction_fixed.softmax_row, "fixed-point", INT8),
    _portable("binary", Binary, elementwise.binary, "float32", INT8),
    _portable("quantize", Quantize, elementwise.quantize, dtypes=INT8),
    _portable("dequantize", Dequantize, elementwise.dequantize, dtypes=INT8),
    _mapped("lookup", Lookup, lookup.codes, tables.AVX512),
    _mapped("lookup", Lookup, lookup.codes, tables.AVX2),
    _mapped("lookup", Lookup, lookup.codes, tables.NEON),
    _portable("lookup", Lookup, lookup.lookup, dtypes=INT8),
    _portable("max_pool", MaxPool, pooling.max_pool, dtypes=INT8 | FLOAT),
    _portable("average_pool", AveragePool, pooling.average_pool, "float32", INT8),
    _portable("mean", Mean, pooling.mean, "float32", INT8),
    _portable("float_binary", FloatBinary, elementwise.float_binary, dtypes=FLOAT),
    _portable("float_average_pool", FloatAveragePool, pooling.float_average_pool, dtypes=FLOAT),
    _portable("float_mean", FloatMean, pooling.float_mean, dtypes=FLOAT),
    _portable("float_normalize", FloatNormalize, float_normalize.codes, dtypes=FLOAT),
    _portable("normalize", Normalize, normalize.normalize, "float32", INT8),
    _portable("softmax", Softmax, softmax.softmax, "float32", INT8),
    _portable("rearrange", Rearrange, rearrange.rearrange),
    _mapped("concat", Concat, concat.codes, tables.AVX512),
    _mapped("concat", Concat, concat.codes, tables.AVX2),
    _mapped("concat", Concat, concat.codes, tables.NEON),
    _portable("concat", Concat, concat.concat),
    _portable("pad", Pad, pad.pad),
    _portable("interpolate", Interpolate, interpolate.interpolate, dtypes=INT8 | FLOAT),
)


def candidates(
    operation: Operation, target: Target, demands: Demands = FREE
) -> Iterator[tuple[Kernel, KernelCode]]:
    """Yield all code of the table that computes `operation` on `target` as demanded, best first.

    Kernels come in the table's order, and the configurations of each in its own.
    """
    for kernel in applicable(operation, target):
        for code in kernel.codes(operation, target, demands):
            yield kernel, code


def applicable(operation: Operation, target: Target) -> list[Kernel]:
    """Return the table's kernels for operations of this type and dtype on `target`, best first."""
    return [k for k in KERNELS if k.takes(operation) and k.runs_on(target)]

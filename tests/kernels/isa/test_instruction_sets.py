"""The compiled code multiplies with the instructions that its line is there for, whatever this CPU has."""

import re
from dataclasses import replace

import numpy as np
import pytest

from edgec.kernels.codegen import native
from edgec.kernels.operations import Conv2d, FloatConv2d
from edgec.kernels.table import KERNELS
from edgec.targets import loader
from tests.kernels.test_exactness import FIXED_POINT

# Kernel, device, all the instructions that multiply and accumulate (`vfmadd` in any order is one), and how
# each is written.
LINES = (
    ("winograd_avx512vnni", "x86-64-v4", {"vpdpwssd", "vpmulld"}, r"%zmm\d+$"),
    ("winograd_avx512", "x86-64-v4", {"vpmaddwd", "vpmulld"}, r"%zmm\d+$"),
    ("winograd_avx2", "x86-64-v3", {"vpmaddwd", "vpmulld"}, r"%ymm\d+$"),
    ("winograd_avxvnni", "x86-64-avxvnni", {"vpdpwssd", "vpmulld"}, r"%ymm\d+$"),
    ("winograd_sse2", "x86-64", {"pmaddwd", "pmuludq"}, r"%xmm\d+$"),
    (
        "winograd_neon",
        "rpi4",
        {"smlal", "mul"},
        r"v\d+\.(4s, v\d+\.4h, v\d+\.h\[[0-7]\]|4s, v\d+\.4s, v\d+\.4s)$",
    ),
    ("conv2d_avx512vnni", "x86-64-v4", {"vpdpbusd"}, r"%zmm\d+$"),
    ("conv2d_avx512", "x86-64-v4", {"vpmaddwd"}, r"%zmm\d+$"),
    ("conv2d_avx2bytes", "x86-64-v3", {"vpmaddubsw", "vpmaddwd"}, r"%ymm\d+$"),
    ("conv2d_avx2", "x86-64-v3", {"vpmaddwd"}, r"%ymm\d+$"),
    ("conv2d_int16_avx2", "x86-64-v3", {"vpmaddwd"}, r"%ymm\d+$"),
    ("conv2d_sse2", "x86-64", {"pmaddwd"}, r"%xmm\d+$"),
    ("conv2d_dotprod", "rpi5", {"sdot"}, r"v\d+\.4s, v\d+\.16b, v\d+\.4b\[[0-3]\]$"),  # by element
    ("conv2d_i8mm", "cortex-a720", {"smmla"}, r"v\d+\.4s, v\d+\.16b, v\d+\.16b$"),
    ("conv2d_neon", "rpi4", {"smull", "smlal", "sadalp"}, r"v\d+\.(8h, v\d+\.8b, v\d+\.8b|4s, v\d+\.8h)$"),
    ("conv2d_avxvnni", "x86-64-avxvnni", {"vpdpbusd"}, r"%ymm\d+$"),
    ("depthwise_avx512vnni", "x86-64-v4", {"vpdpbusd"}, r"%[xyz]mm\d+$"),
    ("depthwise_avxvnni", "x86-64-avxvnni", {"vpdpbusd"}, r"%[xy]mm\d+$"),
    ("depthwise_dotprod", "rpi5", {"sdot"}, r"v\d+\.4s, v\d+\.16b, v\d+\.16b$"),
    ("depthwise_avx512", "x86-64-v4", {"vpmaddwd"}, r"%zmm\d+$"),
    ("depthwise_avx2", "x86-64-v3", {"vpmaddwd"}, r"%ymm\d+$"),
    ("depthwise_sse2", "x86-64", {"pmaddwd"}, r"%xmm\d+$"),
    (
        "depthwise_neon",
        "rpi4",
        {"smull", "smull2", "smlal", "smlal2"},
        r"v\d+\.8h, v\d+\.(8|16)b, v\d+\.(8|16)b$",
    ),
    ("conv2d_dsp", "cortex-m4", {"smlad"}, r"(r\d+|lr)$"),
    ("conv2d_mve", "cortex-m55", {"vmlava.s8"}, r"q\d$"),
    ("depthwise_any_dsp", "cortex-m4", {"smlad"}, r"(r\d+|lr)$"),
    ("depthwise_any_mve", "cortex-m55", {"vmul.i16"}, r"q\d$"),
    ("depthwise_dsp", "cortex-m4", {"smlad", "smlabt", "smlatb"}, r"r\d+$|lr$"),
    ("depthwise_mve", "cortex-m55", {"vmul.i16"}, r"q\d$"),
    ("float_conv2d_avx512", "x86-64-v4", {"vfmadd"}, r"%zmm\d+$"),
    ("float_conv2d_avx2", "x86-64-v3", {"vfmadd"}, r"%ymm\d+$"),
    ("float_conv2d_neon", "rpi4", {"fmla"}, r"v\d+\.4s, v\d+\.4s, v\d+\.s\[[0-3]\]$"),  # by element
    ("float_depthwise_avx512", "x86-64-v4", {"vfmadd"}, r"%zmm\d+$"),
    ("float_depthwise_avx2", "x86-64-v3", {"vfmadd"}, r"%ymm\d+$"),
    ("float_depthwise_neon", "rpi4", {"fmla"}, r"v\d+\.4s, v\d+\.4s, v\d+\.4s$"),
)
# What multiplies integers, or float32, in vector registers, on either architecture.
_FLOAT_MULTIPLY = re.compile(r"v?mulps|vfn?m(?:add|sub)\d+ps|fn?ml[as]|fmul")
_MULTIPLY = re.compile(
    r"v?pmul\w+|v?pmadd\w+|vpdp\w+|[su]dot|[su]mmla|[su]?ml[as]l?2?|[su]?mull?2?|sadalp"
    r"|smla[bdt]+|vmlava\.s8|vmul\.i16"
)


def multiplications(assembly: str, multiply: re.Pattern[str]) -> list[tuple[str, str]]:
    """Mnemonic and operands of every multiplication of vectors."""
    found = []
    for line in assembly.splitlines():
        mnemonic, _, operands = line.strip().removeprefix("{vex}").strip().partition("\t")
        vector = re.search(r"%[xyz]mm|\bv\d+\.|\bq\d", operands) or mnemonic.startswith("smla")
        if multiply.fullmatch(mnemonic) and vector:
            found.append((re.sub(r"(?<=vfmadd)\d+ps", "", mnemonic), operands))
    return found


def sample(kernel: str) -> Conv2d | FloatConv2d:
    groups, inputs = (64, 1) if "depthwise" in kernel else (1, 64)
    if kernel.startswith("float"):
        weights, bias = np.ones((64, 3, 3, inputs), np.float32), np.zeros(64, np.float32)
        return FloatConv2d((1, 8, 8, 64), weights, bias, pads=(1, 1, 1, 1), groups=groups)
    return Conv2d(
        (1, 8, 8, 64), np.ones((64, 3, 3, inputs), np.int8), np.zeros(64, np.int32), np.ones(64, np.float32),
        3, 4, -128, 127, pads=(1, 1, 1, 1), groups=groups,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "device", "mnemonics", "operands"), LINES, ids=[line[0] for line in LINES])
def test_products_are_made_by_the_instruction_of_the_line(
    name: str, device: str, mnemonics: set[str], operands: str
) -> None:
    kernel = next(kernel for kernel in KERNELS if kernel.name == name)
    # No more features than the line asks for: with VNNI about, LLVM would make vpdpwssd of vpmaddwd. But an
    # FPU: there are several, and lines for microcontrollers take any.
    target = loader.load(f"{device}-int8")
    fpu = {feature for feature in target.features if target.arch == "arm-m" and "fp" in feature}
    target = replace(target, features=kernel.features | fpu)
    code = kernel.code(sample(name), target)
    assert code is not None
    multiply = _FLOAT_MULTIPLY if name.startswith("float") else _MULTIPLY
    found = multiplications(native.assembly(code.make(), "kernel", target), multiply)
    assert {mnemonic for mnemonic, _ in found} == mnemonics
    assert [text for _, text in found if not re.search(operands, text)] == []


def test_every_line_of_an_instruction_set_is_here() -> None:
    # Cores without DSP instructions multiply as every address does: there is nothing to tell apart.
    own = [kernel for kernel in KERNELS if kernel.arch and not kernel.name.endswith(FIXED_POINT)]
    # Chains multiply by what their convolutions multiply by, tables by nothing.
    own = [kernel for kernel in own if kernel.operation in (Conv2d, FloatConv2d)]
    assert {kernel.name for kernel in own} == {line[0] for line in LINES}

"""Objects: a plain C ABI, the target's instructions and no others, products rounded, nothing of TVM."""

import ctypes
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T  # noqa: N812

from edgec.compiler.native import toolchain
from edgec.errors import UnsupportedError
from edgec.kernels.codegen import elf, native
from edgec.targets import loader
from tests.kernels.operand_order import unordered

V3 = loader.load("x86-64-v3-fp32")
PLAIN = loader.load("x86-64-fp32")
RPI4 = loader.load("rpi4-fp32")
RPI5 = loader.load("rpi5-fp32")
A53 = loader.load("cortex-a53-fp32")
M4, M7, M33, M55 = (loader.load(f"cortex-{core}-int8") for core in ("m4", "m7", "m33", "m55"))
TARGETS = [PLAIN, V3, A53, RPI4, RPI5, M4, M7, M33, M55]


def multiply_add(attributes: dict[str, Any] | None = None, tail: float | None = None) -> Any:
    """c[8 t : 8 t + 8] += a[...] * b[...] for the tiles t; then c[0] = tail, through a constant in memory."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        a, b, c = (T.arg(name, T.buffer((64,), "float32", align=4)) for name in "abc")
        T.arg("scratch", T.buffer((1,), "uint8"))
        begin, end = T.arg("begin", T.int32()), T.arg("end", T.int32())
        T.func_attr({"tirx.noalias": True, **(attributes or {})})
        with T.serial(begin, end) as tile:
            at = T.ramp(tile * 8, 1, 8)
            T.buffer_store(c, a[at] * b[at] + c[at], [at])
        if tail is not None:
            T.buffer_store(c, T.exp(c[0] * T.float32(tail)), [0])
    return builder.get()


def allocating() -> Any:
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        a = T.arg("a", T.buffer((4096,), "float32"))
        T.arg("scratch", T.buffer((1,), "uint8"))
        begin, end = T.arg("begin", T.int32()), T.arg("end", T.int32())
        large = T.alloc_buffer((4096,), "float32", scope="global")
        with T.serial(begin, end) as i:
            T.buffer_store(large, a[i], [i])
        with T.serial(begin, end) as i:
            T.buffer_store(a, large[4095 - i], [i])
    return builder.get()


def instructions(text: str) -> set[str]:
    return {line.split()[0] for line in text.splitlines() if re.match(r"\t[a-z]", line)}


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.device)
def test_only_the_symbol_is_defined_and_nothing_is_needed(target: Any) -> None:
    code = native.compile_object(multiply_add(), "edgec_f", target)
    assert elf.global_symbols(code) == {"edgec_f"}
    assert b"TVM" not in code
    assert b"__truncsfhf2" not in code
    assert 0 < elf.loaded_bytes(code) < 1000


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.device)
def test_bytes_are_the_same_every_time(target: Any) -> None:
    assert native.compile_object(multiply_add(), "f", target) == native.compile_object(
        multiply_add(), "f", target
    )


def test_no_compiler_of_tvm_decides_in_which_order_operands_are_computed() -> None:
    """Arguments of one C++ call are computed from the last by gcc for x86-64, from the first for arm64."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        a, b = (T.arg(name, T.buffer((64,), "int32")) for name in "ab")
        T.arg("scratch", T.buffer((1,), "uint8"))
        begin, end = T.arg("begin", T.int32()), T.arg("end", T.int32())
        with T.serial(begin, end) as i:
            chosen = T.Select(i * 3 < end - 1, i * i + begin, i - end * 2)
            T.buffer_store(a, ((a[i] >> b[i]) ^ (a[i] & b[i])) + chosen * (b[i] * a[i]), [i])
    (function,) = native.lowered(builder.get(), "f", V3).functions.values()
    found, counted = unordered(function)
    assert counted > 9
    assert found == []


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("kind", [tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.Max, tirx.Min])
def test_helium_compares_by_what_does_not_hold_for_nan(kind: Any, swapped: bool) -> None:
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        a, b = (T.arg(name, T.buffer((64,), "float32")) for name in "ab")
        T.arg("scratch", T.buffer((1,), "uint8"))
        begin, end = T.arg("begin", T.int32()), T.arg("end", T.int32())
        with T.serial(begin, end) as i:
            lanes = T.ramp(i * 4, 1, 4)
            x, limit = a[lanes], T.Broadcast(T.float32(1.5), 4)
            found = kind(limit, x) if swapped else kind(x, limit)
            chosen = found if kind in (tirx.Max, tirx.Min) else T.Select(found, limit, x)
            T.buffer_store(b, chosen, [lanes])
    text = native.assembly(builder.get(), "f", loader.load("cortex-m55-int8"))
    assert re.search(r"\tv(cmp|pt|maxnm|minnm)\w*\.f32", text)
    assert not re.search(r"\tv(cmp|pt)\w*\.f32\s+l[te]", text)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.device)
def test_products_are_rounded_unless_contraction_is_asked_for(target: Any) -> None:
    fused = re.compile(r"\b(vfm|fml|fmadd)")
    assert not fused.search(native.assembly(multiply_add(), "f", target))
    contracted = native.assembly(multiply_add({native.CONTRACT: True}), "f", target)
    assert bool(fused.search(contracted)) == (target not in (PLAIN, M4, M33))  # where FMA is slow


def test_a_cpu_name_brings_no_instruction_of_its_own() -> None:
    newest = {"x86-64": "sapphirerapids", "arm64": "neoverse-v2", "arm-m": "cortex-m85"}
    for target in TARGETS:
        modern = replace(target, cpu=newest[target.arch])
        function = multiply_add({native.CONTRACT: True})
        allowed = instructions(native.assembly(function, "f", target))
        used = instructions(native.assembly(function, "f", modern))
        vectors = re.compile(r"v|.*(xmm|ymm)|f|ld[rp]|st[rp]|z")
        assert {i for i in used if vectors.match(i)} <= {i for i in allowed if vectors.match(i)} | {
            "ldr",
            "str",
            "vfma.f32",  # which an M4 has, slow as it is
        }
        attributes = native.llvm_target(modern).attrs["mattr"]
        assert not {f"+{name}" for name in ("avx512f", "sve", "sve2")} & set(map(str, attributes))


def test_features_are_what_the_target_lists() -> None:
    assert "%ymm" in native.assembly(multiply_add(), "f", V3)
    assert "%ymm" not in native.assembly(multiply_add(), "f", PLAIN)
    assert "%zmm" not in native.assembly(multiply_add(), "f", replace(V3, cpu="znver5"))


def test_a_function_that_allocates_is_refused() -> None:
    with pytest.raises(AssertionError, match="TVMBackendAllocWorkspace"):
        native.compile_object(allocating(), "f", V3)


def test_math_functions_and_constants_survive_stripping(tmp_path: Path) -> None:
    target = loader.load("host-fp32")
    code = native.compile_object(multiply_add(tail=0.3712), "f", target)
    assert elf.global_symbols(code) == {"f", "expf"}
    (tmp_path / "f.o").write_bytes(code)
    toolchain.zig(tmp_path, "cc", "-target", target.c_target, "-shared", "f.o", "-lm", "-o", "f.so")
    library = ctypes.CDLL(str(tmp_path / "f.so"))
    a, b, c = np.random.default_rng(1).random((3, 64), np.float32)
    tiles = slice(8, 24)
    expected = c.copy()
    expected[tiles] += (a * b)[tiles]
    expected[0] = np.exp(expected[0] * np.float32(0.3712))
    pointers = [ctypes.c_void_p(x.ctypes.data) for x in (a, b, c)]
    assert library.f(*pointers, None, ctypes.c_int32(1), ctypes.c_int32(3)) == 0
    np.testing.assert_allclose(c, expected, rtol=1e-6)
    np.testing.assert_array_equal(c[1:], expected[1:])


@pytest.mark.parametrize("target", [M4, M55], ids=lambda t: t.device)
def test_code_for_a_microcontroller_lies_in_a_section_of_its_own(target: Any, tmp_path: Path) -> None:
    code = native.compile_object(multiply_add(), "edgec_f", target)
    (tmp_path / "f.o").write_bytes(code)
    names = {section.name for section in elf._read(code).sections}
    assert {".text.edgec_f", ".ARM.attributes"} <= names
    assert not any(name.startswith((".ARM.exidx", ".debug")) for name in names)
    toolchain.zig(tmp_path, "ld.lld", "-r", "f.o", "-o", "g.o")  # a linker takes it
    assert elf.global_symbols((tmp_path / "g.o").read_bytes()) == {"edgec_f"}


def test_float_operations_need_an_fpu() -> None:
    with pytest.raises(UnsupportedError, match="float32 by software, which firmware for cortex-m3"):
        native.compile_object(multiply_add(), "f", loader.load("cortex-m3-int8"))


def test_a_microcontroller_has_no_mathematics_library() -> None:
    with pytest.raises(UnsupportedError, match="expf"):
        native.compile_object(multiply_add(tail=0.5), "f", M4)

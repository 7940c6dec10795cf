"""Arithmetic that bundles bring along for Armv6-M, compiled for this machine."""

import ctypes
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.compiler.native import toolchain
from edgec.kernels.codegen import software

WORDS = st.integers(0, 2**32 - 1) | st.sampled_from((0, 1, 2, 3, 2**16, 2**31 - 1, 2**31, 2**32 - 1))
LONG = st.integers(0, 2**64 - 1) | st.sampled_from((0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("software")
    shutil.copy(Path(software.__file__).parents[1] / "runtime" / software.SOURCE, folder)
    toolchain.zig(
        folder, "cc", "-shared", "-O2", "-Wall", "-Wextra", "-Werror", software.SOURCE, "-o", "lib.so"
    )
    loaded = ctypes.CDLL(str(folder / "lib.so"))
    for name in software.FUNCTIONS:
        function = getattr(loaded, name)
        long = name in {"__aeabi_lmul", "__aeabi_lasr", "__aeabi_llsr", "__aeabi_llsl"} or "divmod" in name
        function.restype = ctypes.c_uint64 if long else ctypes.c_uint32
    return loaded


@given(a=LONG, b=LONG)
def test_products_are_those_of_64_bits(library: ctypes.CDLL, a: int, b: int) -> None:
    assert library.__aeabi_lmul(ctypes.c_uint64(a), ctypes.c_uint64(b)) == a * b % 2**64


@given(a=LONG, by=st.integers(0, 63))
def test_shifts_are_those_of_64_bits(library: ctypes.CDLL, a: int, by: int) -> None:
    value, signed = ctypes.c_uint64(a), a - 2**64 if a >> 63 else a
    assert library.__aeabi_llsl(value, ctypes.c_uint32(by)) == (a << by) % 2**64
    assert library.__aeabi_llsr(value, ctypes.c_uint32(by)) == a >> by
    assert library.__aeabi_lasr(value, ctypes.c_uint32(by)) == (signed >> by) % 2**64


@given(a=WORDS, b=WORDS.filter(bool))
def test_quotients_and_remainders(library: ctypes.CDLL, a: int, b: int) -> None:
    one, two = ctypes.c_uint32(a), ctypes.c_uint32(b)
    assert library.__aeabi_uidivmod(one, two) == (a % b) << 32 | a // b
    assert library.__udivsi3(one, two) == a // b
    assert library.__umodsi3(one, two) == a % b


@given(a=WORDS, b=WORDS.filter(bool))
def test_signed_quotients_are_cut(library: ctypes.CDLL, a: int, b: int) -> None:
    dividend, divisor = (value - 2**32 if value >> 31 else value for value in (a, b))
    quotient = abs(dividend) // abs(divisor) * (1 if (dividend < 0) == (divisor < 0) else -1)
    rest = dividend - quotient * divisor
    one, two = ctypes.c_int32(dividend), ctypes.c_int32(divisor)
    assert library.__divsi3(one, two) == quotient % 2**32
    assert library.__modsi3(one, two) == rest % 2**32
    assert library.__aeabi_idivmod(one, two) == (rest % 2**32) << 32 | quotient % 2**32


@given(a=WORDS)
def test_leading_zeros(library: ctypes.CDLL, a: int) -> None:
    assert library.__clzsi2(ctypes.c_uint32(a)) == 32 - a.bit_length()

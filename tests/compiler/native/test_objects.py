"""The object cache: every function is compiled once, by content, whatever else builds at the same time."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T  # noqa: N812

from edgec.compiler.native import objects
from edgec.compiler.native.objects import compile_objects
from edgec.compiler.program import Function, Program
from edgec.kernels.codegen import elf
from edgec.targets import loader
from edgec.targets.descriptor import Target

V3 = loader.load("x86-64-v3-int8")


def scaled_copy(factor: int) -> Any:
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        source, result = (T.arg(name, T.buffer((64,), "int32", align=4)) for name in "ab")
        T.arg("scratch", T.buffer((1,), "uint8"))
        begin, end = T.arg("begin", T.int32()), T.arg("end", T.int32())
        with T.serial(begin, end) as i:
            T.buffer_store(result, source[i] * factor, [i])
    return builder.get()


class Counted:
    """Makes functions and counts how often."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def program(self, factors: range, target: Target = V3) -> Program:
        functions = {f"edgec_f{k}": Function(f"edgec_f{k}", f"copy {k}", self.make(k)) for k in factors}
        return Program(target, (), functions, {}, {}, (), ())

    def make(self, factor: int) -> Callable[[], Any]:
        def function() -> Any:
            self.made.append(factor)
            return scaled_copy(factor + 2)

        return function


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "edgec" / "objects"


def test_objects_define_their_symbols_in_the_programs_order() -> None:
    compiled = compile_objects(Counted().program(range(5)))
    assert list(compiled) == [f"edgec_f{k}" for k in range(5)]
    assert all(elf.global_symbols(code) == {symbol} for symbol, code in compiled.items())


def test_a_second_build_compiles_nothing_and_says_so(cache: Path) -> None:
    first, second, seen = Counted(), Counted(), []
    cold = compile_objects(first.program(range(4)), lambda symbol, cached: seen.append((symbol, cached)))
    assert sorted(seen) == [(f"edgec_f{k}", False) for k in range(4)]
    seen.clear()
    warm = compile_objects(second.program(range(6)), lambda symbol, cached: seen.append((symbol, cached)))
    assert sorted(second.made) == [4, 5]
    assert sorted(seen) == [(f"edgec_f{k}", k < 4) for k in range(6)]
    assert cold == {symbol: warm[symbol] for symbol in cold}
    assert len(list(cache.iterdir())) == 6


@pytest.mark.parametrize(
    "other",
    [
        replace(V3, features=V3.features - {"fma"}),
        replace(V3, cpu="znver3"),
        loader.load("rpi4-int8"),
    ],
    ids=["features", "cpu", "architecture"],
)
def test_another_target_is_another_object(other: Target) -> None:
    compile_objects(Counted().program(range(1)))
    again = Counted()
    compile_objects(again.program(range(1), other))
    assert again.made == [0]


def test_what_only_the_c_compiler_sees_does_not_matter() -> None:
    compile_objects(Counted().program(range(1)))
    again = Counted()
    compile_objects(
        again.program(range(1), replace(V3, device="other", c_target="x86_64-linux-musl", cores=64))
    )
    assert again.made == []


def test_an_edited_kernel_source_is_another_object(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_objects(Counted().program(range(1)))
    monkeypatch.setattr(objects, "code_version", lambda: "edited")
    again = Counted()
    compile_objects(again.program(range(1)))
    assert again.made == [0]


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:100] + b"\1" + b[101:]])
def test_damaged_entries_are_compiled_again(cache: Path, damage: Callable[[bytes], bytes]) -> None:
    good = compile_objects(Counted().program(range(1)))
    (entry,) = cache.iterdir()
    entry.write_bytes(damage(entry.read_bytes()))
    again = Counted()
    assert compile_objects(again.program(range(1))) == good
    assert again.made == [0]
    assert compile_objects(Counted().program(range(1))) == good


def test_concurrent_builds_agree_and_leave_no_litter(cache: Path) -> None:
    results: list[dict[str, bytes]] = []

    def build() -> None:
        results.append(compile_objects(Counted().program(range(8))))

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] == results[2]
    assert len(list(cache.glob("*.o"))) == len(list(cache.iterdir())) == 8


def test_a_cache_that_cannot_be_written_costs_only_time(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    assert len(compile_objects(Counted().program(range(2)))) == 2


def test_a_failing_function_stops_the_build() -> None:
    def fail() -> Any:
        raise RuntimeError("no such kernel")

    program = Counted().program(range(3))
    functions = {**program.functions, "bad": Function("bad", "bad", fail)}
    with pytest.raises(RuntimeError, match="no such kernel"):
        compile_objects(replace(program, functions=functions))

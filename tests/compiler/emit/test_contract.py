"""The memory contract: figures of a library that hold on the board, and builds that fail in one line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgec.bench import devices
from edgec.bench.devices import checked
from edgec.compiler.emit import contract
from edgec.compiler.emit.frames import riscv_frame_bytes, thumb_frame_bytes
from edgec.compiler.emit.manifest import Memory
from edgec.compiler.lower.network.plan import plan
from edgec.compiler.program import Call, Program
from edgec.errors import LimitError
from edgec.kernels.codegen.elf import Piece
from edgec.kernels.operations import Tensor
from edgec.options import Optimize
from edgec.targets import loader
from tests.compiler.building import build
from tests.conftest import board_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "fmnist_dscnn.onnx"
M4 = loader.load("cortex-m4-int8")


def program(ram: int | None = None, flash: int | None = None) -> Program:
    """x -> a (4000 bytes) -> b (2000) -> y, with scratch where a and b are alive."""
    sizes = {"x": 100, "a": 4000, "b": 2000, "y": 10}
    tensors = {name: Tensor(name, (size,), "int8") for name, size in sizes.items()}
    steps = (("one", "x", "a", 0), ("two", "a", "b", 800), ("three", "b", "y", 0))
    calls = tuple(
        Call(name, "kernel", "f", (source, f"w_{name}", result), (result,), 1, scratch, 0)
        for name, source, result, scratch in steps
    )
    constants = {f"w_{name}": np.zeros(1000 * i, np.int8) for i, (name, *_) in enumerate(steps, 1)}
    target = replace(M4, ram_bytes=ram, flash_bytes=flash)
    return Program(target, calls, {}, tensors, constants, (tensors["x"],), (tensors["y"],))


MEMORY = Memory(
    arena_bytes=6800,
    lower_bound_bytes=6800,
    thread_scratch_bytes=0,
    weights_bytes=6000,
    code_bytes=9000,
    context_bytes=40,
    stack_bytes=500,
)


def refusal(ram: int | None = None, flash: int | None = None, optimize: Optimize = "speed") -> str:
    made = program(ram, flash)
    with pytest.raises(LimitError) as caught:
        contract.check(made, plan(made), MEMORY, optimize)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_fits_passes_and_no_limit_is_none() -> None:
    made = program(7340, 15000)
    contract.check(made, plan(made), MEMORY, "speed")
    contract.check_arena(made, plan(made), "speed")
    contract.check(program(), plan(program()), MEMORY, "speed")


def test_too_much_ram_names_the_peak_and_what_lives_there() -> None:
    assert refusal(ram=7339) == (
        "needs 7340 bytes of RAM and may take 7339 (arena 6.6 KiB, stack 500 bytes, context 40 bytes): "
        "the arena's peak is step 'two' with 'a' 3.9 KiB, 'b' 2.0 KiB, scratch 800 bytes; "
        "--optimize ram may help; "
        "fewer channels or a smaller image at that step would help, and so would a kernel with less scratch"
    )


def test_too_much_flash_names_the_layers_with_the_most_weights() -> None:
    assert refusal(flash=14999) == (
        "needs 15000 bytes of flash and may take 14999 (weights 5.9 KiB, code 8.8 KiB): "
        "the most weights have 'three' 2.9 KiB, 'two' 2.0 KiB, 'one' 1000 bytes; "
        "--optimize flash may help; fewer channels there would help"
    )


def test_nothing_is_advised_that_is_done_already() -> None:
    assert "optimize" not in refusal(ram=7339, optimize="ram")
    assert "optimize" not in refusal(flash=14999, optimize="flash")


def test_an_arena_that_can_not_fit_is_told_before_anything_compiles() -> None:
    made = program(ram=6799)
    with pytest.raises(LimitError, match=r"needs 6800 bytes of RAM .* step 'two'"):
        contract.check_arena(made, plan(made), "speed")


@pytest.mark.parametrize(
    ("code", "bytes_"),
    [
        ("00bf 7047", 0),  # nop; bx lr
        ("30b5", 12),  # push {r4, r5, lr}
        ("2de9f04f", 36),  # push.w {r4-r11, lr}
        ("2de9f04f 2ded108b", 36 + 64),  # vpush {d8-d15}
        ("82b0 00bf", 8),  # sub sp, #8
        ("adf5827d", 260),  # sub.w sp, sp, #260
        ("adf2045d", 1284),  # subw sp, sp, #1284
        ("4df804ed", 4),  # str lr, [sp, #-4]!
        ("adf10804 6ff30304 a546", 8 + 15),  # sub.w r4, sp, #8; bfc r4, #0, #4; mov sp, r4
        ("8cb0 6c46 6ff30304 a546", 48 + 15),  # sub sp, #48; mov r4, sp; bfc r4, #0, #4; mov sp, r4
    ],
)
def test_frames_are_read_from_the_instructions(code: str, bytes_: int) -> None:
    assert thumb_frame_bytes(Piece(".text.f", bytes.fromhex(code), True, ("f",), (), (), None)) == bytes_


@pytest.mark.parametrize(
    ("code", "bytes_"),
    [
        ("01000000 8280", 0),  # nop; ret
        ("4111 06c6", 16),  # addi sp, sp, -16; sw ra, 12(sp)
        ("4171 7d61", 496),  # addi sp, sp, -496; addi sp, sp, 496
        ("13010181 1301017f", 2032),  # addi sp, sp, -2032; addi sp, sp, 2032
        ("0565 1305c5f9 3301a140", 4096 - 100),  # lui a0, 1; addi a0, a0, -100; sub sp, sp, a0
        ("8562 c102 33015140", 4096 + 16),  # c.lui t0, 1; c.addi t0, 16; sub sp, sp, t0
        ("1303803e 33016140", 1000),  # li t1, 1000; sub sp, sp, t1
    ],
)
def test_frames_of_riscv_are_read_from_the_instructions(code: str, bytes_: int) -> None:
    assert riscv_frame_bytes(Piece(".text.f", bytes.fromhex(code), True, ("f",), (), (), None)) == bytes_


def test_constants_among_code_are_no_instructions() -> None:
    data = bytes.fromhex("30b5 2de9f04f 7047")
    assert thumb_frame_bytes(Piece(".text.f", data, True, ("f",), ((2, 6),), (), None)) == 12


@pytest.mark.usefixtures("board_emulator")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "cortex-m55", "riscv32"])
def test_the_stack_of_the_manifest_is_never_less_than_measured(tmp_path: Path, core: str) -> None:
    bundle = build(EXAMPLE, tmp_path, f"{core}-int8")
    board_of(core)
    done = checked(devices.connect("emulator", bundle.described(None)).execute(bundle.bench, ["--markers"]))
    measured = json.loads(done.stdout)["stack_bytes"]
    assert 0 <= bundle.memory.stack_bytes - measured <= 64


def test_a_build_over_the_limit_leaves_nothing(tmp_path: Path) -> None:
    needed = build(EXAMPLE, tmp_path, "cortex-m4-int8").memory
    flash = needed.weights_bytes + needed.code_bytes
    ram = needed.arena_bytes + needed.stack_bytes + needed.context_bytes
    (tmp_path / "again").mkdir()
    build(EXAMPLE, tmp_path / "again", "cortex-m4-int8", max_ram=ram, max_flash=flash)
    for limits in ({"max_ram": ram - 1}, {"max_flash": flash - 1}, {"max_ram": 100}):
        folder = tmp_path / str(limits)
        folder.mkdir()
        with pytest.raises(LimitError, match=r"^fmnist_dscnn\.onnx: needs "):
            build(EXAMPLE, folder, "cortex-m4-int8", **limits)
        assert not list(folder.iterdir())

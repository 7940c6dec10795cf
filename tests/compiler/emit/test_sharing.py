"""Steps are shared out among threads where what they compute and move takes longer than a hand-over."""

import numpy as np
import pytest

from edgec.compiler.emit.sharing import shared
from edgec.compiler.program import Call, Program
from edgec.kernels.operations import Tensor
from edgec.targets import loader

HAND_OVER_CYCLES = 7500
"""Below it sharing gained nothing, between cores without a common cache."""
PRODUCTS = {"x86-64-v4": 116, "rpi5": 28, "rpi4": 7, "riscv32": 1}
"""Multiply-accumulates per cycle of a convolution on one core."""


def step(device: str, macs: int, moved_bytes: int, tiles: int = 4) -> bool:
    """Whether a step is shared out that has so many products, and reads and writes so many bytes."""
    call = Call("layer", "kernel", "symbol", ("x", "w", "y"), ("y",), tiles, 0, macs)
    tensors = {"x": Tensor("x", (1,), "int8"), "y": Tensor("y", (1,), "int8")}
    constants = {"w": np.zeros(moved_bytes - 2, np.int8)}
    program = Program(loader.load(f"{device}-int8"), (call,), {}, tensors, constants, (), ())
    assert program.moved_bytes(call) == moved_bytes
    return shared(program, call)


@pytest.mark.parametrize("device", PRODUCTS)
def test_products_are_worth_it_from_a_hand_over_on(device: str) -> None:
    assert step(device, HAND_OVER_CYCLES * PRODUCTS[device], 2)
    assert not step(device, (HAND_OVER_CYCLES - 2) * PRODUCTS[device], 2)


@pytest.mark.parametrize("device", PRODUCTS)
def test_so_are_bytes_at_eight_a_cycle(device: str) -> None:
    assert step(device, 0, 8 * HAND_OVER_CYCLES)
    assert not step(device, 0, 8 * HAND_OVER_CYCLES - 8)


def test_products_and_bytes_add_up() -> None:
    assert step("rpi5", 28 * HAND_OVER_CYCLES // 2, 8 * HAND_OVER_CYCLES // 2)
    assert not step("rpi5", 28 * HAND_OVER_CYCLES // 2, 8 * HAND_OVER_CYCLES // 2 - 8)


def test_what_is_one_tile_has_nothing_to_share() -> None:
    assert step("rpi5", 10**9, 10**6, tiles=2)
    assert not step("rpi5", 10**9, 10**6, tiles=1)

"""Cycles by LLVM's scheduling models."""

from pathlib import Path

import pytest

from edgec.bench.bundle import Bundle
from edgec.bench.measure import cycles
from edgec.bench.measure.benchmark import benchmark
from edgec.bench.measure.cycles import model_cycles, model_of
from edgec.bench.measure.instructions import Region
from edgec.bench.measure.measurement import to_json
from edgec.errors import DeviceError
from edgec.targets import loader

SDOTS = tuple(0x4F90E200 + register for register in range(8))
"""sdot v<register>.4s, v16.16b, v16.4b[0]: eight products into eight registers."""
UNKNOWN = 0xFFFFFFFF  # unallocated
UNMODELLED = 0x00000000  # udf #0: no processor gets past it


@pytest.fixture
def llvm() -> None:
    try:
        cycles._newest("llvm-mca")
        cycles._newest("llvm-mc")
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("llvm")
@pytest.mark.parametrize(("target", "per_block"), [("rpi5-int8", 4.0), ("cortex-a55-int8", 8.0)])
def test_blocks_are_weighed_by_their_executions(target: str, per_block: float) -> None:
    """The A76 issues two `sdot` in a cycle and the A55 one (their software optimization guides)."""
    once, often = model_cycles([Region({SDOTS: 1}), Region({SDOTS: 1000})], loader.load(target))
    assert once == pytest.approx(per_block, abs=0.3)
    assert often == pytest.approx(1000 * once)


@pytest.mark.usefixtures("llvm")
def test_what_a_model_lacks_is_not_free() -> None:
    with pytest.raises(DeviceError, match="note: instruction: udf #0"):
        model_cycles([Region({(*SDOTS, UNMODELLED): 1})], loader.load("rpi5-int8"))


@pytest.mark.usefixtures("llvm")
def test_what_llvm_does_not_know_is_no_error() -> None:
    (found,) = model_cycles([Region({(*SDOTS, UNKNOWN): 1})], loader.load("rpi5-int8"))
    assert found > 0
    assert model_cycles([Region({})], loader.load("rpi5-int8")) == (0,)


@pytest.mark.usefixtures("llvm")
@pytest.mark.parametrize(
    ("device", "model"),
    [
        ("rpi4", "cortex-a72"),
        ("rpi5", "neoverse-n1"),
        ("cortex-a55", "cortex-a55"),
        ("arm64-i8mm", "neoverse-n2"),
    ],
)
def test_models_stand_in_for_cores_without_one(device: str, model: str) -> None:
    assert model_of(loader.load(f"{device}-int8")).startswith(f"{model} in LLVM ")


@pytest.mark.usefixtures("llvm")
def test_modelled_cycles_are_labelled_so(a76_bundle: Bundle) -> None:
    data = to_json(benchmark(a76_bundle, a76_bundle.device("emulator"), cycles=True))
    assert data["cycle_model"].startswith("neoverse-n1 in LLVM ")
    assert data["modelled_cycles"] == pytest.approx(sum(layer["modelled_cycles"] for layer in data["layers"]))
    assert data["modelled_cycles"] > 0


def test_a_device_with_a_clock_needs_no_model(local_bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match="--cycles is for devices that are emulated"):
        benchmark(local_bundle, local_bundle.device(), cycles=True)


def test_without_llvm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    cycles._newest.cache_clear()
    with pytest.raises(DeviceError, match="llvm-mc 19 or later is not installed: sudo apt install llvm-19"):
        model_cycles([Region({SDOTS: 1})], loader.load("rpi5-int8"))
    cycles._newest.cache_clear()


SMLADS = tuple(0xFB200003 | n << 8 | 4 << 16 | n << 12 for n in range(5, 9))
"""smlad r<n>, r4, r3, r<n>: one after the other into four registers."""
PREDICATED = (0x2800, 0xBF08, 0x3001, 0xFE710F4D, 0xEF220844)  # cmp; it eq; adds; vpst; vadd.i32
LOOP = (0xF040E001, 0xEEF00F22, 0xF00FC001)  # dls; vmladava.s8; le


@pytest.mark.usefixtures("llvm")
def test_thumb_has_its_cores_models() -> None:
    once, often = model_cycles([Region({SMLADS: 1}), Region({SMLADS: 1000})], loader.load("cortex-m4-int8"))
    assert once == pytest.approx(len(SMLADS), abs=0.3)  # one each (Cortex-M4 Technical Reference Manual)
    assert often == pytest.approx(1000 * once)
    assert model_of(loader.load("cortex-m7-int8")).startswith("cortex-m7 in LLVM ")


@pytest.mark.usefixtures("llvm")
def test_what_no_model_has_of_helium_is_no_error() -> None:
    target = loader.load("cortex-m55-int8")
    alone, looped = model_cycles([Region({LOOP[1:2]: 1}), Region({LOOP: 1})], target)
    assert alone < looped < alone + 4
    assert model_cycles([Region({PREDICATED: 1})], target)[0] > 0


def test_what_makes_the_next_instruction_conditional_is_known() -> None:
    predicates = {0xBF08: True, 0xBF00: False, 0xFE710F4D: True, 0xFE310F4D: False}  # it, nop, vpst, vpnot
    assert {code: cycles._predicates(code) for code in predicates} == predicates

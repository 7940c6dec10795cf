from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from edgec.errors import TargetError
from edgec.targets import loader, platforms
from edgec.targets.descriptor import Board, Emulator, Target


@pytest.mark.parametrize("name", loader.names())
def test_every_shipped_target_loads_under_its_own_name(name: str) -> None:
    assert loader.load(name).name == name


def test_the_issues_targets_are_shipped() -> None:
    wanted = {"x86-64", "x86-64-v3", "host", "arm64", "rpi4", "rpi5", "cortex-a53"}
    assert wanted <= set(loader.devices())


def test_features_add_up_along_the_bases() -> None:
    v3, vnni = loader.load("x86-64-v3-int8"), loader.load("x86-64-avxvnni-int8")
    assert {"avx2", "fma"} <= v3.features
    assert vnni.features == v3.features | {"avxvnni"}
    assert loader.load("arm64-int8").features == frozenset()
    assert "dotprod" in loader.load("rpi5-int8").features
    assert "dotprod" not in loader.load("rpi4-int8").features


def test_variants_are_levels_of_more_features_and_are_not_inherited() -> None:
    x86 = loader.load("x86-64-int8")
    assert [level.name for level in x86.levels] == [
        "x86-64-v4-int8", "x86-64-avxvnni-int8", "x86-64-v3-int8", "x86-64-int8",
    ]  # fmt: skip
    assert all(level.features > x86.features and level.variants == () for level in x86.variants)
    assert x86.levels[-1] == replace(x86, variants=())
    assert [level.device for level in loader.load("arm64-fp32").levels] == [
        "arm64-i8mm",
        "arm64-dotprod",
        "arm64",
    ]
    for device in set(loader.devices()) - {"x86-64", "x86-64-v3", "arm64"}:
        (level,) = loader.describe(device, "int8").levels
        assert level.device == device


def test_a_users_file_may_have_variants_beside_it(tmp_path: Path) -> None:
    write(tmp_path, 'base = "arm64"\nfeatures = ["dotprod", "i8mm"]\nvariants = ["rpi5"]\n', "new.toml")
    path = write(tmp_path, 'base = "arm64"\nvariants = ["new.toml", "arm64-dotprod"]\n')
    target = loader.load(f"{path}-int8")
    assert [level.device for level in target.levels] == ["new", "arm64-dotprod", "board"]
    assert target.variants[0].variants == ()
    assert loader.from_data(manifest_data(target)) == target


def manifest_data(target: Target) -> dict[str, Any]:
    """The target as a manifest has it."""
    variants = [manifest_data(variant) for variant in target.variants]
    return asdict(target) | {"name": target.name, "features": sorted(target.features), "variants": variants}


def test_an_emulator_table_replaces_the_base_key_by_key() -> None:
    emulator = loader.load("rpi5-fp32").emulator
    assert emulator == Emulator("qemu-aarch64", "cortex-a76", "/usr/aarch64-linux-gnu")


def test_a_microcontroller_has_a_board_and_no_operating_system() -> None:
    m4, m3 = loader.load("cortex-m4-int8"), loader.load("cortex-m3-int8")
    flash, ram = (0x00000000, 0x400000), (0x20000000, 0x400000)
    assert m4.emulator == Board("qemu-system-arm", "cortex-m4", "mps2-an386", flash, ram)
    assert m4.platform is platforms.BAREMETAL
    assert loader.load("rpi5-int8").platform is platforms.LINUX
    assert (m3.requantization, m4.requantization) == ("fixed-point", "float32")
    assert {"dsp", "thumb2", "vfp4d16sp"} == m4.features
    assert not loader.load("cortex-m0plus-int8").features
    assert loader.load("cortex-m55-int8").features > loader.load("cortex-m33-int8").features
    assert loader.from_data(manifest_data(m4)) == m4


def write(folder: Path, text: str, name: str = "board.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_users_file_works_wherever_a_name_does(tmp_path: Path) -> None:
    path = write(tmp_path, 'base = "rpi5"\ncores = 2\nfeatures = ["i8mm"]\n')
    target = loader.load(f"{path}-int8")
    assert target.name == "board-int8"
    assert target.cores == 2
    assert target.features == loader.load("rpi5-int8").features | {"i8mm"}


def test_a_base_may_be_a_file_beside(tmp_path: Path) -> None:
    write(tmp_path, 'base = "arm64"\ncores = 6\n', "soc.toml")
    path = write(tmp_path, 'base = "soc.toml"\n')
    assert loader.load(f"{path}-fp32").cores == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('base = "arm64"\ncoers = 2', ["unknown key 'coers'", "did you mean 'cores'"]),
        ('base = "arm64"\n[emulator]\nsysrot = "/"', ["unknown key 'emulator.sysrot'", "'sysroot'"]),
        ('base = "arm64"\n[emulator]\nmachine = "virt"', ["unknown key 'emulator.sysroot'"]),
        ('base = "cortex-m4"\n[emulator]\nram = [0]', ["'emulator.ram' is [0]", "an address and a number"]),
        (
            'base = "cortex-m4"\nc_target = "thumb-freestanding-gnueabi"',
            ["'c_target' is 'thumb-freestanding-gnueabi'", "must end with 'hf'", "one float ABI"],
        ),
        ('base = "cortex-m3"\nc_target = "thumb-freestanding-gnueabihf"', ["must not end with 'hf'"]),
        ('base = "riscv32"\ntriple = "thumbv7m-none-eabi"', ["'triple'", "must begin with 'riscv32'"]),
        ('base = "cortex-m4"\nrequantization = "int"', ["'requantization'", "float32 or fixed-point"]),
        ('base = "cortex-m4"\nram_bytes = "64K"', ["'ram_bytes' is '64K'", "above 0"]),
        ('base = "arm64"\nfeatures = ["dotprd"]', ["'features'", "'dotprd'", "did you mean 'dotprod'"]),
        ('base = "arm64"\nfeatures = ["avx2"]', ["arm64 has no feature 'avx2'"]),
        ('base = "arm64"\nfeatures = "dotprod"', ["'features'", "must be a list"]),
        ('base = "arm64"\ncores = 0', ["'cores' is 0", "above 0"]),
        ('base = "arm64"\ncores = true', ["'cores' is True"]),
        ('base = "arm64"\nl1d_bytes = "32K"', ["'l1d_bytes' is '32K'"]),
        ('base = "arm64"\nvector_bits = 100', ["'vector_bits' is 100", "32, 128, 256 or 512"]),
        ('base = "arm64"\narch = ["arm64"]', ["'arch'", "one of x86-64, arm64, arm-m"]),
        ('base = "arm64"\narch = "x86-64"', ["'triple'", "must begin with 'x86_64-'"]),
        ('base = "arm46"', ["no target 'arm46'", "did you mean 'arm64'"]),
        ('base = "board.toml"', ["'base' leads back"]),
        ('base = "arm64"\nvariants = "rpi5"', ["'variants'", "must be a list of devices"]),
        ('base = "arm64"\nvariants = ["rpi6"]', ["no target 'rpi6'", "did you mean 'rpi5'"]),
        ('base = "rpi5"\nvariants = ["arm64-dotprod"]', ["'arm64-dotprod' lacks 'crc', which this device"]),
        ('base = "arm64"\nvariants = ["x86-64-v3"]', ["'x86-64-v3' has another 'arch'"]),
        ('base = "rpi4"\nvariants = ["cortex-a53"]', ["'cortex-a53' has no feature more"]),
        ('base = "arm64"\nvariants = ["rpi5", "rpi5"]', ["'rpi5' is named twice"]),
        ('arch = "arm64"', ["is missing", "'base'"]),
        ("cores = ", ["not a TOML file"]),
    ],
)
def test_a_mistake_in_a_file_names_file_and_key(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(TargetError) as caught:
        loader.load(f"{path}-int8")
    message = str(caught.value)
    assert "\n" not in message
    if "no target" not in message:
        assert "board.toml" in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rpi6-int8", "no target 'rpi6-int8' (did you mean 'rpi5-int8'?)"),
        ("rpi5-int16", "did you mean 'rpi5-int8'?"),
        ("rpi5", "write rpi5-int8 or rpi5-fp32"),
        ("boards/mine.toml", "write boards/mine.toml-int8"),
        ("no/such.toml-int8", "no/such.toml: no such file"),
        ("cortex-m3-fp32", "cortex-m3 has no floating-point unit: build for cortex-m3-int8"),
        ("", "no target ''"),
    ],
)
def test_a_wrong_name_is_one_line_with_the_closest_one(name: str, words: str) -> None:
    with pytest.raises(TargetError) as caught:
        loader.load(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)

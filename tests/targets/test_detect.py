import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from edgec.errors import TargetError
from edgec.targets import detect, loader
from edgec.targets.architectures import ARCHITECTURES

RASPBERRY_PI_5 = """\
processor\t: 3
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd0b
CPU revision\t: 1

Revision\t: c04170
Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
HASWELL = """\
processor\t: 0
model name\t: Intel(R) Core(TM) i7-4770 CPU @ 3.40GHz
flags\t\t: fpu sse sse2 ht pni ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt avx f16c lahf_lm abm bmi1 avx2 bmi2

"""


def test_a_raspberry_pi_5_is_detected_as_the_shipped_target(tmp_path: Path) -> None:
    found = detect.describe("arm64", RASPBERRY_PI_5, tmp_path)
    assert found["cpu"] == "cortex-a76"
    assert set(found["features"]) == loader.load("rpi5-int8").features
    assert "l1d_bytes" not in found  # no caches in sysfs: the base's stay


def test_a_haswell_is_detected_as_level_3(tmp_path: Path) -> None:
    found = detect.describe("x86-64", HASWELL, tmp_path)
    assert set(found["features"]) == loader.load("x86-64-v3-int8").features
    assert (found["vector_bits"], found["vector_registers"]) == (256, 16)


def test_caches_are_read_in_bytes_and_the_instruction_cache_is_not_taken_for_data(tmp_path: Path) -> None:
    caches = [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K")]
    for number, content in enumerate(caches):
        index = tmp_path / f"index{number}"
        index.mkdir()
        for name, value in zip(("level", "type", "size"), content, strict=True):
            (index / name).write_text(value + "\n")
    found = detect.describe("x86-64", HASWELL, tmp_path)
    assert (found["l1d_bytes"], found["l2_bytes"]) == (48 * 1024, 2048 * 1024)


def test_host_is_this_machine() -> None:
    host = loader.load("host-int8")
    assert host.arch == detect.host_arch()
    assert host.cores >= 1


def test_without_proc_all_devices_but_host_are_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(detect, "CPUINFO", tmp_path / "cpuinfo")
    known, problems = loader.listed("int8")
    assert {target.device for target in known} == set(loader.devices()) - {"host"}
    assert problems == [f"target 'host' is detected from {tmp_path / 'cpuinfo'}, missing here: name a device"]
    with pytest.raises(TargetError, match="did you mean 'rpi5-int8'"):
        loader.load("rpi6-int8")
    with pytest.raises(TargetError, match="name a device"):
        loader.load("host-int8")
    assert detect.cpu_name() == platform.machine()


def test_every_feature_a_target_names_can_be_detected() -> None:
    targets = [loader.load(name) for name in loader.names()]
    assert {target.arch for target in targets} == ARCHITECTURES.keys()
    assert not [t.name for t in targets if not t.features <= t.architecture.features.keys()]


@pytest.mark.skipif(not shutil.which("llc-19"), reason="llc-19 lists LLVM's own names")
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_features_are_spelt_as_llvm_spells_them(arch: str) -> None:
    triple = next(target.triple for target in map(loader.load, loader.names()) if target.arch == arch)
    command = ["llc-19", f"-mtriple={triple}", "-mattr=help"]
    asked = subprocess.run(command, capture_output=True, text=True, input="")
    names = {line.split()[0] for line in asked.stderr.splitlines() if line.startswith("  ")}
    assert ARCHITECTURES[arch].features.keys() <= names

import dataclasses
import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgec import cache
from edgec.bench import devices, tuning
from edgec.bench.bundle import Bundle
from edgec.bench.devices import CountingDevice, checked, process
from edgec.bench.devices.emulator import QemuUser
from edgec.compiler.native import toolchain
from edgec.errors import BundleError, DeviceError
from edgec.targets import detect, loader

RPI5 = loader.load("rpi5-int8")
FOREIGN = loader.load("x86-64-int8" if detect.host_arch() == "arm64" else "rpi5-int8")


@pytest.mark.usefixtures("arm_emulator")
def test_without_a_name_a_bundle_runs_here_or_else_on_its_emulator(local_bundle: Bundle) -> None:
    assert local_bundle.device().name == "local"
    if detect.host_arch() != "arm64":
        assert devices.connect(None, RPI5).name == "emulator"


def test_another_architecture_does_not_run_here() -> None:
    with pytest.raises(DeviceError, match=f"for {FOREIGN.arch} and this machine is .*: run it"):
        devices.connect("local", FOREIGN)


def test_an_unknown_device_is_told_with_those_there_are() -> None:
    with pytest.raises(DeviceError, match="no device 'lcal': choose one of local, emulator"):
        devices.connect("lcal", RPI5)


def test_a_target_without_emulator() -> None:
    with pytest.raises(DeviceError, match="'x86-64-int8' has no emulator: run it with --device local"):
        devices.connect("emulator", loader.load("x86-64-int8"))


def test_a_missing_emulator_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match="qemu-aarch64 is not installed: sudo apt install qemu-user"):
        devices.connect("emulator", RPI5)


@pytest.mark.usefixtures("arm_emulator")
def test_a_missing_sysroot_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda path: False)
    with pytest.raises(DeviceError, match="aarch64-linux-gnu is missing: sudo apt install libc6-arm64-cross"):
        devices.connect("emulator", RPI5)


def test_a_program_gets_its_files_and_leaves_its_own() -> None:
    script = "cat a > b; echo said; echo warned >&2; exit 3"
    done = process.run("local", ["sh", "-c", script], {"a": b"in"}, {"b": 2, "c": 2}, 10)
    assert done == devices.Execution("local", 3, "said\n", "warned\n", {"b": b"in"})


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["sh", "-c", "kill -SEGV $$"], "died of SIGSEGV"),
        (["sleep", "5"], "did not end within 0.1 s"),
        (["/nowhere/program"], "can't be started: No such file"),
    ],
)
def test_a_program_that_can_not_go_on_is_an_error(command: list[str], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        process.run("local", command, {}, {}, 0.1)


def test_a_failing_program_is_told_in_its_own_words() -> None:
    with pytest.raises(DeviceError, match=r"^'local': last words$"):
        checked(devices.Execution("local", 2, "", "first\nlast words\n"))
    with pytest.raises(DeviceError, match="exit code 7"):
        checked(devices.Execution("local", 7, "", ""))


def test_a_program_that_was_changed_does_not_run(toy, tmp_path: Path) -> None:
    bundle = toy.build(toy.host_target, tmp_path)
    with (bundle.path / "bin" / "toy-bench").open("ab") as file:
        file.write(b"changed")
    with pytest.raises(BundleError, match="was changed"):
        bundle.device().execute(bundle.bench, ["--selftest"])


def test_a_cpu_without_the_bundles_features_says_so_and_does_not_die(a76_bundle: Bundle) -> None:
    a72 = dataclasses.replace(devices.connect("emulator", RPI5), model="cortex-a72")
    execution = a72.execute(a76_bundle.bench, ["--selftest"])
    assert execution.returncode == 3
    with pytest.raises(DeviceError, match="this CPU lacks 'dotprod'"):
        checked(execution)
    with pytest.raises(DeviceError, match="this CPU lacks 'dotprod'"):
        a72.count(a76_bundle.bench, ["--markers"])


COUNTED = r"""
#include <stdio.h>
#define BEGIN "hint #112\n"
#define END "hint #113\n"
static __attribute__((noinline)) void loop(long n)
{
    __asm__ volatile(BEGIN "1: subs %0, %0, #1\n ldr x9, [sp]\n nop\n b.ne 1b\n" END
                     : "+r"(n) : : "x9", "cc");
}
int main(void)
{
    loop(1);
    __asm__ volatile(BEGIN ".rept 7\n .inst 0x4e829420\n .endr\n" END : : : "v0"); /* sdot */
    __asm__ volatile(BEGIN END);
    loop(1000000);
    __asm__ volatile(BEGIN "b 2f\n nop\n 2: str x9, [sp, #-16]!\n add sp, sp, #16\n" END : : : "memory");
    puts("{}");
    return 0;
}
"""


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that holds nothing but a bench program of known instruction counts."""
    folder = tmp_path_factory.mktemp("counted")
    (folder / "bin").mkdir()
    (folder / "loop.c").write_text(COUNTED)
    toolchain.compile_c(RPI5, ["loop.c"], "loop.o", folder)
    toolchain.link_program(RPI5, ["loop.o"], "bin/loop-bench", folder)
    digest = hashlib.sha256((folder / "bin/loop-bench").read_bytes()).hexdigest()
    return Bundle(folder, SimpleNamespace(identifier="loop", files={"bin/loop-bench": digest}))


@pytest.mark.usefixtures("arm_emulator")
def test_instructions_are_counted_exactly_and_by_class(counted: Bundle) -> None:
    device = devices.connect("emulator", RPI5)
    assert isinstance(device, CountingDevice)
    regions = device.count(counted.bench, ["--markers"])
    found = [{name: count for name, count in region.counts.items() if count} for region in regions]
    assert found == [
        {"scalar": 2, "load": 1, "branch": 1},
        {"dot": 7},
        {},
        {"scalar": 2_000_000, "load": 1_000_000, "branch": 1_000_000},
        {"branch": 1, "store": 1, "scalar": 1},
    ]
    assert device.count(counted.bench, ["--markers"]) == regions


@pytest.mark.usefixtures("arm_emulator")
def test_the_counter_is_built_once(counted: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "a,comma" / "edgec")
    device = devices.connect("emulator", RPI5)
    first = device.count(counted.bench, ["--markers"])
    (built,) = (tmp_path / "a,comma" / "edgec").glob("*.so")
    before = built.stat().st_mtime_ns
    assert device.count(counted.bench, ["--markers"]) == first
    assert built.stat().st_mtime_ns == before


def test_an_emulator_that_can_not_load_plugins_is_told(counted: Bundle, tmp_path: Path) -> None:
    static = tmp_path / "qemu-aarch64"
    static.write_text("#!/bin/sh\necho version 7.2.0\necho 'no plugins in this build' >&2\nexit 1\n")
    static.chmod(0o755)
    device = QemuUser(static, "cortex-a76", "/usr/aarch64-linux-gnu")
    with pytest.raises(DeviceError, match=r"load plugins \(no plugins in this build\): install qemu-user"):
        device.count(counted.bench, ["--markers"])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("printf 'end -1' > counts", "counter's output makes no sense: '-1' is no number"),
        ("printf '\\377' > counts", "counter's output makes no sense"),
        ("ln -s /dev/zero counts", "counts, which the program wrote: not a file"),
        ("exec sleep 100", "did not end within 0.2 s"),
    ],
)
def test_an_emulator_that_counts_nonsense_is_told(
    script: str, message: str, counted: Bundle, tmp_path: Path
) -> None:
    odd = tmp_path / "qemu-aarch64"
    odd.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo version 7.2.0 && exit 0\n{script}\n")
    odd.chmod(0o755)
    device = QemuUser(odd, "cortex-a76", "/usr/aarch64-linux-gnu", 0.2 if "sleep" in script else 60)
    with pytest.raises(DeviceError, match=f"^'emulator': .*{message}"):
        device.count(counted.bench, ["--markers"])


@pytest.mark.parametrize("answer", ["", "1", "1 2 3 4 5", "1 2 3 soon", "1 2 3 -4", "1 2 3 nan", "1 2 3 1e9"])
def test_a_probe_that_says_nonsense_is_told(answer: str, tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    probe.write_text(f"#!/bin/sh\necho {answer}\n")
    probe.chmod(0o755)
    target = loader.load("host-int8")
    measured = tuning.meter(devices.connect("local", target), target)
    for ask in (measured.costs, measured.sums):
        with pytest.raises(DeviceError, match="'local': the tuner's probe says no 4 numbers"):
            ask(probe, bytes(4))

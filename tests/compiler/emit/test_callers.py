"""What a C program may do to a bundle: any number of tensors, any float mode, forks, mistakes.

What it gets is the right bytes or a status, never other bytes, a signal or a hang.
"""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from edgec.bench import devices
from edgec.bench.bundle import Bundle
from edgec.compiler.native import toolchain
from edgec.targets import loader
from tests.compiler.building import HOST, build, verified
from tests.compiler.emit.test_emit import HOST as DEVICE
from tests.compiler.emit.test_emit import STRICT, make, qemu, write
from tests.compiler.onnx_models import model
from tests.conftest import board_of

PROGRAM = Path(__file__).with_name("callers.c")
EXAMPLE = Path(__file__).parents[3] / "examples" / "fmnist_dscnn.onnx"
FLOAT_HOST = HOST.replace("-int8", "-fp32")


def with_tensors(inputs: int, outputs: int) -> str:
    """A model of so many: each output is a function of its own of the sum of two inputs."""
    declared = ", ".join(f"float[1,8] x{i}" for i in range(inputs))
    results = ", ".join(f"float[1,8] y{i}" for i in range(outputs))
    nodes = " ".join(
        f"s{i} = Add(x{i % inputs}, x{(i * 3 + 1) % inputs}) y{i} = LeakyRelu <alpha = {i / 32}> (s{i})"
        for i in range(outputs)
    )
    return f"({declared}) => ({results}) {{ {nodes} }}"


@pytest.mark.parametrize("target", [HOST, FLOAT_HOST, "rpi5-int8", "cortex-m4-int8", "cortex-m0plus-int8"])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 9), (20, 20)])
def test_a_model_may_have_any_number_of_tensors(
    inputs: int, outputs: int, target: str, tmp_path: Path
) -> None:
    bundle = build(model(with_tensors(inputs, outputs)), tmp_path, target)
    if target.startswith("cortex"):
        board_of(target.removesuffix("-int8"))
    elif target == "rpi5-int8":
        qemu("cortex-a76")
    assert verified(bundle).passed


@pytest.mark.parametrize("device", ["", "cortex-m4"])
def test_a_model_may_have_no_inputs(device: str, tmp_path: Path) -> None:
    """Its struct has a field nonetheless, which C99 asks for; a file of no bytes is one sample."""
    if device:
        board_of(device)
    made = make(loader.load(f"{device}-int8") if device else DEVICE)
    image = made.golden.inputs["image:0"]
    program = dataclasses.replace(
        made.program, inputs=(), constants={**made.program.constants, "image:0": image}
    )
    made = dataclasses.replace(made, program=program, golden=dataclasses.replace(made.golden, inputs={}))
    bundle = Bundle.load(write(made, tmp_path).path)
    shutil.copy(bundle.file("include/tiny.h"), tmp_path)
    (tmp_path / "use.c").write_text(
        '#include "tiny.h"\nint main(void) { tiny_inputs in = { 0 }; return in.none != 0; }\n'
    )
    for language in (("-x", "c", "-std=c99"), ("-x", "c++", "-std=c++17", "-nostdinc++")):
        flags = ("-target", program.target.c_target, "-ffreestanding", *language, *STRICT)
        toolchain.zig(tmp_path, "cc", *flags, "use.c")
    done = bundle.device("emulator" if device else "local").execute(
        bundle.bench,
        ["--selftest", "--input", "in", "--output", "out"],
        files={"in": b""},
        collect={"out": 1 << 16},
    )
    assert json.loads(done.stdout)["selftest"] == "ok"
    assert json.loads(done.stdout)["samples"] == 1
    assert done.files["out"] == b"".join(made.golden.outputs[t.name].tobytes() for t in program.outputs)


def linked(bundle: Bundle, folder: Path) -> Path:
    """callers.c with the bundle's library."""
    target = bundle.manifest.target
    for file in bundle.manifest.files:
        if file.startswith(("include/", "lib/", "src/float_mode.h")):
            shutil.copy(bundle.file(file), folder)
    shutil.copy(PROGRAM, folder)
    flags = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror")
    sources = (PROGRAM.name, "libnet.a", "-pthread", "-lm")
    toolchain.zig(folder, "cc", "-target", target.c_target, *flags, *sources, "-o", "callers")
    return folder / "callers"


def check(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("target", [HOST, FLOAT_HOST])
def test_callers_get_the_right_bytes_or_a_status(target: str, tmp_path: Path) -> None:
    check([str(linked(build(EXAMPLE, tmp_path, target, name="net"), tmp_path))])


@pytest.mark.slow
@pytest.mark.parametrize("target", ["rpi4-int8", "rpi5-fp32"])
def test_callers_get_them_on_emulated_arm(target: str, tmp_path: Path) -> None:
    """All but forks, which QEMU itself fails at where there are threads."""
    program = linked(build(EXAMPLE, tmp_path, target, name="net"), tmp_path)
    check([*qemu("cortex-a76"), str(program), "0"])


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
def test_callers_get_them_on_a_board(core: str, tmp_path: Path) -> None:
    board_of(core)
    target = loader.load(f"{core}-int8")
    bundle = build(EXAMPLE, tmp_path, target.name, name="net")
    for file in bundle.manifest.files:
        if file.startswith(("include/", "lib/", "src/")):
            shutil.copy(bundle.file(file), tmp_path)
    shutil.copy(PROGRAM.with_name("callers_board.c"), tmp_path / "main.c")
    for source in ("main", "startup"):
        toolchain.compile_c(target, [f"{source}.c"], f"{source}.o", tmp_path)
    toolchain.link_image(target, ["main.o", "startup.o", "libnet.a"], "image.ld", "image", tmp_path)
    assert devices.connect("emulator", target).execute(tmp_path / "image", []).returncode == 0

"""Bundles around kernels written by hand in C, so that everything but the kernel table is real."""

import ctypes
import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from edgec.compiler import names, npz
from edgec.compiler.accuracy import Accuracy, Figure
from edgec.compiler.emit import atomic_folder as aside_module
from edgec.compiler.emit import bundle, driver, linking
from edgec.compiler.emit.atomic_folder import aside
from edgec.compiler.emit.bundle import Bundle
from edgec.compiler.emit.entries import Source
from edgec.compiler.emit.golden import Golden, checksum
from edgec.compiler.emit.manifest import End, IslandNode
from edgec.compiler.emit.symbols import prefix_symbols
from edgec.compiler.native import cpu, toolchain
from edgec.compiler.program import Call, Function, Plan, Program
from edgec.compiler.provenance import Provenance
from edgec.errors import BundleError, TargetError, ToolchainError
from edgec.kernels.operations import Quantization, Tensor
from edgec.options import BuildOptions
from edgec.targets import loader
from edgec.targets.architectures import ARCHITECTURES
from edgec.targets.descriptor import Target
from edgec.targets.detect import host_arch

ROWS, COLUMNS = 64, 16
SCRATCH = 64
SHARED = 10**7
"""Multiply-accumulates that are worth sharing out among threads."""
HOST = loader.load("x86-64-int8" if host_arch() == "x86-64" else "arm64-int8")
SIGNATURE = "int32_t {name}({pointers}, int8_t *scratch, int32_t begin, int32_t end)"
KERNELS = {
    "edgec_bias_1": (
        "const int8_t *x, const int8_t *bias, int8_t *y",
        "(void)scratch; for (int i = begin * 16; i < end * 16; i++) y[i] = (int8_t)(x[i] + bias[i % 16]);",
    ),
    "edgec_reverse_2": (
        "const int8_t *x, int8_t *y",
        """for (int row = begin; row < end; row++) {
            for (int i = 0; i < 16; i++) scratch[15 - i] = x[row * 16 + i];
            for (int i = 0; i < 16; i++) y[row * 16 + i] = (int8_t)(scratch[i] ^ 0x55);
        }""",
    ),
    "edgec_sum_3": (
        "const int8_t *x, int32_t *y",
        """(void)scratch; for (int row = begin; row < end; row++) {
            y[row] = 0;
            for (int i = 0; i < 16; i++) y[row] += x[row * 16 + i];
        }""",
    ),
    "edgec_half_4": (
        "const int32_t *x, float *y",
        "(void)scratch; (void)begin; (void)end; for (int i = 0; i < 64; i++) y[i] = 0.5f * (float)x[i];",
    ),
}
"""Pointers and body of each; the second needs its scratch, all but the last share out rows."""


def compile_kernel(folder: Path, target: Target, symbol: str, body: str | None = None) -> bytes:
    pointers, usual = KERNELS[symbol]
    text = SIGNATURE.format(name=symbol, pointers=pointers)
    (folder / "kernel.c").write_text(f"#include <stdint.h>\n{text}\n{{ {body or usual} return 0; }}\n")
    if not target.platform.loads_programs:
        toolchain.compile_c(target, ["kernel.c"], "kernel.o", folder)
        return (folder / "kernel.o").read_bytes()
    flags = (
        "-O1",
        "-g0",
        "-fPIC",
        "-mcpu=cortex_a76" if target.arch == "arm64" and target.features else "-g0",
    )
    toolchain.zig(folder, "cc", "-target", target.c_target, *flags, "-c", "kernel.c", "-o", "kernel.o")
    return (folder / "kernel.o").read_bytes()


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    program: Program
    plan: Plan
    golden: Golden
    source: Source


def make(target: Target) -> Made:
    """image -> bias -> reverse -> sum -> logits -> half -> probability."""
    shape = (ROWS, COLUMNS)
    tensors = {
        tensor.name: tensor
        for tensor in (
            Tensor("image:0", shape, "int8", Quantization(1 / 255, -128)),
            Tensor("hidden", shape, "int8"),
            Tensor("turned", shape, "int8"),
            Tensor("class", (ROWS,), "int32"),
            Tensor("1/prob", (ROWS,), "float32"),
        )
    }
    rng = np.random.default_rng(7)
    bias = rng.integers(-128, 128, COLUMNS, dtype=np.int8)
    macs = SHARED if target.platform.loads_programs else 0
    calls = (
        Call("stem/bias", "add_c", "edgec_bias_1", ("image:0", "bias", "hidden"), ("hidden",), ROWS, 0, macs),
        Call("turn */", "turn_c", "edgec_reverse_2", ("hidden", "turned"), ("turned",), ROWS, SCRATCH, macs),
        Call('"sum"', "sum_c", "edgec_sum_3", ("turned", "class"), ("class",), ROWS, 0, 1024),
        Call("half", "island", "edgec_half_4", ("class", "1/prob"), ("1/prob",), 1, 0, 0, checked=False),
    )
    program = Program(
        target=target,
        calls=calls,
        functions={call.symbol: Function(call.symbol, call.symbol, lambda: None) for call in calls},
        tensors=tensors,
        constants={"bias": bias},
        inputs=(tensors["image:0"],),
        outputs=(tensors["class"], tensors["1/prob"]),
    )
    size = ROWS * COLUMNS
    plan = Plan(
        {"hidden": 0, "turned": size}, (0, 2 * size, 0, 0), 2 * size + SCRATCH, SCRATCH, 2 * size + SCRATCH
    )
    image = rng.integers(-128, 128, shape, dtype=np.int8)
    steps = reference(image, bias)
    golden = Golden(
        inputs={"image:0": image},
        outputs={"class": steps[2], "1/prob": steps[3]},
        checksums=(*(checksum([step]) for step in steps[:3]), None),
    )
    calibration = Provenance("synthetic", samples=4, seed=0)
    islands = (IslandNode("half", "Mul", "float"),)
    figures = tuple(Figure(name, None, 30.0, None, None, None) for name in ("class", "1/prob"))
    accuracy = Accuracy("synthetic", 1, figures)
    source = Source("tiny.onnx", "0" * 64, 5, 4, calibration, b"onnx", b"given", accuracy, islands)
    return Made(program, plan, golden, source)


def reference(image: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
    hidden = image + bias
    turned = hidden[:, ::-1] ^ np.int8(0x55)
    total = turned.sum(axis=1, dtype=np.int32)
    return [hidden, turned, total, total.astype(np.float32) / 2]


def write(made: Made, folder: Path, name: str = "tiny", bodies: dict[str, str] | None = None) -> Bundle:
    """Build at `folder`/`name`.edgec; `bodies` replaces kernels by wrong ones."""
    work = folder / "objects"
    work.mkdir(parents=True, exist_ok=True)
    objects = {s: compile_kernel(work, made.program.target, s, (bodies or {}).get(s)) for s in KERNELS}
    output = folder / f"{name}.edgec"
    options = BuildOptions(target=HOST.name)
    return bundle.write(
        name, (made.program,), made.plan, (objects,), made.golden, made.source, options, output
    )


def bench(built: Bundle, *arguments: str, emulator: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*emulator, str(built.bench), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write(make(HOST), tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def rpi5(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write(make(loader.load("rpi5-int8")), tmp_path_factory.mktemp("rpi5"))


def qemu(cpu_name: str) -> tuple[str, ...]:
    sysroot = loader.load("rpi5-int8").emulator
    assert sysroot is not None
    if shutil.which(sysroot.program) is None or not Path(sysroot.sysroot).is_dir():
        pytest.skip("qemu-aarch64 and libc6-arm64-cross are not installed")
    return (sysroot.program, "-L", sysroot.sysroot, "-cpu", cpu_name)


# ---- The bundle on disk


def test_the_bundle_holds_what_the_manifest_says(tiny: Bundle) -> None:
    files = {path.relative_to(tiny.path).as_posix() for path in tiny.path.rglob("*") if path.is_file()}
    assert files == set(tiny.manifest.files) | {"manifest.json", "manifest.sha256"}
    assert {"include/tiny.h", "lib/libtiny.a", "lib/libtiny.so", "bin/tiny-bench", "src/tiny.c"} <= files
    loaded = Bundle.load(tiny.path)
    loaded.check()
    assert loaded.manifest == tiny.manifest
    assert (loaded.name, loaded.target) == ("tiny", HOST.name)
    unscaled = dataclasses.replace(loaded.inputs[0], scale=None)
    assert unscaled == End("image:0", "image_0", "int8", (64, 16), None, -128)
    assert [output.c_name for output in loaded.outputs] == ["class_", "t1_prob"]
    assert [step.checked for step in loaded.steps] == [True, True, True, False]
    assert loaded.memory.arena_bytes == 2112
    assert loaded.memory.weights_bytes == 16
    assert loaded.manifest.islands == (IslandNode("half", "Mul", "float"),)
    with np.load(loaded.file("golden/outputs.npz")) as arrays:
        np.testing.assert_array_equal(arrays["class"], make(HOST).golden.outputs["class"])


def test_two_builds_in_different_folders_are_identical(tiny: Bundle, tmp_path: Path) -> None:
    again = write(make(HOST), tmp_path / "a rather" / "different folder")
    assert (again.path / "manifest.json").read_bytes() == (tiny.path / "manifest.json").read_bytes()
    for file in tiny.manifest.files:
        assert (again.path / file).read_bytes() == (tiny.path / file).read_bytes(), file
        assert str(tmp_path).encode() not in (again.path / file).read_bytes(), file


def test_missing_and_changed_files_are_named(tiny: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "copy.edgec"
    with pytest.raises(BundleError, match=r"copy\.edgec is no bundle: it has no manifest\.json"):
        Bundle.load(copy)
    shutil.copytree(tiny.path, copy)
    (copy / "model.onnx").write_bytes(b"other")
    changed = Bundle.load(copy)
    changed.file("bin/tiny-bench")
    with pytest.raises(BundleError, match=r"model\.onnx was changed after the build"):
        changed.file("model.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx was changed"):
        changed.check()
    (copy / "lib/libtiny.so").unlink()
    with pytest.raises(BundleError, match=r"lib/libtiny\.so is missing"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ("[" * 100_000, "is damaged"),
        ("9" * 5000, "is damaged"),
        ('{"schema": 4}', "is damaged"),
        ('{"schema": 2}', "has schema 2, this edgec reads 4"),
    ],
)
def test_a_damaged_manifest_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=message) as error:
        Bundle.load(tmp_path)
    assert "\n" not in str(error.value)


def test_only_a_bundle_is_replaced(tiny: Bundle, tmp_path: Path) -> None:
    mine = tmp_path / "tiny.edgec"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match=r"exists and is no bundle: move it away"):
        write(make(HOST), tmp_path)
    assert (mine / "thesis.tex").read_text() == "years of work"
    shutil.rmtree(mine)
    shutil.copytree(tiny.path, mine)
    (mine / "model.onnx").write_bytes(b"damaged")
    (mine / "notes").mkdir()
    (mine / "notes" / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match=r"is no bundle: 'notes' in it is no file of a bundle's; move it"):
        write(make(HOST), tmp_path)
    assert (mine / "notes" / "thesis.tex").read_text() == "years of work"
    shutil.rmtree(mine / "notes")
    write(make(HOST), tmp_path)
    Bundle.load(mine).check()


def test_a_failing_build_leaves_nothing(tmp_path: Path) -> None:
    body = "void nowhere(void); (void)x; (void)y; (void)scratch; (void)begin; (void)end; nowhere();"
    with pytest.raises(ToolchainError, match=r"^the C compiler failed with exit code 1: .*nowhere") as error:
        write(make(HOST), tmp_path / "made", bodies={"edgec_half_4": body})
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["objects"]


def test_a_killed_build_leaves_one_hidden_folder_that_the_next_removes(tmp_path: Path) -> None:
    output = tmp_path / "tiny.edgec"
    child = os.fork()
    if child == 0:
        with aside(output) as folder:
            (folder / "half").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert [path.name for path in tmp_path.iterdir()] == [f".tiny.edgec.partial-{child}"]
    with aside(output) as folder:
        (folder / "whole").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.edgec"]
    assert [path.name for path in output.iterdir()] == ["whole"]


def test_a_folder_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the moment after, there is the new one, never none."""
    output = tmp_path / "x"
    for content in ("old", "new"):
        child = os.fork()
        if child == 0:
            monkeypatch.setattr(aside_module, "_remove", lambda _folder: os.kill(os.getpid(), signal.SIGKILL))
            with aside(output) as folder:
                (folder / content).touch()
                if content == "new":
                    monkeypatch.setattr(Path, "rename", None)
        os.waitpid(child, 0)
        assert [path.name for path in output.iterdir()] == [content]
    with aside(output) as folder:
        (folder / "last").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_file_system_without_exchange_takes_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aside_module, "_exchange", lambda _new, _old: False)
    for content in ("old", "new"):
        with aside(tmp_path / "x") as folder:
            (folder / content).touch()
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["new"]


def test_what_no_build_left_behind_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".x.partial-notes").mkdir()
    with aside(tmp_path / "x"):
        pass
    assert (tmp_path / ".x.partial-notes").is_dir()


def test_folders_made_in_vain_are_removed(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="can't be written: No space"), aside(tmp_path / "a" / "b" / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())
    with aside(tmp_path / "a" / ("x" * 250)):
        pass
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x" * 250]


def test_a_link_to_a_bundle_stays_one(tiny: Bundle, tmp_path: Path) -> None:
    shutil.copytree(tiny.path, tmp_path / "real.edgec")
    (tmp_path / "tiny.edgec").symlink_to("real.edgec")
    write(make(HOST), tmp_path)
    assert (tmp_path / "tiny.edgec").is_symlink()
    Bundle.load(tmp_path / "real.edgec").check()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["objects", "real.edgec", "tiny.edgec"]


@pytest.mark.parametrize(
    "manifest",
    ["{}", "[]", "not JSON", '{"manifest_version": 3, "name": "an extension"}', '{"schema": 4, "files": {}}'],
)
def test_a_manifest_of_somebody_elses_is_no_bundle(manifest: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / "index.html").touch()
    with pytest.raises(BundleError, match="exists and is no bundle: its manifest"):
        bundle.check_output(tmp_path)
    assert (tmp_path / "index.html").exists()


def test_golden_inputs_of_another_shape_are_a_bug(tmp_path: Path) -> None:
    made = make(HOST)
    made.golden.inputs["image:0"] = np.zeros(3, np.int8)
    with pytest.raises(ValueError, match="golden input 'image:0'"):
        write(made, tmp_path)


def test_a_program_without_constants(tmp_path: Path) -> None:
    made = make(HOST)
    arguments = ("image:0", "image:0", "hidden")  # the first row is the bias
    calls = (dataclasses.replace(made.program.calls[0], arguments=arguments), *made.program.calls[1:])
    program = dataclasses.replace(made.program, calls=calls, constants={})
    image = made.golden.inputs["image:0"]
    sums = (*(checksum([step]) for step in reference(image, image[0])[:3]), None)
    golden = dataclasses.replace(made.golden, checksums=sums)
    result = bench(write(dataclasses.replace(made, program=program, golden=golden), tmp_path), "--selftest")
    assert json.loads(result.stdout)["selftest"] == "ok"


# ---- The C


STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-c", "-o", "strict.o")


@pytest.mark.parametrize("language", [("-x", "c", "-std=c99"), ("-x", "c++", "-std=c++17", "-nostdinc++")])
def test_the_header_is_clean(tiny: Bundle, tmp_path: Path, language: tuple[str, ...]) -> None:
    (tmp_path / "use.c").write_text('#include "tiny.h"\nint main(void) { return TINY_OK; }\n')
    shutil.copy(tiny.file("include/tiny.h"), tmp_path)
    toolchain.zig(tmp_path, "cc", "-target", HOST.c_target, *language, *STRICT, "use.c")


@pytest.mark.parametrize("source", ["tiny.c", "tiny_selftest.c", "tiny_bench.c"])
def test_the_sources_compile_without_a_warning(tiny: Bundle, tmp_path: Path, source: str) -> None:
    for file in tiny.manifest.files:
        if file.startswith(("src/", "include/")):
            shutil.copy(tiny.file(file), tmp_path)
    toolchain.zig(tmp_path, "cc", "-target", HOST.c_target, "-std=gnu11", *STRICT, source)


def nm(path: Path, *flags: str) -> list[tuple[str, str]]:
    """(type, name) of each symbol."""
    if shutil.which("nm") is None:
        pytest.skip("binutils are not installed")
    text = subprocess.run(["nm", *flags, str(path)], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^(?:[0-9a-f]+)? +(\w) (\S+)$", text, re.MULTILINE)


def test_the_library_has_no_variables_and_needs_little(tiny: Bundle) -> None:
    symbols = nm(tiny.file("lib/libtiny.a"))
    sections = subprocess.run(
        ["readelf", "-SW", str(tiny.file("lib/libtiny.a"))], capture_output=True, text=True, check=True
    ).stdout
    # Name, size and flags. Writable is allowed for what the loader alone writes: the table of steps.
    writable = {
        name
        for name, size, flags in re.findall(r"\] (\.\S+) +\w+ +\w+ \w+ (\w+) \w+ +(\w*)", sections)
        if "W" in flags and int(size, 16)
    }
    assert writable == {".data.rel.ro"}
    assert not [name for kind, name in symbols if kind in "bBCD"]
    defined = {name for kind, name in symbols if kind.isupper() and kind != "U"}
    assert all(name.startswith("tiny_") for name in defined)
    libc = {"memcpy", "memset", "memmove", "clock_gettime", "getpid", "sched_yield", "getauxval"}
    needed = {name for kind, name in symbols if kind == "U"} - defined
    assert {name for name in needed if not name.startswith("pthread_")} <= libc


def test_the_shared_library_exports_the_api_alone(tiny: Bundle) -> None:
    exported = {name for kind, name in nm(tiny.file("lib/libtiny.so"), "-D") if kind in "TRD"}
    api = {"init", "run", "run_observed", "selftest", "close", "status_text", "missing_feature"}
    api |= {"init_level", "level", "level_name", "level_missing_feature"}
    tools = {"step_name", "step_output", "golden_inputs"}
    assert exported == {f"tiny_{name}" for name in api | tools}


def test_two_bundles_link_into_one_program(tiny: Bundle, tmp_path: Path) -> None:
    other = write(make(HOST), tmp_path, "other")
    (tmp_path / "main.c").write_text(
        """
        #include <stdio.h>
        #include "tiny.h"
        #include "other.h"
        static uint8_t a[TINY_ARENA_BYTES] __attribute__((aligned(64)));
        static uint8_t b[OTHER_ARENA_BYTES_FOR(3)] __attribute__((aligned(64)));
        static tiny_context c;
        static other_context d;
        static tiny_selftest_result r;
        static other_selftest_result s;
        int main(void)
        {
            int bad = tiny_init(&c, a, sizeof a, 1) || other_init(&d, b, sizeof b, 3);
            bad = bad || tiny_selftest(&c, &r) || other_selftest(&d, &s);
            tiny_close(&c);
            other_close(&d);
            return bad;
        }
        """
    )
    for file in (tiny.file("include/tiny.h"), tiny.file("lib/libtiny.a")):
        shutil.copy(file, tmp_path)
    for file in (other.file("include/other.h"), other.file("lib/libother.a")):
        shutil.copy(file, tmp_path)
    archives = ("-Wl,--whole-archive", "libtiny.a", "libother.a", "-Wl,--no-whole-archive")
    toolchain.zig(tmp_path, "cc", "-target", HOST.c_target, "main.c", *archives, "-pthread", "-o", "main")
    subprocess.run([str(tmp_path / "main")], check=True, timeout=30)


def test_a_program_without_selftest_has_no_golden_vectors(tiny: Bundle, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(
        '#include "tiny.h"\nint main(void) { return tiny_run(0, 0, 0) == TINY_OK; }'
    )
    for file in ("include/tiny.h", "lib/libtiny.a"):
        shutil.copy(tiny.file(file), tmp_path)
    toolchain.zig(tmp_path, "cc", "-target", HOST.c_target, "main.c", "libtiny.a", "-pthread", "-o", "main")
    program = (tmp_path / "main").read_bytes()
    image = make(HOST).golden.inputs["image:0"].tobytes()
    assert image in tiny.file("bin/tiny-bench").read_bytes()
    assert image not in program


def test_the_api_refuses_what_it_must(tiny: Bundle) -> None:
    library = ctypes.CDLL(str(tiny.file("lib/libtiny.so")))
    header = tiny.file("include/tiny.h").read_text()
    codes = [name for name in re.findall(r"^    TINY_(\w+)(?: = 0)?,", header, re.MULTILINE)]
    library.tiny_status_text.restype = ctypes.c_char_p
    context = ctypes.create_string_buffer(4096)
    memory = ctypes.create_string_buffer(2112 + 64 + 64)
    start = -ctypes.addressof(memory) % 64
    arena = ctypes.addressof(memory) + start

    def init(at: int | None, size: int, threads: int) -> str:
        return codes[library.tiny_init(context, ctypes.c_void_p(at), ctypes.c_size_t(size), threads)]

    assert init(arena, 2112, 1) == "OK"
    assert init(None, 2112, 1) == "ERROR_ARGUMENT"
    assert init(arena, 2111, 1) == "ERROR_ARENA_TOO_SMALL"
    assert init(arena, 2112, 2) == "ERROR_ARENA_TOO_SMALL"
    assert init(arena + 1, 2112, 1) == "ERROR_ARENA_ALIGNMENT"
    assert init(arena, 2112, 0) == "ERROR_THREADS"
    assert init(arena, 1 << 30, 33) == "ERROR_THREADS"
    assert codes[library.tiny_run(context, None, None)] == "ERROR_ARGUMENT"
    for code in range(len(codes)):
        assert library.tiny_status_text(code) not in (b"", b"unknown status")
    library.tiny_close(context)
    library.tiny_close(context)


# ---- Running


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_samples_run_exactly(tiny: Bundle, tmp_path: Path, threads: int) -> None:
    bias = make(HOST).program.constants["bias"]
    samples = np.random.default_rng(threads).integers(-128, 128, (9, ROWS, COLUMNS), dtype=np.int8)
    (tmp_path / "in").write_bytes(samples.tobytes())
    files = (
        "--input",
        str(tmp_path / "in"),
        "--output",
        str(tmp_path / "out"),
        "--trace",
        str(tmp_path / "trace"),
    )
    result = bench(tiny, *files, "--threads", str(threads))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["samples"] == 9
    expected = [reference(sample, bias) for sample in samples]
    assert (tmp_path / "out").read_bytes() == b"".join(a.tobytes() for s in expected for a in s[2:])
    assert (tmp_path / "trace").read_bytes() == b"".join(step.tobytes() for s in expected for step in s)


def test_bench_measures(tiny: Bundle) -> None:
    result = json.loads(bench(tiny, "--runs", "7", "--layers", "--threads", "2").stdout)
    assert len(result["latency_ns"]) == 7
    assert len(result["layers_ns"]) == 4
    assert all(0 <= least < 10**9 for least in result["layers_ns"])
    ballast = bytearray(os.urandom(1 << 20) * 64)  # the caller's memory is none of the model's
    peak = json.loads(bench(tiny).stdout)["peak_rss_bytes"]
    assert 2**16 < peak < 2**24 < len(ballast)


@pytest.mark.parametrize("threads", ["1", "3"])
def test_selftest_passes(tiny: Bundle, threads: str) -> None:
    result = bench(tiny, "--selftest", "--threads", threads)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["selftest"], told["steps_checked"]) == ("ok", 3)
    assert (
        told["arena_bytes_touched"] == 2 * ROWS * COLUMNS + COLUMNS
    )  # the scratch's last 48 bytes are spare
    assert told["arena_bytes"] == 2112


UNUSED = "(void)x; (void)begin; (void)end; (void)scratch; "


@pytest.mark.parametrize(
    ("symbol", "body", "verdict", "layer"),
    [
        ("edgec_reverse_2", UNUSED + "for (int i = 0; i < 1024; i++) y[i] = x[i];", "differs", "turn */"),
        ("edgec_sum_3", UNUSED + "for (int i = begin; i < end; i++) y[i] = 7;", "differs", '"sum"'),
        ("edgec_half_4", UNUSED + "y[64] = 1;", "overrun", "half"),
        ("edgec_reverse_2", UNUSED + "y[0] = 0; scratch[8192] = 3;", "overrun", "turn */"),
    ],
)
def test_selftest_names_the_step(tmp_path: Path, symbol: str, body: str, verdict: str, layer: str) -> None:
    result = bench(write(make(HOST), tmp_path, bodies={symbol: body}), "--selftest")
    assert result.returncode == 1
    told = json.loads(result.stdout)
    assert (told["selftest"], told["layer"]) == (verdict, layer)


def test_a_write_before_the_arena_is_found(tmp_path: Path) -> None:
    body = KERNELS["edgec_bias_1"][1] + "y[-9] = 3;"
    result = bench(write(make(HOST), tmp_path, bodies={"edgec_bias_1": body}), "--selftest")
    assert result.returncode == 1
    assert json.loads(result.stdout)["selftest"] == "overrun"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", "/nonexistent"), "/nonexistent: No such file or directory"),
        (("--threads", "99"), "--threads 99: 1 to 32"),
        (("--threads", "two"), "--threads two: a whole number, at least 1"),
        (("--runs",), "--runs needs a value"),
        (("--fast",), "unknown option '--fast'; --help lists them"),
        (("--output", "x"), "--output needs --input"),
        (("--level", "fast"), "--level fast: there is none; --levels lists them"),
        (("--input", "/proc/self/status"), "/proc/self/status: "),
    ],
)
def test_mistakes_are_one_line(tiny: Bundle, arguments: tuple[str, ...], message: str) -> None:
    result = bench(tiny, *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"tiny-bench: {message}")
    assert result.stderr.count("\n") == 1


# ---- Under the emulator, and on the wrong CPU


def test_the_emulated_device_computes_the_same(rpi5: Bundle, tmp_path: Path) -> None:
    image = make(HOST).golden.inputs["image:0"]
    (tmp_path / "in").write_bytes(image.tobytes())
    files = ("--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"))
    result = bench(rpi5, "--selftest", "--markers", "--threads", "2", *files, emulator=qemu("cortex-a76"))
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["selftest"], told["marked_steps"], told["samples"]) == ("ok", 4, 1)
    expected = reference(image, make(HOST).program.constants["bias"])
    assert (tmp_path / "out").read_bytes() == b"".join(array.tobytes() for array in expected[2:])


@pytest.mark.parametrize("mode", ["--selftest", "--runs=1", "--markers"])
def test_a_cpu_without_a_feature_is_told_so(rpi5: Bundle, mode: str) -> None:
    result = bench(rpi5, *mode.split("="), emulator=qemu("cortex-a72"))
    assert result.returncode == 3
    assert result.stderr == "tiny-bench: this CPU lacks 'dotprod', which the bundle was built for\n"


def test_init_refuses_a_cpu_without_a_feature(tmp_path: Path) -> None:
    """The same through the library, on this machine: no CPU has all of these."""
    everything = dataclasses.replace(HOST, features=frozenset(HOST.architecture.features))
    built = write(make(everything), tmp_path)
    library = ctypes.CDLL(str(built.file("lib/libtiny.so")))
    library.tiny_missing_feature.restype = ctypes.c_char_p
    missing = library.tiny_missing_feature()
    if missing is None:
        pytest.skip("this CPU has every feature that edgec knows")
    flag = HOST.architecture.features[missing.decode()]
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    assert flags is not None
    assert flag not in flags[1].split()
    memory = ctypes.create_string_buffer(4096)
    context = ctypes.create_string_buffer(4096)
    arena = ctypes.addressof(memory) + -ctypes.addressof(memory) % 64
    assert library.tiny_init(context, ctypes.c_void_p(arena), ctypes.c_size_t(2112), 1) == 2


@pytest.mark.parametrize(("arch", "rows"), [("x86-64", cpu.X86_64), ("arm64", cpu.ARM64)])
def test_every_feature_of_a_target_can_be_looked_up(arch: str, rows: dict[str, object]) -> None:
    assert set(rows) == set(ARCHITECTURES[arch].features)


def test_a_feature_that_cant_be_looked_up_is_refused() -> None:
    with pytest.raises(TargetError, match="feature 'sve2' can't be looked up"):
        cpu.table(dataclasses.replace(HOST, features=frozenset({"sve2"})))


# ---- Small parts


def test_a_bundle_takes_no_name_that_is_the_drivers_or_the_systems() -> None:
    """One to which a suffix of the API's can be added, as `_run` to `pool`, and which then means another."""
    suffixes, sources = set[str](), list[str]()
    for target in (
        HOST,
        loader.load("rpi5-int8"),
        loader.load("cortex-m4-int8"),
        loader.load("riscv32-int8"),
    ):
        made = make(target)
        kernels = linking.Kernels({}, ("base",), ({call.symbol: call.symbol for call in made.program.calls},))
        written = driver.render("own", "own", (made.program,), kernels, made.plan, made.golden)
        sources += [re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL) for text in written.sources.values()]
        suffixes |= set(re.findall(r"\b(?:own|OWN)_(\w+)", written.sources["own.h"]))
    words = {word for text in sources for word in re.findall(r"[A-Za-z]\w+", text)}
    for library in Path("/lib").glob("*-linux-gnu/libc.so.6"):
        words |= {name.partition("@")[0] for _, name in nm(library, "-D", "--defined-only")}
    taken = {
        word[:at].lower()
        for word in words
        for at in (match.start() for match in re.finditer("_", word))
        if at > 0 and word[at + 1 :] in suffixes and not word.lower().startswith(("own_", "_"))
    }
    assert {"pool", "step"} <= taken
    assert taken <= names.TAKEN
    assert names.identifier("Pool") == "pool_"
    assert names.identifier("Int") == "int_"


def test_names_become_identifiers() -> None:
    assert names.identifier("MobileNet v2-1.0") == "mobilenet_v2_1_0"
    assert names.identifier("224net") == "m224net"
    assert names.c_names(["a.b", "a_b", "A-B", "float", "", "9"]) == {
        "a.b": "a_b", "a_b": "a_b_2", "A-B": "A_B_3", "float": "float_", "": "tensor", "9": "t9",
    }  # fmt: skip
    assert names.c_string('a"b\\?\né') == r'"a\042b\134\077\012\303\251"'
    assert "*/" not in names.c_comment("a */ b\n/* c")
    assert np.float32(float(names.c_float(0.1)[:-1])) == np.float32(0.1)


def test_golden_files_take_any_tensor_name(tmp_path: Path) -> None:
    arrays = {"file": np.arange(3), "a/b:0": np.ones((2, 2), np.float32)}
    (tmp_path / "x.npz").write_bytes(npz.encode(arrays))
    with np.load(tmp_path / "x.npz") as loaded:
        assert set(loaded) == set(arrays)
        np.testing.assert_array_equal(loaded["file"], arrays["file"])
    before = npz.encode(arrays)
    time.sleep(0.01)
    assert npz.encode(arrays) == before


def test_prefixing_keeps_the_object_and_renames_its_symbols(tmp_path: Path) -> None:
    code = compile_kernel(tmp_path, HOST, "edgec_bias_1")
    (tmp_path / "renamed.o").write_bytes(prefix_symbols(code, "net_"))
    assert ("T", "net_edgec_bias_1") in nm(tmp_path / "renamed.o")
    # Nothing is lost; that the code still links and runs is what every other test here shows.
    assert len(nm(tmp_path / "renamed.o")) == len(nm(tmp_path / "kernel.o"))
    with pytest.raises(ValueError, match="not a little-endian ELF"):
        prefix_symbols(b"!<arch>\n", "net_")

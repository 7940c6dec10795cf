"""Bundles for microcontrollers: what they need, where things lie, two toolchains, a board that runs them."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edgec.bench import devices
from edgec.bench.bundle import Bundle
from edgec.bench.devices import Execution
from edgec.compiler.emit import frames
from edgec.compiler.native import toolchain
from edgec.errors import ToolchainError
from edgec.kernels.codegen import elf
from edgec.targets import loader
from tests.compiler.building import build
from tests.compiler.emit.test_emit import STRICT, make, nm, write
from tests.conftest import board_of

M4 = loader.load("cortex-m4-int8")
CORES = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
EXAMPLE = Path(__file__).parents[3] / "examples" / "fmnist_dscnn.onnx"
GCC = "arm-none-eabi-gcc"
GCC_FLAGS = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    written = write(make(M4), tmp_path_factory.mktemp("tiny"))
    return Bundle.load(written.path)


def gcc(folder: Path, *arguments: str) -> str:
    """What the compiler of most firmware says; it must say nothing to a clean file."""
    if shutil.which(GCC) is None:
        pytest.skip("gcc-arm-none-eabi is not installed")
    done = subprocess.run([GCC, *GCC_FLAGS, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def unpacked(bundle: Bundle, folder: Path) -> Path:
    """The files that firmware takes, in one folder."""
    for file in bundle.manifest.files:
        if file.startswith(("include/", "lib/", "src/")):
            shutil.copy(bundle.file(file), folder)
    return folder


def test_a_bundle_is_a_library_and_an_image_for_the_board(tiny: Bundle) -> None:
    files = set(tiny.manifest.files)
    assert {"include/tiny.h", "lib/libtiny.a", "bin/tiny-bench", "src/tiny.c", "src/image.ld"} <= files
    assert not [file for file in files if file.endswith(".so") or "pool" in file]


def test_two_builds_are_identical(tiny: Bundle, tmp_path: Path) -> None:
    again = write(make(M4), tmp_path / "another folder")
    assert again.manifest == tiny.manifest
    for file in tiny.manifest.files:
        assert (again.path / file).read_bytes() == (tiny.path / file).read_bytes(), file


def test_the_library_needs_memset_alone(tiny: Bundle) -> None:
    symbols = nm(tiny.file("lib/libtiny.a"))
    defined = {name for kind, name in symbols if kind.isupper() and kind != "U"}
    assert {name for kind, name in symbols if kind == "U"} - defined == {"memset"}
    assert not [name for kind, name in symbols if kind in "bBCdD"]


def test_a_kernel_that_needs_more_fails_the_build_and_leaves_nothing(tmp_path: Path) -> None:
    body = "double expm1(double); (void)scratch; (void)begin; (void)end; y[0] = (float)expm1(x[0]);"
    with pytest.raises(ToolchainError, match=r"^libtiny\.a needs '__aeabi_d2f', which firmware") as error:
        write(make(M4), tmp_path / "made", bodies={"edgec_half_4": body})
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["objects"]


def test_functions_and_weights_have_sections_of_their_own(tiny: Bundle) -> None:
    said = subprocess.run(
        ["readelf", "-SW", str(tiny.file("lib/libtiny.a"))], capture_output=True, text=True, check=True
    ).stdout
    sections = {
        name: int(size, 16)
        for name, size in re.findall(r"\] (\.\S+) +\w+ +\w+ \w+ (\w+)", said)
        if int(size, 16)
    }
    assert sections[".rodata.tiny_weights"] == 16
    assert sections[".rodata.tiny_golden"] == 1024
    assert {".text.tiny_run", ".text.tiny_init", ".text.tiny_step_name"} <= sections.keys()
    assert ".text" not in sections
    assert not [name for name in sections if name.startswith((".data", ".debug", ".eh"))]


@pytest.mark.parametrize("language", [("-x", "c", "-std=c99"), ("-x", "c++", "-std=c++17", "-nostdinc++")])
def test_the_header_is_clean(tiny: Bundle, tmp_path: Path, language: tuple[str, ...]) -> None:
    (tmp_path / "use.c").write_text('#include "tiny.h"\nint main(void) { return TINY_OK; }\n')
    shutil.copy(tiny.file("include/tiny.h"), tmp_path)
    toolchain.zig(tmp_path, "cc", "-target", M4.c_target, "-ffreestanding", *language, *STRICT, "use.c")
    assert gcc(tmp_path, *language, *STRICT, "use.c") == ""


@pytest.mark.parametrize("source", ["tiny.c", "tiny_selftest.c", "tiny_bench.c", "startup.c"])
def test_the_sources_compile_without_a_warning(tiny: Bundle, tmp_path: Path, source: str) -> None:
    unpacked(tiny, tmp_path)
    assert gcc(tmp_path, "-std=gnu11", "-Os", *STRICT, source) == ""


MAIN = """
#include "tiny.h"
static uint8_t arena[TINY_ARENA_BYTES] __attribute__((aligned(TINY_ARENA_ALIGNMENT)));
static tiny_context context;
static int32_t classes[TINY_CLASS__SIZE];
static float probability[TINY_T1_PROB_SIZE];
const int8_t image[TINY_IMAGE_0_SIZE] = { 1 };
int main(void)
{
    const tiny_inputs in = { image };
    tiny_outputs out = { classes, probability };
    int ok = tiny_init(&context, arena, sizeof arena, 1) == TINY_OK;
    ok = ok && tiny_run(&context, &in, &out) == TINY_OK;
    tiny_close(&context);
    return ok;
}
"""
FIRMWARE_SCRIPT = """
MEMORY { FLASH (rx) : ORIGIN = 0, LENGTH = 64K
         EXTERNAL (r) : ORIGIN = 0x90000000, LENGTH = 1M
         RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 64K }
ENTRY(main)
SECTIONS { .weights : { *(.rodata.tiny_weights) } > EXTERNAL
           .text : { *(.text*) *(.rodata*) } > FLASH
           .bss : { *(.bss*) } > RAM
           /DISCARD/ : { *(.ARM.exidx*) } }
"""


def test_firmware_links_with_gcc_and_places_the_weights(tiny: Bundle, tmp_path: Path) -> None:
    unpacked(tiny, tmp_path)
    (tmp_path / "main.c").write_text(MAIN)
    (tmp_path / "firmware.ld").write_text(FIRMWARE_SCRIPT)
    # Objects of this very gcc say nothing of their stack, which its linker warns of.
    link = "-Wl,--gc-sections,--fatal-warnings,--no-warn-execstack,-T,firmware.ld,-Map,map"
    flags = ("-Os", "-nostartfiles", "--specs=nosys.specs", link)
    said = gcc(tmp_path, *flags, "main.c", "libtiny.a", "-o", "firmware.elf")
    assert said == ""
    symbols = subprocess.run(
        ["arm-none-eabi-nm", "firmware.elf"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    names = {line.split()[2]: int(line.split()[0], 16) for line in symbols.splitlines()}
    assert names["tiny_weights"] == 0x90000000
    assert "tiny_golden" not in names
    assert not {"tiny_selftest", "tiny_step_name", "malloc", "printf"} & names.keys()
    linked = (tmp_path / "map").read_text().partition("Linker script and memory map")[2]
    found = re.findall(r"^ \.(text|rodata)\S*\s+0x\S+ +(0x\S+) libtiny\.a", linked, re.MULTILINE)
    functions = sum(kind == "text" for kind, _ in found)
    unwinding = 8 * functions  # a table that says that nothing unwinds, which this script discards
    needed = tiny.memory.code_bytes + tiny.memory.weights_bytes
    assert sum(int(size, 16) for _, size in found) + unwinding == needed


def test_the_context_is_no_larger_than_what_is_kept_there(tiny: Bundle) -> None:
    header = tiny.file("include/tiny.h").read_text()
    assert "uint64_t storage[5];" in header  # 6 words, one input, two outputs
    assert "#define TINY_MAX_THREADS 1" in header
    assert "#define TINY_ARENA_ALIGNMENT 8" in header


def test_a_core_without_the_arithmetic_gets_it_with_the_library(tmp_path: Path) -> None:
    """Armv6-M has no product of 64 bits and no division: a library of the compiler's isn't asked for."""
    built = build(EXAMPLE, tmp_path, "cortex-m0plus-int8")
    symbols = nm(built.file("lib/libfmnist_dscnn.a"))
    defined = {name for kind, name in symbols if kind.isupper() and kind != "U"}
    assert {"__aeabi_lmul", "__muldi3", "__clzsi2"} <= defined
    assert {name for kind, name in symbols if kind == "U"} - defined <= {"memset", "memcpy"}


def test_code_for_armv6m_has_no_later_instruction(tmp_path: Path) -> None:
    """QEMU's M3, which stands in for the M0+, would execute it: of 32 bits there is `bl` alone here."""
    built = build(EXAMPLE, tmp_path, "cortex-m0plus-int8")
    toolchain.zig(tmp_path, "ar", "x", str(built.file("lib/libfmnist_dscnn.a")))
    functions = 0
    for file in tmp_path.glob("*.o"):
        for piece in elf.pieces(file.read_bytes()):
            if not piece.executable:
                continue
            functions += 1
            for first, second in frames.thumb_instructions(piece):
                assert first >> 11 < 0x1D or (first >> 11 == 0x1E and second & 0xD000 == 0xD000), piece.name
    assert functions > 10


# ---- In build systems

CMAKE = """
cmake_minimum_required(VERSION 3.13)
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
project(firmware C)
{how}
add_executable(firmware {bundle}/example/main.c)
target_compile_options(firmware PRIVATE -Wall -Wextra -Werror {flags})
target_link_options(firmware PRIVATE {flags} -nostartfiles --specs=nosys.specs)
target_link_libraries(firmware PRIVATE tiny::tiny)
"""


@pytest.mark.skipif(not shutil.which("cmake") or not shutil.which(GCC), reason="cmake or its gcc is missing")
@pytest.mark.parametrize(
    "how",
    [
        "add_subdirectory({bundle} tiny)",
        "find_package(tiny CONFIG REQUIRED PATHS {bundle} NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)",
    ],
)
def test_cmake_links_the_example(tiny: Bundle, tmp_path: Path, how: str) -> None:
    text = (tiny.path / "example" / "main.c").read_text()
    (flags,) = re.findall(r"arm-none-eabi-gcc (.*) -Iinclude", text)
    places = {"bundle": tiny.path.as_posix(), "flags": flags}
    (tmp_path / "CMakeLists.txt").write_text(CMAKE.format(how=how.format(**places), **places))
    for arguments in (["-S", ".", "-B", "build"], ["--build", "build"]):
        done = subprocess.run(["cmake", *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    symbols = nm(tmp_path / "build" / "firmware")
    assert {"tiny_run", "tiny_weights"} <= {name for _, name in symbols}


def test_the_example_is_clean(tiny: Bundle, tmp_path: Path) -> None:
    unpacked(tiny, tmp_path)
    shutil.copy(tiny.file("example/main.c"), tmp_path)
    assert gcc(tmp_path, "-std=c99", *STRICT, "main.c") == ""
    toolchain.zig(tmp_path, "cc", "-target", M4.c_target, "-std=c99", "-ffreestanding", *STRICT, "main.c")


def test_zephyr_and_arduino_find_what_they_look_for(tiny: Bundle) -> None:
    files = tiny.manifest.files
    assert files["arduino/src/tiny.h"] == files["include/tiny.h"]
    assert files["arduino/src/cortex-m4/libtiny.a"] == files["lib/libtiny.a"]
    assert "precompiled=true\nldflags=-ltiny\n" in tiny.file("arduino/library.properties").read_text()
    assert tiny.file("zephyr/module.yml").read_text().endswith("name: tiny\nbuild:\n  cmake: zephyr\n")
    assert "/../lib/libtiny.a)" in tiny.file("zephyr/CMakeLists.txt").read_text()


def test_a_cmsis_pack_lists_what_firmware_takes(tiny: Bundle) -> None:
    """As written down in tiny.pdsc, which PACK.xsd 1.7.60 of the specification validates."""
    text = tiny.file("edgec.tiny.pdsc").read_text()
    assert text == (Path(__file__).parent / "tiny.pdsc").read_text()
    root = ElementTree.fromstring(text)
    named = [file.attrib["name"] for file in root.iter("file")]
    assert named == ["include/tiny.h", "lib/libtiny.a", "example/main.c"]
    assert set(named) <= set(tiny.manifest.files)


@pytest.mark.parametrize(
    ("core", "condition"),
    [
        ("cortex-m0plus", [("accept", {"Dcore": "Cortex-M0+"})]),
        (
            "cortex-m55",
            [
                ("accept", {"Dcore": "Cortex-M55", "Dfpu": "SP_FPU"}),
                ("accept", {"Dcore": "Cortex-M55", "Dfpu": "DP_FPU"}),
                ("require", {"Ddsp": "DSP"}),
                ("require", {"Dmve": "FP_MVE"}),
            ],
        ),
        ("riscv32", None),
    ],
)
def test_a_cmsis_pack_is_for_the_very_core(
    tmp_path: Path, core: str, condition: list[tuple[str, dict[str, str]]] | None
) -> None:
    built = build(EXAMPLE, tmp_path, f"{core}-int8")
    file = "edgec.fmnist_dscnn.pdsc"
    assert (file in built.manifest.files) == (condition is not None)
    if condition is not None:
        found = ElementTree.fromstring(built.file(file).read_text()).find("conditions/condition")
        assert found is not None
        assert [(rule.tag, rule.attrib) for rule in found if rule.tag != "description"] == condition


# ---- On the board


def execute(bundle: Bundle, *arguments: str, program: Path | None = None) -> Execution:
    return devices.connect("emulator", bundle.described(None)).execute(program or bundle.bench, arguments)


@pytest.mark.usefixtures("board_emulator")
@pytest.mark.parametrize("core", CORES)
def test_the_self_test_passes_on_every_core(tmp_path: Path, core: str) -> None:
    built = Bundle.load(write(make(loader.load(f"{core}-int8")), tmp_path).path)
    done = execute(built, "--selftest", "--markers")
    said = json.loads(done.stdout)
    assert (done.returncode, said["selftest"], said["steps_checked"], said["level"]) == (0, "ok", 3, core)
    assert said["arena_bytes_touched"] <= said["arena_bytes"] == 2112
    assert 0 < said["stack_bytes"] < 300


@pytest.mark.usefixtures("board_emulator")
def test_one_flipped_bit_of_the_weights_is_told_by_the_first_layer_that_reads_it(
    tiny: Bundle, tmp_path: Path
) -> None:
    image = bytearray(tiny.bench.read_bytes())
    bias = make(M4).program.constants["bias"].tobytes()
    assert image.count(bias) == 1
    image[image.index(bias) + 5] ^= 0x10
    changed = tmp_path / "changed"
    changed.write_bytes(image)
    done = execute(tiny, "--selftest", program=changed)
    said = json.loads(done.stdout)
    assert done.returncode == 1
    assert (said["selftest"], said["step"], said["layer"]) == ("differs", 0, "stem/bias")
    assert said["expected"] != said["computed"]


@pytest.mark.usefixtures("board_emulator")
@pytest.mark.parametrize(
    ("body", "finding"),
    [
        ("y[begin * 16] = 0;", "differs"),
        ("y[2112 + begin] = x[0];", "overrun"),  # y lies at the start of the arena
    ],
)
def test_a_wrong_kernel_is_found(tmp_path: Path, body: str, finding: str) -> None:
    wrong = {"edgec_bias_1": f"(void)scratch; (void)bias; (void)end; (void)x; {body}"}
    built = Bundle.load(write(make(M4), tmp_path, bodies=wrong).path)
    done = execute(built, "--selftest")
    said = json.loads(done.stdout)
    assert done.returncode == 1
    assert (said["selftest"], said["layer"]) == (finding, "stem/bias")


@pytest.mark.usefixtures("board_emulator")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--inptu", "a"], "unknown option, or no value for it: --inptu"),
        (["--input"], "no value for it: --input"),
        (["--output", "a"], "--output needs --input"),
        (["--level", "cortex-m7"], "there is no level cortex-m7"),
        (["--input", "nothing.bin"], "can't open nothing.bin"),
    ],
)
def test_a_wrong_call_is_one_line(tiny: Bundle, arguments: list[str], words: str) -> None:
    done = execute(tiny, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("tiny-bench: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("board_emulator")
def test_an_exception_of_the_core_ends_the_run(tmp_path: Path) -> None:
    body = '(void)scratch; (void)x; (void)bias; (void)y; (void)begin; (void)end; __asm__ volatile("udf #0");'
    built = Bundle.load(write(make(M4), tmp_path, bodies={"edgec_bias_1": body}).path)
    done = execute(built, "--selftest")
    assert (done.returncode, done.stderr) == (3, "fault: the core took an exception\n")


def test_so_does_one_of_riscv(tmp_path: Path) -> None:
    board_of("riscv32")
    built = build(EXAMPLE, tmp_path, "riscv32-int8")
    image, mark = bytearray(built.bench.read_bytes()), bytes.fromhex("13200007")  # slti zero, zero, 112
    assert image.count(mark) == 1
    at = image.index(mark)
    image[at : at + 4] = bytes(4)  # no instruction
    changed = tmp_path / "changed"
    changed.write_bytes(image)
    done = execute(built, "--markers", program=changed)
    assert (done.returncode, done.stderr) == (3, "fault: the core took an exception\n")

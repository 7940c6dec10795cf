"""Modelled cycles: LLVM's scheduling model of a CPU applied to the blocks that an emulator counted.

Every block of instructions is given to llvm-mca as a loop of its own; what it takes there is weighed by how
often the block was executed. Caches, branch predictors and what overlaps between blocks are not in the model,
and it is not calibrated against silicon: such cycles compare code with code, and say nothing of milliseconds.
"""

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgec.bench.measure.instructions import Block, Region
from edgec.errors import DeviceError
from edgec.targets.architectures import Arch
from edgec.targets.descriptor import Target

ITERATIONS = 100
"""How often each block is modelled in a row: filling and draining the pipeline then weighs little."""
OLDEST_LLVM = 19
"""Models change between versions; this one has those of all our devices."""
DEEPEST_ATTRIBUTES = "+mve.fp,+fp64,+dsp,+lob"
"""With which LLVM knows every instruction of an M-profile core, whatever the target has."""
_LOOPS = re.compile(r"(dls|dlstp|wls|wlstp|le|letp)[.\t ]")
"""Low-overhead loops, which no model has and which cost next to nothing: a `nop` stands for each."""
MODELS = {
    "cortex-a76": "neoverse-n1",
    "max": "neoverse-n2",
    "cortex-m0plus": "cortex-m3",
    "generic-rv32": "sifive-e31",
}
"""CPU -> the one whose scheduling model stands in: the A76's server twin, a core with every extension, the
nearest small one."""


def model_of(target: Target) -> str:
    """Return which model `target` has, for reports; raises DeviceError where llvm-mca isn't installed."""
    return f"{_cpu(target)} in LLVM {_version(_newest('llvm-mca'))}"


def installed() -> bool:
    """Whether llvm-mca is there."""
    try:
        _newest("llvm-mca")
    except DeviceError:
        return False
    return True


def model_cycles(
    regions: Sequence[Region], target: Target, cycles: dict[Block, float] | None = None
) -> tuple[float, ...]:
    """Return the modelled cycles of each region; raises DeviceError where llvm-mca isn't installed.

    `cycles` has those of blocks that were modelled before for this target, and gets those of new ones.
    """
    cycles = {} if cycles is None else cycles
    blocks = list(
        dict.fromkeys(block for region in regions for block in region.blocks if block not in cycles)
    )
    cycles |= zip(blocks, _of_blocks(blocks, target), strict=True)
    return tuple(sum(cycles[block] * times for block, times in region.blocks.items()) for region in regions)


def _cpu(target: Target) -> str:
    """Return LLVM's name of the CPU whose scheduling model is used; a generic one is what is emulated."""
    cpu = target.emulator.cpu if target.cpu == "generic" and target.emulator else target.cpu
    if cpu == "cortex-a76" and "i8mm" in target.features:  # a level of bundles, and no core: the A76 has none
        cpu = "max"
    return MODELS.get(cpu, cpu)


def _of_blocks(blocks: Sequence[Block], target: Target) -> list[float]:
    """Return the cycles of one execution of each block."""
    if not blocks:
        return []
    text = _disassembled({encoding for block in blocks for encoding in block}, target)
    mark, start = ("@", [".syntax unified"]) if target.arch == "arm-m" else ("#", [])
    features = ["all"] if target.platform.tells_features else sorted(target.features)
    attributes = ",".join(f"+{feature}" for feature in features)
    lines = list(start)
    for index, block in enumerate(blocks):
        code = (text[encoding] for encoding in block)
        lines += [f"{mark} LLVM-MCA-BEGIN {index}", *code, f"{mark} LLVM-MCA-END"]
    found = json.loads(
        _run(
            "llvm-mca",
            "\n".join([*lines, ""]),  # LLVM 19 cuts a RISC-V comment that ends the file
            f"-mtriple={target.triple}",
            f"-mcpu={_cpu(target)}",
            f"-mattr={attributes}",
            f"-iterations={ITERATIONS}",
            "-json",
        )
    )
    return [region["SummaryView"]["TotalCycles"] / ITERATIONS for region in found["CodeRegions"]]


def _disassembled(encodings: Iterable[int], target: Target) -> dict[int, str]:
    """Return the assembly text of each instruction; of one that LLVM doesn't know, that of a `nop`.

    So are those that make the next ones conditional, which cost as much as they do without.
    """
    is_thumb = target.arch == "arm-m"
    triple, attributes = {
        "arm-m": ("thumbv8.1m.main", DEEPEST_ATTRIBUTES),
        "riscv32": (target.triple, "+m,+a,+c"),
    }.get(target.arch, (target.triple, "+all"))
    found = dict.fromkeys(sorted(encodings), "nop")
    written = {
        ",".join(f"0x{byte:02x}" for byte in _bytes(code, target.arch)): code
        for code in found
        if not (is_thumb and _predicates(code))
    }
    said = _run(
        "llvm-mc",
        "\n".join(code.replace(",", " ") for code in written),
        "-disassemble",
        "-show-encoding",
        f"-triple={triple}",
        f"-mattr={attributes}",
    )
    lines = re.findall(r"^\s*(\S.*?)\s*(?://|@|#) encoding: \[([0-9a-fx,]+)\]", said, re.MULTILINE)
    return found | {written[encoding]: text for text, encoding in lines if not _LOOPS.match(text)}


def _bytes(code: int, arch: Arch) -> bytes:
    """Return an encoding as it lies in memory."""
    if arch != "arm-m":
        return code.to_bytes(2 if arch == "riscv32" and code & 3 != 3 else 4, "little")
    return b"".join(half.to_bytes(2, "little") for half in (code >> 16, code & 0xFFFF) if half or code >> 16)


def _predicates(code: int) -> bool:
    """Whether it is `it`, `vpt` or `vpst`: the next instructions' conditions."""
    is_it = code >> 8 == 0xBF and code & 15 != 0
    # vpt and vpst: 1111 1110 0 M 11 ... 1 1111; a comparison has no mask (DDI 0553, C2.4).
    masked = code >> 16 & 0x40 or code >> 13 & 7
    return is_it or (code & 0xFF800F00 == 0xFE000F00 and bool(masked))


def _run(program: str, text: str, *arguments: str) -> str:
    command = [_newest(program), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, encoding="utf-8")
    if done.returncode != 0:
        said = [
            " ".join(line.split()) for line in done.stderr.splitlines() if re.match(r"error:|note: in", line)
        ]
        raise DeviceError(f"{command[0]}: {'; '.join(said[:2]) or f'exit code {done.returncode}'}")
    return done.stdout


@functools.cache
def _newest(program: str) -> str:
    """Return the newest `program` or `program-<version>` on PATH; raises DeviceError where there is none."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    names = {file.name for folder in folders if folder.is_dir() for file in folder.glob(f"{program}*")}
    found = {_version(name): name for name in names if re.fullmatch(rf"{program}(-\d+)?", name)}
    if not found or max(found) < OLDEST_LLVM:
        package = f"llvm-{OLDEST_LLVM}"
        raise DeviceError(f"{program} {OLDEST_LLVM} or later is not installed: sudo apt install {package}")
    return found[max(found)]


def _version(name: str) -> int:
    """Return the major version of an LLVM program on PATH, 0 if it can't be run."""
    path = shutil.which(name)
    said = subprocess.run([path, "--version"], capture_output=True, encoding="utf-8").stdout if path else ""
    version = re.search(r"version (\d+)", said)
    return int(version[1]) if version else 0

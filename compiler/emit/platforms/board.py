"""What makes an image of a bundle's bench program: start-up code, linker script, files by semihosting."""

import jinja2

from edgec.compiler.emit.runtime import runtime
from edgec.targets.descriptor import Board, Target

SCRIPT = "image.ld"
STARTUP = "startup.c"
STACK_BYTES = 16384
"""Stack of the bench image; a model's own is measured in it, and is far smaller."""


def board_sources(target: Target, identifier: str, arrays_bytes: int) -> dict[str, str]:
    """Return the C files and the linker script by name; none for a target that no board stands in for.

    Weights and golden inputs that would take more than half of the board's flash, `arrays_bytes`, are loaded
    into its RAM instead.
    """
    if not isinstance(target.emulator, Board):
        return {}
    board = target.emulator
    script = jinja2.Template(runtime(f"{SCRIPT}.jinja"), keep_trailing_newline=True)
    places = {
        "name": identifier,
        "machine": board.machine,
        "flash": board.flash,
        "ram": board.ram,
        "stack_bytes": STACK_BYTES,
        "arrays_memory": "FLASH" if arrays_bytes <= board.flash[1] // 2 else "RAM",
    }
    names = {name: name for name in (STARTUP, "host.h", "semihosting.h", "serial.h")}
    core = target.arch.replace("-", "_")
    names |= {"core.h": f"core_{core}.h", "vectors.h": f"vectors_{core}.h"}
    texts = {name: runtime(file) for name, file in names.items()}
    return texts | {SCRIPT: script.render(places)}

"""The list of models that are refused, and what a refusal has to look like."""

import re
from pathlib import Path

import onnx

from tests.backend.verdicts import REFUSED, Verdict

PATH = Path(__file__).with_name("refused.txt")

_FOREIGN = re.compile(
    r"\b(relax|tvm|llvm|zig|tirx?|te|primfunc|irmodule|onnx_ir|onnxscript)\b", re.IGNORECASE
)
"""What a user of ONNX need not know."""
_NAMES = re.compile(r"--shape|\b(node|input|inputs|output|outputs|initializer|value|opset|function)\b")
"""What a reason is about."""
_LONGEST = 1000


def fault(reason: str) -> str | None:
    """Return what is wrong with a refusal's text, None for nothing."""
    if found := _FOREIGN.search(reason):
        return f"has the word {found[0]}"
    if "\n" in reason or not reason.isprintable():
        return "isn't one line"
    if not _NAMES.search(reason):
        return "names no node, input or output"
    if len(reason) > _LONGEST:
        return f"is {len(reason)} characters long"
    return None


def listed() -> tuple[str, dict[str, str]]:
    """Return the version of onnx whose models the list is of, and the reason for each model in it."""
    first, *lines = PATH.read_text(encoding="utf-8").splitlines()
    return first.removeprefix("# onnx "), dict(line.split(": ", 1) for line in lines)


def write(verdicts: list[Verdict]) -> None:
    """Replace the list."""
    lines = sorted(f"{v.name}: {v.text}" for v in verdicts if v.kind == REFUSED)
    PATH.write_text("\n".join([f"# onnx {onnx.__version__}", *lines, ""]), encoding="utf-8")

"""What of a bundle is compared with golden files: every text that edgec writes for a user to read or link."""

import difflib
import json
import re
from pathlib import Path
from typing import Any

from edgec.bench.bundle import Bundle

GOLDEN = Path(__file__).parent
_RUNTIME = Path(__file__).parents[2] / "kernels" / "runtime"
_COMPILED = ("bin/", "lib/", "golden/", "arduino/src/")
"""Folders of machine code, of arrays, and of copies of both."""
_MEASURED = ("code_bytes", "stack_bytes")
"""Of machine code, which is another with every version of a compiler."""
_HASH = re.compile(r"\b[0-9a-f]{64}\b")
_KEY = re.compile(r"(?<=_)[0-9a-f]{12}\b")
"""The end of a kernel's symbol: of its code, not of what is emitted around it."""


def texts(bundle: Bundle) -> dict[str, str]:
    """What is compared, by name, as `plain` has it; files that are copied from kernels/runtime are not."""
    copied = {path.read_bytes() for path in _RUNTIME.glob("*.[ch]")}
    found = {}
    for name in bundle.manifest.files:
        if name.startswith(_COMPILED) or name.endswith(("_bench.c", ".onnx")):
            continue
        content = bundle.file(name).read_bytes()
        if content not in copied:
            found[name] = plain(content.decode())
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    found["manifest.json"] = plain(json.dumps(_without_measures(manifest), indent=1) + "\n")
    return found


def plain(text: str) -> str:
    """A text with hashes cut, and the ends of symbols numbered in the order in which they come."""
    keys = list(dict.fromkeys(_KEY.findall(text)))
    text = _KEY.sub(lambda found: f"key{keys.index(found[0]) + 1}", text)
    return _HASH.sub("sha256", text)


def _without_measures(value: Any) -> Any:
    """A manifest without what another machine or version may say otherwise; lists of numbers on one line."""
    if isinstance(value, dict):
        if set(value) >= {"edgec", "tvm"}:
            return dict.fromkeys(value, "version")
        return {k: "measured" if k in _MEASURED else _without_measures(v) for k, v in value.items()}
    if isinstance(value, list):
        numbers = value and all(isinstance(item, int) for item in value)
        return " ".join(map(str, value)) if numbers else [_without_measures(item) for item in value]
    return value


def update(folder: Path, found: dict[str, str]) -> None:
    """Make the golden files of one platform those that were found."""
    for path in golden_files(folder):
        path.unlink()
    for name, text in found.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def golden_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def difference(folder: Path, found: dict[str, str]) -> str:
    """What `diff -u` would say of the golden files and those found; empty where they are equal."""
    wanted = {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in golden_files(folder)}
    lines: list[str] = []
    for name in sorted(wanted.keys() | found.keys()):
        both = (text.get(name, "").splitlines() for text in (wanted, found))
        names = f"golden/{folder.name}/{name}", f"emitted/{name}"
        lines += difflib.unified_diff(*both, *names, lineterm="", n=2)
    return "\n".join(lines)

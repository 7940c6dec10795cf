"""Machine code of the layers that edgec ships tuning records for: those of the eight networks of the README.

    python -m tests.compiler.records.shipped_code          # compiles all and compares with shipped_code.txt
    python -m tests.compiler.records.shipped_code --write  # writes it anew, where kernels were to change
    python -m tests.compiler.records.shipped_code --stamp  # where all is equal, records are today's

A record's signature holds all that a layer's code depends on, but for numbers that are drawn here from a
fixed seed; so a layer can be had from it without the network.
"""

import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgec.compiler.records import records
from edgec.compiler.records.records import Record, Records, choice_version, cpu_class, encode, shipped
from edgec.kernels import operations
from edgec.kernels.codegen.native import compile_object
from edgec.kernels.operations import FREE, Binary, Conv2d, Operation, Operator
from edgec.kernels.table import candidates
from edgec.targets import loader
from edgec.targets.descriptor import Target

FILE = Path(__file__).with_suffix(".txt")
"""A hash per record, in the records' order."""
SHIPPED = Path(records.__file__).with_name("shipped.jsonl")
DEVICES = ("x86-64-v3", "x86-64-v4")

_TOKEN = re.compile(r"\w+(?=\()|\w+(?==)|\w+\[[\d,]*\]|[\w.-]+|[()\[\],=]")


def layer_of(signature: str) -> Operator:
    """Return a layer with this signature."""
    text, _, demanded = signature.partition(" Demands")
    operation, _, small = text.partition(" small weights")
    assert not small, f"{signature}: classes of weights that nothing here draws"
    made = _read(operation)(" small weights" in text)
    demands = _read(f"Demands{demanded}")(False) if demanded else FREE
    assert isinstance(made, Operation)
    return Operator("layer", made, (), (), demands)


def _read(text: str) -> Callable[[bool], Any]:
    tokens = iter(_TOKEN.findall(text))
    return _value(next(tokens), tokens)


def _value(token: str, tokens: Iterator[str]) -> Callable[[bool], Any]:
    """Read one value; returns what makes it, as weights are drawn when it is known whether they are small."""
    if token == "[":
        items = []
        while (token := next(tokens)) != "]":
            if token != ",":
                items.append(_value(token, tokens))
        return lambda small: tuple(item(small) for item in items)
    if found := re.fullmatch(r"(\w+)\[([\d,]*)\]", token):
        shape = tuple(map(int, found[2].split(",")))
        return lambda small: _drawn(found[1], shape, small)
    if hasattr(operations, token):
        assert next(tokens) == "("
        fields = {}
        while (name := next(tokens)) != ")":
            assert next(tokens) == "="
            fields[name] = _value(next(tokens), tokens)
        return lambda small: _operation(token, {name: make(small) for name, make in fields.items()})
    literals = {"None": None, "True": True, "False": False}
    if token in literals:
        return lambda _small: literals[token]
    return lambda _small: int(token) if re.fullmatch(r"-?\d+", token) else token


def _drawn(dtype: str, shape: tuple[int, ...], small: bool) -> np.ndarray:
    """Few are large, as in trained layers, so that Winograd's sums fit; two are, where they may be."""
    made = np.random.default_rng(0).integers(-31, 32, shape).astype(dtype)
    if not small:
        made.reshape(len(made), -1)[0, :2] = 127
    return made


def _operation(name: str, fields: dict[str, Any]) -> Any:
    kind = getattr(operations, name)
    if kind is Conv2d:
        outputs = len(fields["weights"])
        factors = np.full(outputs, 2.0**-12, np.float32)
        fields |= {"bias": np.arange(outputs, dtype=np.int32), "multiplier": factors}
        fields |= {"input_zero_point": -3, "output_zero_point": 5, "low": -128, "high": 127}
    if kind is Binary:
        fields |= {"zero_points": (5, -7), "factors": (0.5, 0.25), "output_zero_point": 1}
        fields |= {"low": -128, "high": 127}
    if name == "Lookup":
        fields |= {"table": _drawn("int8", (256,), False)}
    return kind(**fields)


@cache
def levels() -> tuple[Target, ...]:
    """Instruction-set levels that records are for."""
    return tuple(level for device in DEVICES for level in loader.load(f"{device}-int8").levels)


def layer(record: Record) -> tuple[Operator, Target]:
    """Return the layer that a record is of, and what it runs on."""
    made = layer_of(record.operation)
    return made, next(level for level in levels() if cpu_class(made.operation, level) == record.target)


def stamped_anew(record: Record) -> Record:
    """Return the record as one of today's kernels."""
    made, target = layer(record)
    return replace(record, version=choice_version(made.operation, target))


def hashed(record: Record) -> str:
    """Return a hash of the machine code that a record chooses."""
    made, target = layer(record)
    code = next(
        code
        for kernel, code in candidates(made.operation, target, made.demands)
        if (kernel.name, code.configuration) == (record.kernel, record.configuration)
    )
    return hashlib.sha256(compile_object(code.make(), "layer", target)).hexdigest()[:16]


def all_hashed(chosen: Iterable[Record]) -> list[str]:
    """Compile on every core: TVM lets go of Python's lock."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(hashed, chosen))


def main() -> None:
    """Compare or write; what was measured of the same machine code holds, however it is written."""
    found = all_hashed(shipped().entries.values())
    if "--write" in sys.argv:
        FILE.write_text("".join(f"{one}\n" for one in found))
        return
    differing = [
        record.operation
        for record, one, pinned in zip(
            shipped().entries.values(), found, FILE.read_text().split(), strict=True
        )
        if one != pinned
    ]
    print(f"{len(found) - len(differing)} of {len(found)} layers have the machine code that is pinned")
    if "--stamp" in sys.argv and not differing:
        stamped = Records.of(map(stamped_anew, shipped().entries.values()))
        SHIPPED.write_bytes(encode(stamped))
    sys.exit("\n".join(differing) or 0)


if __name__ == "__main__":
    main()

"""What a bench program says: one JSON object, believed no more than any input."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from edgec.bench.devices import Execution
from edgec.errors import DeviceError

Expectation = Callable[[object], str | None]
"""Returns what a value should have been, or None where it is that."""

_LARGEST = 2**63 - 1
"""C's long long."""


def said(execution: Execution, **expected: Expectation) -> dict[str, Any]:
    """Return what a program says on stdout; raises DeviceError where it isn't JSON with what is expected."""
    problem, answer = "nothing", None
    if execution.stdout.strip():
        problem = "no JSON object"
        try:
            answer = json.loads(execution.stdout)
        except (ValueError, RecursionError):
            answer = None
    if isinstance(answer, dict):
        found = (_wrong(answer, key, expectation) for key, expectation in expected.items())
        problem = next((text for text in found if text), "")
        if not problem:
            return answer
    where = f"'{execution.device}': the bench program says {problem}"
    raise DeviceError(f"{where}: it isn't that of this bundle, or the device fails")


def text(value: object) -> str | None:
    """Expect a string."""
    return None if isinstance(value, str) else "a text"


def count(value: object) -> str | None:
    """Expect a whole number from 0 on."""
    return None if type(value) is int and 0 <= value <= _LARGEST else "a whole number"


def counts(number: int, least: int = 0) -> Expectation:
    """Expect so many whole numbers, none below `least`."""

    def expectation(value: Any) -> str | None:
        right = isinstance(value, list) and len(value) == number
        if right and all(count(each) is None and each >= least for each in value):
            return None
        return f"{number} whole numbers" + (f" from {least} on" if least else "")

    return expectation


def one_of(*words: str) -> Expectation:
    """Expect one of these strings."""

    def expectation(value: object) -> str | None:
        return (
            None if isinstance(value, str) and value in words else " or ".join(f"'{word}'" for word in words)
        )

    return expectation


def missing_of(levels: Mapping[str, Any]) -> Expectation:
    """Expect each of the levels, in order, with the feature that is missing of it, or null."""

    def expectation(value: object) -> str | None:
        rows = value if isinstance(value, list) and all(isinstance(row, dict) for row in value) else []
        named = [row.get("name") for row in rows] == list(levels)
        if named and all("missing" in row and isinstance(row["missing"], str | None) for row in rows):
            return None
        return f"the levels {', '.join(levels)}"

    return expectation


def _wrong(answer: Mapping[str, Any], key: str, expectation: Expectation) -> str | None:
    if key not in answer:
        return f"no '{key}'"
    wanted = expectation(answer[key])
    return f"something else as '{key}' than {wanted}" if wanted else None

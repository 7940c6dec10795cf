"""JSON by dataclasses: values to plain data and back. What doesn't fit its type is refused with its place.

A kind is what a place of the data holds: a dataclass (an object of exactly its fields), a mapping of names to
kinds (an object of exactly those), `Mapping[str, kind]` (any names), `tuple[kind, ...]` (a list),
`frozenset[str]` (a sorted list), `Literal`, `str`, `int`, `float`, `bool`, a union of these, or one of them
`Annotated` with `Limits`.
"""

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

LARGEST = 2**53 - 1
"""The largest whole number that every reader of JSON keeps as it is."""


@dataclass(frozen=True)
class Limits:
    """What a number, text or list may be besides its type. Whole numbers without one are 0 to LARGEST."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    """What a number must be larger than."""
    pattern: str | None = None
    """What the whole of a text must match."""
    longest: int | None = None
    """Characters of a text, or elements of a list."""
    shortest: int | None = None


COUNT = Limits(0, LARGEST)
FREE = Limits()


class UnfitError(ValueError):
    """Data that aren't of their kind: where, as `memory/arena_bytes`, and what is wrong there."""


@dataclass(frozen=True)
class TypedJson:
    """How dataclasses are written and read."""

    derived: Mapping[type, Sequence[str]]
    """Properties of dataclasses that are written beside their fields; reading checks that they still hold."""

    def plain(self, value: Any) -> Any:
        """Return a value as JSON has it."""
        if is_dataclass(value) and not isinstance(value, type):
            return {name: self.plain(getattr(value, name)) for name in self.members(type(value))}
        if isinstance(value, Mapping):
            return {key: self.plain(item) for key, item in value.items()}
        if isinstance(value, frozenset):
            return sorted(value)
        return [self.plain(item) for item in value] if isinstance(value, tuple | list) else value

    def members(self, kind: Any) -> Mapping[str, Any]:
        """Return what an object of a kind, a dataclass or a mapping of kinds, consists of: kinds by name."""
        if isinstance(kind, Mapping):
            return kind
        return hints(kind) | dict.fromkeys(self.derived.get(kind, ()), str)

    def read(self, kind: Any, data: Any, where: str = "") -> Any:
        """Return the value of a kind that `data` is; raises UnfitError."""
        kind, limits = limited(kind)
        if isinstance(kind, Mapping) or is_dataclass(kind):
            return self._object(kind, data, where)
        origin = get_origin(kind)
        if origin in (Union, UnionType):
            return self.read(self._chosen(get_args(kind), data, limits, where), data, where)
        if origin is Literal:
            if not isinstance(data, str) or data not in get_args(kind):
                raise _unfit(where, data, f"isn't one of {', '.join(get_args(kind))}")
            return data
        if origin in (tuple, frozenset):
            return origin(self._list(get_args(kind), data, limits, where))
        if isinstance(origin, type) and issubclass(origin, Mapping):
            if not isinstance(data, dict):
                raise _unfit(where, data, "is no object")
            return {name: self.read(get_args(kind)[1], item, _in(where, name)) for name, item in data.items()}
        return _scalar(kind, data, limits, where)

    def _object(self, kind: Any, data: Any, where: str) -> Any:
        members, derived = self.members(kind), () if isinstance(kind, Mapping) else self.derived.get(kind, ())
        if not isinstance(data, dict):
            raise _unfit(where, data, "is no object")
        if lacking := [name for name in members if name not in data]:
            raise UnfitError(f"{_in(where, lacking[0])}: it is missing")
        if strange := [name for name in data if name not in members]:
            raise UnfitError(f"{_in(where, reprlib.repr(strange[0]))}: nothing is called so there")
        values = {name: self.read(member, data[name], _in(where, name)) for name, member in members.items()}
        given = {name: values.pop(name) for name in derived}
        made = values if isinstance(kind, Mapping) else kind(**values)
        for name, said in given.items():
            if said != getattr(made, name):
                raise _unfit(_in(where, name), said, f"isn't '{getattr(made, name)}'")
        return made

    def _list(self, kinds: tuple[Any, ...], data: Any, limits: Limits, where: str) -> list[Any]:
        if not isinstance(data, list):
            raise _unfit(where, data, "is no list")
        open_ended = len(kinds) == 1 or kinds[1] is ...
        if not open_ended and len(data) != len(kinds):
            raise UnfitError(f"{where}: {len(data)} elements in place of {len(kinds)}")
        _check_length(data, "elements", limits, where)
        each = [kinds[0]] * len(data) if open_ended else kinds
        return [
            self.read(kind, item, _in(where, index))
            for index, (kind, item) in enumerate(zip(each, data, strict=True))
        ]

    def _chosen(self, kinds: tuple[Any, ...], data: Any, limits: Limits, where: str) -> Any:
        """Return which of the kinds `data` is to be: null, the one left, or the object with those members."""
        if NoneType in kinds and data is None:
            return NoneType
        left = [kind for kind in kinds if kind is not NoneType]
        if len(left) > 1 and isinstance(data, dict):
            left = [kind for kind in left if self.members(kind).keys() == data.keys()]
        if len(left) != 1:
            raise _unfit(where, data, "is none of what may be there")
        return Annotated[left[0], limits] if limits != FREE else left[0]


def limited(kind: Any) -> tuple[Any, Limits]:
    """Return a kind without what it is annotated with, and its limits."""
    if get_origin(kind) is not Annotated:
        return kind, COUNT if kind is int else FREE
    bare, *extras = get_args(kind)
    return bare, next((extra for extra in extras if isinstance(extra, Limits)), limited(bare)[1])


@cache
def hints(kind: type) -> dict[str, Any]:
    """Return the kinds of a dataclass's fields by name."""
    found = get_type_hints(kind, include_extras=True)
    return {field.name: found[field.name] for field in fields(kind)}


def _scalar(kind: Any, data: Any, limits: Limits, where: str) -> Any:
    # True is no number, and 1.0 no whole one where a shape is made of it.
    types = {int: (int,), float: (int, float)}.get(kind, (kind,))
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", NoneType: "null"}
    if type(data) not in types or (kind is float and not math.isfinite(data)):
        raise _unfit(where, data, f"is no {names[kind]}")
    if kind is str:
        _check_length(data, "characters", limits, where)
        if limits.pattern is not None and not _matches(limits.pattern, data):
            raise _unfit(where, data, f"doesn't match {limits.pattern}")
    elif limits.least is not None and data < limits.least:
        raise _unfit(where, data, f"is less than {limits.least}")
    elif limits.most is not None and data > limits.most:
        raise _unfit(where, data, f"is more than {limits.most}")
    elif limits.above is not None and data <= limits.above:
        raise _unfit(where, data, f"isn't more than {limits.above}")
    return data


def _matches(pattern: str, text: str) -> bool:
    import re

    return re.fullmatch(pattern, text) is not None


def _check_length(data: Sequence[Any], what: str, limits: Limits, where: str) -> None:
    if limits.longest is not None and len(data) > limits.longest:
        raise UnfitError(f"{where}: more than {limits.longest} {what}")
    if limits.shortest is not None and len(data) < limits.shortest:
        raise UnfitError(f"{where}: fewer than {limits.shortest} {what}")


def _in(where: str, part: object) -> str:
    return f"{where}/{part}" if where else str(part)


def _unfit(where: str, data: Any, what: str) -> UnfitError:
    return UnfitError(f"{where}: {reprlib.repr(data)} {what}" if where else f"{reprlib.repr(data)} {what}")

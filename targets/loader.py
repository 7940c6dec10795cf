"""Targets by name: `<device>-<precision>`, the device a TOML file here, `host`, or the path of a TOML file.

    rpi5-int8    host-fp32    boards/mine.toml-int8

A file's keys are the fields of `Target`, with the emulator as a table. `base` names the device (or the path,
from the file's own folder) that it starts from: its keys replace the base's, key by key in `[emulator]`
too, and its features are added to the base's. `variants` isn't taken over: one that starts from a base is one
certain device. It names devices (or paths, from the file's own folder) with more features than its own, best
first, that bundles carry code for besides.
"""

import os
import re
import reprlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from edgec import files
from edgec.errors import TargetError, printable
from edgec.targets import detect, platforms
from edgec.targets.architectures import ARCHITECTURES
from edgec.targets.descriptor import Board, Emulator, Precision, Target

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DETECTED: dict[str, Callable[[], dict[str, Any]]] = {"host": detect.host}
"""Devices that are looked at instead of read from a file."""

Rule = tuple[str, Callable[[object], bool]]
"""What a value must be, in words and as a test."""


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_text_list(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _is_cache(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_region(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and _is_cache(value[0]) and _is_count(value[1])


_TEXT: Rule = ("some text", _is_text)
_COUNT: Rule = ("a whole number above 0", _is_count)
_CACHE: Rule = ("a number of bytes, 0 for no cache", _is_cache)
_REGION: Rule = ("a list of an address and a number of bytes", _is_region)
_KEYS: dict[str, Rule] = {
    "arch": ("one of " + ", ".join(ARCHITECTURES), lambda value: _is_text(value) and value in ARCHITECTURES),
    "triple": ("a target triple, such as aarch64-linux-gnu", _is_text),
    "cpu": ("a CPU name, such as cortex-a76", _is_text),
    "features": ("a list of feature names", _is_text_list),
    "vector_bits": ("32, 128, 256 or 512", lambda value: value in (32, 128, 256, 512)),
    "vector_registers": _COUNT,
    "l1d_bytes": _CACHE,
    "l2_bytes": _CACHE,
    "cores": _COUNT,
    "c_target": ("a target of the C compiler, such as aarch64-linux-gnu.2.28", _is_text),
    "emulator": ("a table with program, cpu and sysroot or machine", lambda value: isinstance(value, dict)),
    "requantization": ("float32 or fixed-point", lambda value: value in ("float32", "fixed-point")),
    "flash_bytes": _COUNT,
    "ram_bytes": _COUNT,
    "base": ("the name of a device or the path of a TOML file", _is_text),
    "variants": ("a list of devices", _is_text_list),
}
_USER_KEYS: dict[str, Rule] = {"program": _TEXT, "cpu": _TEXT, "sysroot": _TEXT}
_BOARD_KEYS: dict[str, Rule] = {
    "program": _TEXT,
    "cpu": _TEXT,
    "machine": _TEXT,
    "flash": _REGION,
    "ram": _REGION,
}
_OPTIONAL = {"base", "emulator", "variants", "requantization", "flash_bytes", "ram_bytes"}
_GLIBC = ((2, 17), (2, 44))
"""The oldest that runs arm64, and the newest that the C compiler knows."""
_LONGEST_CHAIN = 20
"""The most bases in a row; edgec's own descriptors have three."""
_LIMIT = 1 << 16
"""Bytes of a target's file: edgec's own have a thousand. Tables in tables take the square of their depth."""


def devices() -> list[str]:
    """Return the names of all devices edgec ships with, `host` included."""
    return sorted([*DETECTED, *(path.stem for path in Path(__file__).parent.glob("*.toml"))])


def listed(precision: Precision) -> tuple[list[Target], list[str]]:
    """Return every device edgec ships with, and why any can't be described: `host`, on some machines."""
    known, problems = [], []
    for device in devices():
        try:
            known.append(describe(device, precision))
        except TargetError as error:
            if device not in DETECTED:
                raise
            problems.append(str(error))
    return known, problems


def names() -> list[str]:
    """Return every `<device>-<precision>` edgec ships with."""
    every = (target for precision in PRECISIONS for target in listed(precision)[0])
    return sorted(target.name for target in every if not _lacks_fpu(target))


def load(name: str) -> Target:
    """Return the target called `name`; raises TargetError, with the closest name where there is none."""
    device, _, precision = name.rpartition("-")
    if precision not in PRECISIONS:
        if name in devices() or name.endswith(".toml"):
            raise TargetError(f"target '{name}' names no precision: write {name}-int8 or {name}-fp32")
        raise _unknown(name, names())
    if device not in devices() and not device.endswith(".toml"):
        raise _unknown(name, names())
    target = describe(device, precision)
    if _lacks_fpu(target):
        raise TargetError(f"{device} has no floating-point unit: build for {device}-int8")
    return target


def _lacks_fpu(target: Target) -> bool:
    """Whether the target would compute in float what its core can't."""
    return target.precision == "fp32" and target.requantization == "fixed-point"


def describe(device: str, precision: Precision) -> Target:
    """Return `device` (a name or the path of a TOML file) at `precision`; raises TargetError."""
    return _describe(device, precision, Path(), is_variant=False)


def _describe(device: str, precision: Precision, folder: Path, *, is_variant: bool) -> Target:
    """Return `device`, a path in it starting from `folder`; a variant's own variants don't count."""
    data, origin = _resolve(device, folder, ())
    missing = sorted(_KEYS.keys() - _OPTIONAL - data.keys())
    if missing:
        raise TargetError(f"{origin}: key '{missing[0]}' is missing: give it, or a 'base' to start from")
    _check_architecture(data, origin)
    emulator = data.pop("emulator", None)
    if emulator is not None:
        _check_keys(emulator, _emulator_keys(emulator), origin, "emulator.")
        lacking = sorted(_emulator_keys(emulator).keys() - emulator.keys())
        if lacking:
            raise TargetError(f"{origin}: key 'emulator.{lacking[0]}' is missing")
        emulator = _emulator(emulator)
    data["features"] = frozenset(data["features"])
    variants = () if is_variant else data.pop("variants", ())
    data.pop("variants", None)
    stem = Path(device).stem if device.endswith(".toml") else device
    target = Target(device=stem, precision=precision, emulator=emulator, **data)
    beside = (folder / device).parent
    levels = tuple(_describe(variant, precision, beside, is_variant=True) for variant in variants)
    _check_variants(target, levels, origin)
    return replace(target, variants=levels)


def from_data(data: Mapping[str, Any]) -> Target:
    """Return the target that a bundle's manifest describes: `Target` as plain data, with its name beside.

    Raises TargetError where it isn't one that a file could describe.
    """
    described = {key: value for key, value in data.items() if key in _KEYS and value is not None}
    _check_keys(described, _KEYS | {"variants": ("a list of targets", lambda value: True)}, "target", "")
    _check_architecture(described, "target")
    fields = {key: value for key, value in data.items() if key != "name"}
    emulator = fields.pop("emulator")
    if emulator is not None:
        _check_keys(emulator, _emulator_keys(emulator), "target", "emulator.")
        emulator = _emulator(emulator)
    features = frozenset(fields.pop("features"))
    variants = tuple(map(from_data, fields.pop("variants")))
    target = Target(**fields, features=features, emulator=emulator)
    if any(variant.variants for variant in variants):
        raise TargetError("target: key 'variants': a variant has none of its own")
    _check_variants(target, variants, "target")
    return replace(target, variants=variants)


def _resolve(device: str, folder: Path, seen: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """Return the keys of `device` laid over its base's, and where they came from for messages."""
    start = folder
    own, origin, folder = _read(device, start)
    path = os.path.realpath(start / device)  # two spellings are one file
    if path in seen:
        raise TargetError(f"{origin}: key 'base' leads back to the file itself")
    if len(seen) > _LONGEST_CHAIN:
        raise TargetError(
            f"{origin}: key 'base': more than {_LONGEST_CHAIN} files, one the base of the other"
        )
    _check_keys(own, _KEYS, origin, "")
    emulator = own.get("emulator", {})
    _check_keys(emulator, _emulator_keys(emulator), origin, "emulator.")
    if "base" not in own:
        return own, origin
    base, _ = _resolve(own.pop("base"), folder, (*seen, path))
    base.pop("variants", None)
    merged = base | own
    merged["features"] = base.get("features", []) + own.get("features", [])
    if "emulator" in base:
        merged["emulator"] = base["emulator"] | own.get("emulator", {})
    return merged, origin


def _emulator_keys(table: Mapping[str, Any]) -> dict[str, Rule]:
    """Return the keys of an emulator's table: one that names a machine is a board."""
    return _BOARD_KEYS if (_BOARD_KEYS.keys() - _USER_KEYS.keys()) & table.keys() else _USER_KEYS


def _emulator(table: Mapping[str, Any]) -> Emulator | Board:
    if "machine" not in table:
        return Emulator(**table)
    regions = {key: tuple(table[key]) for key in ("flash", "ram")}
    return Board(**{**table, **regions})


def _read(device: str, folder: Path) -> tuple[dict[str, Any], str, Path]:
    """Return the keys of one device as written, its origin, and the folder that paths in it start from."""
    if device in DETECTED:
        return DETECTED[device](), device, folder
    is_file = device.endswith(".toml")
    path = folder / device if is_file else Path(__file__).parent / f"{device}.toml"
    if not is_file and device not in devices():
        raise _unknown(device, devices())
    origin = str(path) if is_file else path.name
    text = files.read_text(path, TargetError, _LIMIT)
    try:
        return tomllib.loads(text), origin, path.parent
    except ValueError as error:  # of TOML, and of numbers with thousands of digits
        raise TargetError(f"{origin}: not a TOML file: {error}") from error
    except RecursionError:
        raise TargetError(f"{origin}: not a target's file: it nests too deep") from None


def _check_keys(data: dict[str, Any], rules: dict[str, Rule], origin: str, prefix: str) -> None:
    for key, value in data.items():
        if key not in rules:
            raise TargetError(f"{origin}: unknown key '{prefix}{key}'{_closest(key, list(rules))}")
        must, holds = rules[key]
        if not holds(value):
            raise TargetError(f"{origin}: key '{prefix}{key}' is {reprlib.repr(value)}; it must be {must}")


def _check_architecture(data: dict[str, Any], origin: str) -> None:
    """Check the keys that must agree with `arch`."""
    arch = data["arch"]
    prefix, known = ARCHITECTURES[arch].prefix, ARCHITECTURES[arch].features
    for key in ("triple", "c_target"):
        if not data[key].startswith(prefix) or printable(data[key]) != data[key]:
            must = f"with arch '{arch}' it must begin with '{prefix}'"
            raise TargetError(f"{origin}: key '{key}' is {data[key]!r}; {must}")
    system = platforms.of(data["triple"], arch)
    for key, rule in (("triple", system.triples), ("c_target", system.c_targets)):
        if not re.search(rule, data[key]):
            raise TargetError(f"{origin}: key '{key}' is {data[key]!r}; {system.must}")
    glibc = re.search(r"\.(\d+)\.(\d+)(\.\d+)?$", data["c_target"])
    if glibc and not _GLIBC[0] <= (int(glibc[1]), int(glibc[2])) <= _GLIBC[1]:
        oldest, newest = (".".join(map(str, version)) for version in _GLIBC)
        raise TargetError(
            f"{origin}: key 'c_target' is {data['c_target']!r}; glibc is one of {oldest} to {newest}"
        )
    hard = [data[key].endswith("hf") for key in ("triple", "c_target")]
    if arch == "arm-m" and hard[0] != hard[1]:
        must = f"with triple '{data['triple']}' it must{'' if hard[0] else ' not'} end with 'hf'"
        raise TargetError(f"{origin}: key 'c_target' is {data['c_target']!r}; {must}: there is one float ABI")
    for feature in data["features"]:
        if feature not in known:
            hint = _closest(feature, list(known)) or f" (it has {', '.join(known)})"
            raise TargetError(f"{origin}: key 'features': {arch} has no feature '{feature}'{hint}")


def _check_variants(target: Target, variants: tuple[Target, ...], origin: str) -> None:
    """Check that one bundle can hold code for `target` and all its `variants`, and can tell them apart."""
    names = [target.device, *(variant.device for variant in variants)]
    for variant in variants:
        lacking = sorted(target.features - variant.features)
        same = ("arch", "triple", "c_target")
        differing = [key for key in same if getattr(target, key) != getattr(variant, key)]
        if names.count(variant.device) > 1:
            problem = "is named twice"
        elif differing:
            problem = f"has another '{differing[0]}'"
        elif lacking:
            problem = f"lacks '{lacking[0]}', which this device has"
        elif target.features == variant.features:
            problem = "has no feature more than this device"
        else:
            continue
        raise TargetError(f"{origin}: key 'variants': '{variant.device}' {problem}")


def _unknown(name: str, known: list[str]) -> TargetError:
    return TargetError(f"no target '{name}'{_closest(name, known)}; 'edgec targets' lists them all")


def _closest(word: str, words: list[str]) -> str:
    """Return ` (did you mean '...'?)` or nothing."""
    import difflib  # 10 ms that only a mistake should cost

    match = difflib.get_close_matches(word, words, n=1)
    return f" (did you mean '{match[0]}'?)" if match else ""

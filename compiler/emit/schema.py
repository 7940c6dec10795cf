"""manifest.schema.json, made of the manifest's types: `python -m edgec.compiler.emit.schema` writes it."""

import ast
import inspect
import json
import textwrap
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from edgec import options
from edgec.compiler.emit import manifest
from edgec.compiler.typed_json import FREE, Limits, limited

FILE = Path(__file__).with_name("manifest.schema.json")
_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", NoneType: "null"}
_LIMITS = {"least": "minimum", "most": "maximum", "above": "exclusiveMinimum"}


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a manifest."""
    shared: dict[str, Any] = {}
    described = _descriptions(manifest.Manifest) | {"schema": "Version of this schema."}
    content = _object(manifest.kinds(), described, shared)
    content["properties"]["schema"] = {"description": described["schema"], "const": manifest.SCHEMA}
    for option in options.options().values():
        if option.recorded is not None:
            place = content
            for key in option.recorded.split("/"):
                place = place["properties"][key]
            place["description"] = option.help
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"edgec bundle manifest, schema {manifest.SCHEMA}",
        "description": _line(inspect.getdoc(manifest.Manifest)),
        **content,
        "$defs": {name: shared[name] for name in sorted(shared)},
    }


def encode() -> str:
    """Return the file's text."""
    return json.dumps(schema(), indent=2) + "\n"


def _of(kind: Any, shared: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a kind; those of dataclasses go to `shared`, by name."""
    kind, limits = limited(kind)
    if isinstance(kind, Mapping):
        return _object(kind, {}, shared)
    if isinstance(kind, type) and is_dataclass(kind):
        name = kind.__name__
        if name not in shared:
            shared[name] = {}  # one may hold others of its kind
            content = _object(manifest.JSON.members(kind), _descriptions(kind), shared)
            shared[name] = {"description": _line(inspect.getdoc(kind))} | content
        return {"$ref": f"#/$defs/{name}"}
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _union(inner, limits, shared)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is frozenset:
        return {"type": "array", "items": _of(inner[0], shared), "uniqueItems": True}
    if origin is tuple:
        return _list(inner, limits, shared)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of(inner[1], shared)}
    return {"type": _TYPES[kind]} | _limits(kind, limits)


def _object(
    members: Mapping[str, Any], described: Mapping[str, str], shared: dict[str, Any]
) -> dict[str, Any]:
    about = {name: {"description": described[name]} if name in described else {} for name in members}
    properties = {name: about[name] | _of(kind, shared) for name, kind in members.items()}
    required = sorted(members)
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _union(kinds: tuple[Any, ...], limits: Limits, shared: dict[str, Any]) -> dict[str, Any]:
    each = [kind if limits == FREE or kind is NoneType else Annotated[kind, limits] for kind in kinds]
    return {"anyOf": [_of(kind, shared) for kind in each]}


def _list(kinds: tuple[Any, ...], limits: Limits, shared: dict[str, Any]) -> dict[str, Any]:
    lengths = {"minItems": limits.shortest, "maxItems": limits.longest}
    if kinds[1:] != (...,):
        lengths = {"minItems": len(kinds), "maxItems": len(kinds)}
    given = {key: value for key, value in lengths.items() if value is not None}
    return {"type": "array", "items": _of(kinds[0], shared), **given}


def _limits(kind: Any, limits: Limits) -> dict[str, Any]:
    if kind is NoneType or kind is bool:
        return {}
    found = {key: getattr(limits, name) for name, key in _LIMITS.items()}
    found |= {"minLength": limits.shortest, "maxLength": limits.longest}
    found |= {"pattern": None if limits.pattern is None else f"^{limits.pattern}$"}
    return {key: value for key, value in found.items() if value is not None}


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


@cache
def _descriptions(kind: type) -> dict[str, str]:
    """Return the docstrings beneath a dataclass's fields, its bases' too, by name."""
    found: dict[str, str] = {}
    for each in reversed([base for base in kind.__mro__ if is_dataclass(base)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    found[name] = _line(said)
    return found


if __name__ == "__main__":
    FILE.write_text(encode(), encoding="utf-8")

"""Manifests as types and as JSON: the committed schema is that of the types, and says what they do."""

import json
from typing import Any, get_args

import jsonschema
import pytest

from edgec import options
from edgec.bench.bundle import Bundle
from edgec.compiler.emit import manifest, schema
from edgec.compiler.typed_json import UnfitError
from edgec.options import BuildOptions, Optimize
from tests.compiler.building import build
from tests.compiler.onnx_models import model


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    small = model("(float[1,4] x) => (float[1,4] y) { y = Relu(x) }")
    return build(small, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def content(built: Bundle) -> dict[str, Any]:
    return json.loads((built.path / "manifest.json").read_text())


def test_the_committed_schema_is_that_of_the_types() -> None:
    written = schema.FILE.read_text(encoding="utf-8")
    assert written == schema.encode(), "run: python -m edgec.compiler.emit.schema"
    assert schema.schema()["properties"]["optimize"]["enum"] == list(get_args(Optimize))


def test_the_schema_describes_what_is_written_and_refuses_what_is_read_by_no_type(
    content: dict[str, Any],
) -> None:
    found = jsonschema.Draft202012Validator(schema.schema())
    found.check_schema(schema.schema())
    found.validate(content)
    for key in content:
        without = {other: value for other, value in content.items() if other != key}
        for edited in (without, content | {key: None}, content | {"x": 1}):
            assert not found.is_valid(edited), key
            with pytest.raises(UnfitError):
                manifest.from_data(edited)


def test_what_was_written_is_read(built: Bundle, content: dict[str, Any]) -> None:
    read = manifest.from_data(content)
    assert read == built.manifest
    assert manifest.to_data(read) == content


def test_options_lie_where_their_fields_say(content: dict[str, Any]) -> None:
    asked = BuildOptions(target="x", optimize="ram", int8_io=True, arena_io=True, max_ram=7, output="there")
    kept = manifest.recorded(asked, "m", "host-int8")
    assert kept == BuildOptions(target="host-int8", name="m", optimize="ram", int8_io=True, arena_io=True)
    places = [each.recorded for each in options.options().values() if each.recorded]
    assert places == ["optimize", "io/int8", "io/arena"]
    edited = content | {"optimize": "ram", "io": {"int8": True, "arena": False}}
    read = manifest.from_data(edited)
    assert (read.options.optimize, read.int8_io, read.options.arena_io) == ("ram", True, False)
    assert manifest.to_data(read) == edited

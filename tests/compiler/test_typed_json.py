"""Values to JSON and back, and what is refused."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from edgec.compiler.typed_json import Limits, TypedJson, UnfitError


@dataclass(frozen=True)
class Leaf:
    """A leaf."""

    color: Literal["green", "red"]
    veins: int
    """How many."""


@dataclass(frozen=True)
class Thorn:
    """A thorn."""

    length: float


@dataclass(frozen=True)
class Plant:
    """A plant."""

    name: Annotated[str, Limits(pattern="[a-z]+", longest=9)]
    leaves: tuple[Leaf, ...]
    grows: Leaf | Thorn | None
    height: Annotated[float | None, Limits(above=0)]
    place: tuple[int, int]
    marks: frozenset[str]
    notes: Mapping[str, bool]
    shoots: tuple["Plant", ...] = ()

    @property
    def title(self) -> str:
        """Its name, for people."""
        return self.name.title()


JSON = TypedJson({Plant: ("title",)})
PLANT = Plant(
    "fern",
    (Leaf("green", 3), Leaf("red", 0)),
    Thorn(0.5),
    1.25,
    (4, 5),
    frozenset({"b", "a"}),
    {"wild": True},
    (Plant("moss", (), Leaf("green", 1), None, (0, 0), frozenset(), {}),),
)


def test_what_was_written_is_read() -> None:
    data = json.loads(json.dumps(JSON.plain(PLANT)))
    assert data["marks"] == ["a", "b"]
    assert data["title"] == "Fern"
    assert JSON.read(Plant, data) == PLANT


REFUSED: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "no object": ((), [], "[] is no object"),
    "not there": (("leaves", 0, "veins"), ..., "leaves/0/veins: it is missing"),
    "too much": (("leaves", 1, "stem"), 1, "leaves/1/'stem': nothing is called so there"),
    "none of the words": (("leaves", 0, "color"), "blue", "leaves/0/color: 'blue' isn't one of green, red"),
    "a list for a word": (("leaves", 0, "color"), ["red"], "leaves/0/color: ['red'] isn't one of"),
    "true for a number": (("leaves", 0, "veins"), True, "leaves/0/veins: True is no whole number"),
    "a fraction": (("leaves", 0, "veins"), 1.0, "leaves/0/veins: 1.0 is no whole number"),
    "less than none": (("leaves", 0, "veins"), -1, "leaves/0/veins: -1 is less than 0"),
    "too large to be kept": (("place", 1), 2**53, "place/1: 9007199254740992 is more than 9007199254740991"),
    "no number": (("height",), float("nan"), "height: nan is no number"),
    "zero": (("height",), 0, "height: 0 isn't more than 0"),
    "no text": (("name",), None, "name: None is no text"),
    "other letters": (("name",), "F", "name: 'F' doesn't match [a-z]+"),
    "a line too many": (("name",), "fern\n", r"name: 'fern\n' doesn't match [a-z]+"),
    "too long": (("name",), "x" * 5000, "name: more than 9 characters"),
    "a text for a list": (("leaves",), "green", "leaves: 'green' is no list"),
    "one of three": (("place",), [1, 2, 3], "place: 3 elements in place of 2"),
    "neither": (("grows",), {"size": 1}, "grows: {'size': 1} is none of what may be there"),
    "a flag": (("notes", "wild"), 1, "notes/wild: 1 is no true or false"),
    "inside itself": (("shoots", 0, "height"), "1", "shoots/0/height: '1' is no number"),
    "no longer so": (("shoots", 0, "title"), "Fern", "shoots/0/title: 'Fern' isn't 'Moss'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_named_with_its_place(name: str) -> None:
    way, value, message = REFUSED[name]
    data = JSON.plain(PLANT)
    if not way:
        data = value
    else:
        place = data
        for key in way[:-1]:
            place = place[key]
        if value is ...:
            del place[way[-1]]
        else:
            place[way[-1]] = value
    with pytest.raises(UnfitError, match=re.escape(message)):
        JSON.read(Plant, data)

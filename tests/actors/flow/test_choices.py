"""A wrong value of an enumeration is refused with the right ones, wherever in the value it stands."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from msgspec import Meta, Struct

from actors.flow.choices import SHOWN_MAX, with_choices

Currency = Literal["EUR", "JPY"]


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Line(Struct, rename="camel"):
    size_wanted: Size = Size.SMALL


@dataclass
class Note:
    about: Annotated[Currency, Meta(description="what it is about")]


class Box(TypedDict):
    kind: Literal[1, 2]


class Order(Struct):
    currency: Currency | None = None
    lines: list[Line] = []
    by_name: dict[str, Line] = {}
    note: Note | None = None
    box: Box | None = None
    pair: tuple[int, Currency] | None = None
    after: int | Literal["now"] = 0


CASES: list[tuple[Any, bytes, str]] = [
    (Order, b'{"currency":"BTC"}', "'BTC', expected one of 'EUR', 'JPY' - at `$.currency`"),
    (Order, b'{"lines":[{"sizeWanted":"m"}]}', "'m', expected one of 's', 'l' - at `$.lines[0].sizeWanted`"),
    (Order, b'{"by_name":{"a":{"sizeWanted":"m"}}}', "expected one of 's', 'l' - at `$.by_name[...].sizeWanted`"),
    (Order, b'{"note":{"about":"x"}}', "expected one of 'EUR', 'JPY' - at `$.note.about`"),
    (Order, b'{"box":{"kind":3}}', "3, expected one of 1, 2 - at `$.box.kind`"),
    (Order, b'{"pair":[1,"x"]}', "expected one of 'EUR', 'JPY' - at `$.pair[1]`"),
    (Order, b'{"after":"x"}', "expected one of a whole number, 'now' - at `$.after`"),
    (Order, b'{"currency":1}', "Expected `str | null`, got `int` - at `$.currency`"),
    (list[Currency], b'["x"]', "expected one of 'EUR', 'JPY' - at `$[0]`"),
    (dict[Currency, int], b'{"x":1}', "Invalid enum value 'x' - at `key` in `$`"),
    (Currency, b'"x"', "Invalid enum value 'x'"),
]


def complaint(kind: Any, body: bytes) -> str:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.json.decode(body, type=kind)
    return str(refused.value)


@pytest.mark.parametrize(("kind", "body", "said"), CASES, ids=lambda value: str(value)[:40])
def test_the_right_values_are_named(kind: Any, body: bytes, said: str) -> None:
    """In a struct, a list, a map, a tuple, a union or under another name; what is no enumeration stays as it was."""
    assert with_choices(complaint(kind, body), kind).endswith(said)


def test_many_are_cut() -> None:
    """A long enumeration is told by its beginning."""
    many: Any = list[Literal[tuple(f"v{n}" for n in range(99))]]  # type: ignore[misc]
    told = with_choices(complaint(many, b'["x"]'), many)
    assert told.count("'v") == SHOWN_MAX and ", .. - at" in told


def test_a_value_that_looks_like_a_path_is_no_path() -> None:
    """Only the place at the end counts, whatever was sent."""
    text = complaint(list[Currency], b'["a` - at `$.b`"]')
    assert with_choices(text, list[Currency]).endswith("expected one of 'EUR', 'JPY' - at `$[0]`")

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from actors.connector_spec import PAGE_RECORDS_MAX, Page
from actors.page_items import KEY_BYTES_MAX, as_key, delivery_id, items_of, pieces, value_at
from wal.records import StoredItem


@given(st.text(min_size=1, max_size=60), st.text("abc.-_:", min_size=1, max_size=200))
def test_any_key_has_an_id_that_is_one(key: str, source: str) -> None:
    """Whatever the key and however long the name: the id is a valid one, and always the same."""
    made = delivery_id(source, key)
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,200}", made)
    assert delivery_id(source, key) == made


def test_plain_keys_are_read_in_the_id() -> None:
    """An id that can be said is `<source>:<key>`; another key has another id also where it cannot."""
    assert delivery_id("people", "42") == "people:42"
    assert delivery_id("people", "a b") != delivery_id("people", "a  b")
    assert delivery_id("people", "a b").startswith("people:")


class Row(msgspec.Struct):
    id: int


@dataclass
class Outer:
    data: Row


@pytest.mark.parametrize(
    ("record", "path", "key"),
    [
        ({"id": 7}, "id", "7"),
        ({"data": {"object": {"id": "ch_1"}}}, "data.object.id", "ch_1"),
        (Row(3), "id", "3"),
        (Outer(Row(4)), "data.id", "4"),
        (Raw(b'{"id":"raw"}'), "id", "raw"),
        ({"id": uuid.UUID(int=1)}, "id", str(uuid.UUID(int=1))),
        ({"id": 0}, "id", "0"),
    ],
)
def test_a_key_is_found_in_records_of_any_shape(record: Any, path: str, key: str) -> None:
    """Mappings, Structs, dataclasses and raw JSON have their key at the same path, and their JSON kept."""
    (item,), refused = items_of("c", Page(records=[record]), path)
    assert (item.key, refused, item.deleted) == (key, [], False)
    assert value_at(msgspec.json.decode(item.data), path) == (int(key) if key.isdigit() else key)


@pytest.mark.parametrize(
    "record", [{}, {"id": None}, {"id": True}, {"id": 1.5}, {"id": ""}, {"id": "x" * 1_025}, {"id": "\ud800"}, 5, None]
)
def test_what_has_no_key_is_set_aside(record: Any) -> None:
    """No key, or what is none: the record is kept beside, with a reason, and the rest of the page is taken."""
    items, (refused,) = items_of("c", Page(records=[{"id": 1}, record, {"id": 2}]), "id")
    assert [item.key for item in items] == ["1", "2"]
    assert refused.code in ("no_key", "not_json")
    assert (refused.connector, refused.key) == ("c", "")
    assert refused.message
    assert msgspec.json.decode(refused.data) is not ...


class Sulky:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_what_is_no_json_is_set_aside_even_if_it_cannot_be_shown() -> None:
    """An object that has no JSON, nests without end, or has no words for itself, ends as a reason."""
    endless: list[Any] = []
    endless.append(endless)
    _, refused = items_of("c", Page(records=[{"id": 1, "x": Sulky()}, Sulky(), {"id": 2, "x": endless}]), "id")
    assert [each.code for each in refused] == ["not_json"] * 3


def test_keyed_items_pass_untouched() -> None:
    """What a source has keyed itself is neither decoded nor copied; without a path other records have no key."""
    keyed = StoredItem("k", Raw(b'{"a":1}'))
    items, refused = items_of("c", Page(records=[keyed, {"id": 1}], deleted=["gone"]), None)
    assert items[0] is keyed
    assert items[1] == StoredItem("gone", deleted=True)
    assert "gives it no key" in refused[0].message


@given(st.lists(st.integers(0, 500), max_size=60), st.integers(10, 1_000))
def test_pieces_keep_all_in_order_within_their_bounds(sizes: list[int], bytes_max: int) -> None:
    """All items come out once and in order, in pieces of the most bytes unless a single one is larger."""
    items = [StoredItem(str(place), Raw(b"1" * size)) for place, size in enumerate(sizes)]
    made = list(pieces(items, bytes_max))
    assert [item for piece in made for item in piece] == items
    assert all(made)
    for piece in made:
        assert len(piece) == 1 or sum(len(item.data) + len(item.key) for item in piece) <= bytes_max


def test_pieces_hold_no_more_than_a_commit_takes() -> None:
    """A piece has at most so many items, however small."""
    items = [StoredItem(str(number)) for number in range(2 * PAGE_RECORDS_MAX + 1)]
    assert [len(piece) for piece in pieces(items, 1 << 30)] == [PAGE_RECORDS_MAX, PAGE_RECORDS_MAX, 1]


def test_a_key_has_a_limit_in_bytes() -> None:
    """The limit counts bytes, not letters."""
    assert as_key("x" * KEY_BYTES_MAX)
    with pytest.raises(ValueError, match="bytes"):
        as_key("ü" * (KEY_BYTES_MAX // 2 + 1))

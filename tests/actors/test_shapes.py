from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.shapes import KEY_FIELDS, SENTENCES_MAX, narrowings


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


NUMBER, TEXT = {"type": "number"}, {"type": "string"}

NARROWER = [
    (of(id=NUMBER, email=TEXT), of(id=NUMBER), "property email is gone"),
    (of(id=NUMBER), of(id={"type": "integer"}), "property id was number and is integer"),
    (of(id={"type": ["null", "string"]}), of(id=TEXT), "property id was null or string and is string"),
    (of(id={}), of(id=TEXT), "property id was anything and is string"),
    (of(a=of(b=TEXT, c=TEXT)), of(a=of(b=TEXT)), "property a.c is gone"),
    (
        of(a={"type": "array", "items": of(b=TEXT)}),
        of(a={"type": "array", "items": of()}),
        "property a[].b is gone",
    ),
    (of(a={"anyOf": [TEXT, NUMBER]}), of(a=TEXT), "property a was number or string and is string"),
    (of(a={"enum": [1, 2]}), of(a={"enum": [1]}), "property a may have fewer values than before"),
    ({**of(), KEY_FIELDS: ["id"]}, {**of(), KEY_FIELDS: ["id", "at"]}, "its key was id and is id, at"),
    ({**of(), KEY_FIELDS: ["id"]}, of(), "its key was id and is nothing"),
]
WIDER = [
    (of(id=NUMBER), of(id=NUMBER, email=TEXT)),
    (of(id={"type": "integer"}), of(id=NUMBER)),
    (of(id=TEXT), of(id={"type": ["null", "string"]})),
    (of(id=TEXT), of(id={})),
    (of(a={"enum": [1]}), of(a={"enum": [1, 2]})),
    (of(a={"type": "array"}), of(a={"type": "array", "items": TEXT})),
    (of(), {**of(), KEY_FIELDS: ["id"]}),
]


@pytest.mark.parametrize(("before", "after", "sentence"), NARROWER)
def test_what_is_taken_away_is_named(before: Any, after: Any, sentence: str) -> None:
    """A property gone, a type narrowed, a choice removed, another key: each is one sentence that names it."""
    assert narrowings(before, after) == [sentence]


@pytest.mark.parametrize(("before", "after"), WIDER)
def test_what_widens_takes_nothing_away(before: Any, after: Any) -> None:
    """A new property, a wider type, more choices, a key where there was none: nothing to ask about."""
    assert narrowings(before, after) == []


json = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["string", "object", "null"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "items", "anyOf", "enum", KEY_FIELDS, "a", "b"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(json, json)
def test_any_schema_is_survived(before: Any, after: Any) -> None:
    """Whatever a source calls a schema, the comparison ends, is short, and finds nothing against itself."""
    assert len(narrowings(before, after)) <= SENTENCES_MAX
    assert narrowings(before, before) == []

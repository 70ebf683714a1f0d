"""Cursor values compared as what they mean, and how far a cursor may move."""

from __future__ import annotations

from typing import Any

import pytest

from actors.errors import SourceGarbled
from runtimed.connectors.cursors import at_path, closed_s, compare, fall, instant_s, largest


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (1, 2),
        (1, 1.5),
        ("9", "10"),
        ("b", "c"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z"),
        ("2026-01-01T01:00:00+02:00", "2026-01-01T00:00:00Z"),
        ("2026-01-01", "2026-01-01T00:00:01"),
    ],
)
def test_values_compare_as_what_they_mean(less: Any, more: Any) -> None:
    """Numbers as numbers, digits too, instants by the instant whatever their offset, other text as text."""
    assert (compare(less, more), compare(more, less), compare(more, more)) == (-1, 1, 0)
    assert largest([less, more, None, less]) == more
    assert fall([less, None, more, more]) is None
    assert fall([less, more, less]) == (more, less)


@pytest.mark.parametrize("pair", [(1, "b"), ("2026-01-01", "b"), (True, 1), ([], 1), (None, 1)])
def test_what_does_not_compare_is_garbled(pair: tuple[Any, Any]) -> None:
    """A cursor field of two kinds, or of a kind without order, is no cursor."""
    with pytest.raises(SourceGarbled):
        compare(*pair)


def test_a_cursor_stays_behind_both_clocks() -> None:
    """What is after the earlier of both clocks, less the time to settle, is open and does not move the cursor."""
    assert closed_s(100.0, None, 5.0) == 95.0
    assert closed_s(100.0, 90.0, 5.0) == 85.0
    assert closed_s(90.0, 100.0, 0.0) == 90.0
    closed = instant_s("2026-01-01T12:00:00Z")
    values = ["2026-01-01T11:00:00Z", "2026-01-01T13:00:00Z"]
    assert largest(values, closed) == "2026-01-01T11:00:00Z"
    assert largest(values[1:], closed, "2025-12-31") == "2025-12-31"


def test_paths() -> None:
    """A path goes through objects and lists; where it leads nowhere it gives what is asked for."""
    record = {"a": {"b": [{"c": 1}]}, "n": None}
    assert (at_path(record, "a.b.0.c"), at_path(record, ""), at_path(record, "n", 7)) == (1, record, None)
    assert [at_path(record, path, 7) for path in ("x", "a.b.1", "a.b.c", "n.x", "a.b.0.c.d")] == [7] * 5

"""Values of a cursor field compared as what they mean, and how far a cursor may move. Pure.

A source's newest value is open for a while: records with the same value may still come, clocks differ, an index lags.
So a cursor is sent inclusively, and never moves to a value that lies beyond `closed_s`, the instant up to which nothing
new is expected. What is read again is known by its key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from actors.errors import SourceGarbled

Rank = tuple[str, Any]
"""What a value is (`number`, `instant`, `text`), and itself as something that compares."""


def at_path(record: Any, path: str, missing: Any = None) -> Any:
    """The value at a path with dots (`data.id`, `items.0`) of decoded JSON; `missing` where there is none."""
    for part in path.split(".") if path else ():
        if isinstance(record, dict):
            record = record.get(part, missing)
        elif isinstance(record, list) and part.isdecimal() and int(part) < len(record):
            record = record[int(part)]
        else:
            return missing
    return record


def instant_s(value: Any) -> float | None:
    """An RFC 3339 or ISO 8601 instant as seconds since the epoch (without an offset: UTC); None for what is none."""
    if not isinstance(value, str) or len(value) < 10 or value[4:5] != "-":
        return None
    try:
        made = datetime.fromisoformat(value)
        return (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def rank(value: Any) -> Rank | None:
    """A value of a cursor field as something that compares: numbers, instants, digits as numbers, other text as text.
    None for null. Raises SourceGarbled for what has no order."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise SourceGarbled(f"a cursor must be a number or text; the cursor field is {type(value).__name__}")
    if not isinstance(value, str):
        return "number", value
    if value.isascii() and value.isdecimal():
        return "number", int(value[:100])
    seconds = instant_s(value)
    return ("text", value) if seconds is None else ("instant", seconds)


def compare(left: Any, right: Any) -> int:
    """-1, 0 or 1, as `left` comes before, with or after `right`. Raises SourceGarbled if they are not alike."""
    first, second = rank(left), rank(right)
    if first is None or second is None or first[0] != second[0]:
        kinds = " and ".join("null" if one is None else one[0] for one in (first, second))
        raise SourceGarbled(f"values of the cursor field do not compare: {kinds}")
    return int(first[1] > second[1]) - int(first[1] < second[1])


def largest(values: Iterable[Any], closed_s: float | None = None, least: Any = None) -> Any:
    """The largest of `least` and these values, those apart that are null or instants after `closed_s`."""
    for value in values:
        ranked = rank(value)
        if ranked is None or (closed_s is not None and ranked[0] == "instant" and ranked[1] > closed_s):
            continue
        if least is None or compare(value, least) > 0:
            least = value
    return least


def fall(values: Sequence[Any]) -> tuple[Any, Any] | None:
    """The first two neighbours of which the second is smaller, nulls left out; None if the values rise."""
    known = [value for value in values if value is not None]
    return next(((one, two) for one, two in pairwise(known) if compare(one, two) > 0), None)


def closed_s(now_s: float, date_s: float | None, settle_s: float) -> float:
    """Up to which instant nothing new is expected: the earlier of the source's clock and ours, less what its records
    take to settle. Whichever of the two runs ahead, the other one holds the cursor back."""
    return (now_s if date_s is None else min(now_s, date_s)) - settle_s

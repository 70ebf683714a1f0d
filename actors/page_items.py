"""A page's records as the items that are taken: each with its dedup key and its JSON, in pieces that fit a commit.

Pure. What cannot be taken (no key, no JSON) is set aside as a `DeliveryRefused`, so that one bad record neither stops a
source nor is lost in silence.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Raw

from actors.connector_spec import PAGE_RECORDS_MAX, Page
from actors.flow.definitions import NAME
from actors.schedules import PREFIX as SCHEDULE
from wal.intake import WEBHOOK
from wal.records import DeliveryRefused, StoredItem

KEY_BYTES_MAX: Final = 1_024
KEPT_CHARACTERS_MAX: Final = 4_096
"""Of a record that cannot be kept as it is (too large, not JSON), so much is kept as text."""
NO_KEY: Final = ""

_MISSING: Final = object()
_encode = msgspec.json.encode


def delivery_id(source: str, key: str) -> str:
    """The id of the run or signal that a key of a source becomes: `<source>:<key>`, or a digest in the key's place
    where that is no id. The same key has the same id, for ever."""
    source = name_in_ids(source)
    plain = f"{source}:{key}"
    if NAME.match(plain):
        return plain
    digest = blake2b(key.encode()).hexdigest()[:32]
    return f"{source}:{digest}" if len(source) <= 160 else blake2b(plain.encode()).hexdigest()[:32]


def name_in_ids(source: str) -> str:
    """How the ids begin of what a connector, a webhook (`webhook:NAME`) or a schedule (`schedule:NAME`) delivers."""
    return source.removeprefix(WEBHOOK).removeprefix(SCHEDULE)


def value_at(record: Any, path: str) -> Any:
    """What a record holds at a dotted path (`id`, `data.object.id`): mappings and objects alike. Raises KeyError."""
    found = record
    for name in path.split("."):
        found = found.get(name, _MISSING) if isinstance(found, Mapping) else getattr(found, name, _MISSING)
        if found is _MISSING:
            raise KeyError(path)
    return found


def as_key(value: Any) -> str:
    """A key as text. Raises ValueError for what is no key: only text, whole numbers and UUIDs are."""
    if type(value) is not str and (isinstance(value, bool) or not isinstance(value, int | str | uuid.UUID)):
        raise ValueError(f"its key is {_shown(value)}, which is neither text nor a whole number")
    key = str(value)
    size = len(key) if key.isascii() else len(key.encode())  # UnicodeEncodeError is a ValueError, and says where
    if not 0 < size <= KEY_BYTES_MAX:
        raise ValueError(f"its key has {size} bytes; 1 to {KEY_BYTES_MAX} are taken")
    return key


def items_of(connector: str, page: Page, key_path: str | None) -> tuple[list[StoredItem], list[DeliveryRefused]]:
    """The items of a page in its order, then its deletions; and what had to be set aside. Keyed items (`StoredItem`)
    pass untouched, and so does what the source itself sets aside: whoever made them has looked at them."""
    items: list[StoredItem] = []
    refused: list[DeliveryRefused] = []
    if set(map(type, page.records)) == {StoredItem}:
        items += page.records  # a child process tells a hundred thousand a second
        return _with_deleted(items, page), refused
    for record in page.records:
        if type(record) is StoredItem:
            items.append(record)
        elif type(record) is DeliveryRefused:
            refused.append(record)
        else:
            made = _item(connector, record, key_path)
            (items if type(made) is StoredItem else refused).append(made)  # type: ignore[arg-type]
    return _with_deleted(items, page), refused


def _with_deleted(items: list[StoredItem], page: Page) -> list[StoredItem]:
    items.extend(StoredItem(as_key(key), deleted=True) for key in page.deleted)
    return items


def _item(connector: str, record: Any, key_path: str | None) -> StoredItem | DeliveryRefused:
    try:
        data = record if type(record) is Raw else Raw(_encode(record))
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        kept = Raw(_encode(_shown(record)))
        return DeliveryRefused(connector, NO_KEY, "not_json", f"the record cannot be carried as JSON: {error}", kept)
    try:
        if key_path is None:
            raise ValueError("the source gives it no key")
        value = msgspec.json.decode(data) if type(record) is Raw else record
        return StoredItem(as_key(value_at(value, key_path)), data)
    except KeyError:
        why = f"there is no {key_path!r} in it, which is to be its key"
    except (ValueError, msgspec.MsgspecError) as error:
        why = str(error)
    return set_aside(connector, StoredItem(NO_KEY, data), "no_key", why)


def set_aside(connector: str, item: StoredItem, code: str, why: str, data_bytes_max: int = 65_536) -> DeliveryRefused:
    """An item as the record of its refusal: with its data if that is not too much, else with the beginning of it."""
    data = item.data
    if len(data) > data_bytes_max or code == "not_json":
        data = Raw(_encode(bytes(data)[:KEPT_CHARACTERS_MAX].decode(errors="replace")))
    return DeliveryRefused(connector, item.key, code, why[:1_000], data)


def pieces(items: list[StoredItem], bytes_max: int, items_max: int = PAGE_RECORDS_MAX) -> Iterator[list[StoredItem]]:
    """The items in pieces that one commit takes: at most so many of them, and so many bytes (a single item apart, whose
    own limit is another). No piece is empty; no items make none."""
    first = size = 0
    if 0 < len(items) <= items_max and sum([len(item.data) + len(item.key) for item in items]) <= bytes_max:
        yield items
        return
    for place, item in enumerate(items):
        weight = len(item.data) + len(item.key)
        if place > first and (size + weight > bytes_max or place - first >= items_max):
            yield items[first:place]
            first, size = place, 0
        size += weight
    if first < len(items):
        yield items[first:] if first else items


def _shown(value: Any) -> str:
    try:
        return repr(value)[:200].encode(errors="replace").decode()
    except Exception as error:  # noqa: BLE001 - a user's own repr may raise anything, and this is only for people
        return f"a {type(value).__name__} that cannot be shown ({type(error).__name__})"

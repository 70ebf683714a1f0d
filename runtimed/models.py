"""Canonical models: one shape for customers, invoices and events, whatever source they come from.

A source is mapped once (`runtimed/connectors/canonical.py`), and everything behind it knows these three alone. Each
carries `schema_version`, a semantic version: a new field raises the minor, and older readers ignore it; a changed
meaning raises the major, and an upcaster below brings older data up to date where it is read. `upcast` reads any of
them. Amounts are whole minor units (cents) beside a currency (ISO 4217, lower case), instants are aware and UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import msgspec

from actors.errors import InvalidInput

SCHEMA_VERSION = "1.0.0"
EXTRAS_MAX_BYTES = 8 * 1024
"""How much of what a source says beyond the model is kept in `extras`."""

# ISO 4217: currencies whose minor unit is not a hundredth.
_EXPONENTS = dict.fromkeys(
    ("bif", "clp", "djf", "gnf", "isk", "jpy", "kmf", "krw", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"), 0
) | dict.fromkeys(("bhd", "iqd", "jod", "kwd", "lyd", "omr", "tnd"), 3)
_VERSION = re.compile(r"([0-9]{1,6})\.([0-9]{1,6})\.([0-9]{1,6})")

Extras = dict[str, Any]


class Customer(msgspec.Struct, frozen=True, kw_only=True, tag_field="model", tag="customer"):
    """Somebody who buys: a person or a company. `id` is the source's own; with `source` it is unique."""

    schema_version: str = SCHEMA_VERSION
    source: str
    id: str
    kind: Literal["person", "company"] = "person"
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    country: str | None = None
    currency: str | None = None
    balance_minor: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    deleted: bool = False
    extras: Extras = {}


class Invoice(msgspec.Struct, frozen=True, kw_only=True, tag_field="model", tag="invoice"):
    """Money asked for, or about to be. `draft` is not asked for yet, `open` is owed, `void` is not owed any more, and
    `uncollectible` is not expected any more."""

    schema_version: str = SCHEMA_VERSION
    source: str
    id: str
    status: Literal["draft", "open", "paid", "void", "uncollectible"]
    customer_id: str | None = None
    number: str | None = None
    title: str | None = None
    currency: str | None = None
    total_minor: int | None = None
    paid_minor: int | None = None
    due_minor: int | None = None
    issued_at: datetime | None = None
    due_at: datetime | None = None
    paid_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    deleted: bool = False
    extras: Extras = {}


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="model", tag="event"):
    """Something that happened at the source: `type` in the source's words, `subject` what it happened to. `data` is
    the subject as the source sent it, within the bounds of `extras`."""

    schema_version: str = SCHEMA_VERSION
    source: str
    id: str
    type: str
    occurred_at: datetime
    subject_type: str | None = None
    subject_id: str | None = None
    currency: str | None = None
    amount_minor: int | None = None
    data: Extras = {}
    extras: Extras = {}


Model = Customer | Invoice | Event
Upcasters = Mapping[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]]
"""By model and major version: what makes data of that major into data of the next one."""

UPCASTERS: Upcasters = {}
"""There is one major version so far."""


class ModelTooNew(InvalidInput):
    """The data is of a later major version than this runtimed knows."""

    code = "model_too_new"
    hint = "Upgrade whatever reads it before whatever writes it."


def upcast(data: Mapping[str, Any] | bytes | str | msgspec.Raw, upcasters: Upcasters = UPCASTERS) -> Model:
    """A model of today from data of any version of it, as a mapping or as JSON. Raises InvalidInput, ModelTooNew.

    What a later minor version added is ignored.
    """
    try:
        made: Any = msgspec.json.decode(data) if isinstance(data, bytes | str | msgspec.Raw) else dict(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(f"not the JSON of a model: {error}") from None
    if not isinstance(made, dict) or not isinstance(made.get("model"), str):
        raise InvalidInput("not a model: there is no field `model` that names it")
    model, major = made["model"], _major(made.get("schema_version"))
    while major < _major(SCHEMA_VERSION):
        step = upcasters.get((model, major))
        if step is None:
            raise InvalidInput(f"{model} {made['schema_version']}: nothing brings this version up to date")
        made = dict(step(dict(made)))
        if _major(made.get("schema_version")) <= major:
            raise InvalidInput(f"{model}: the upcaster from version {major} does not raise it")
        major = _major(made["schema_version"])
    if major > _major(SCHEMA_VERSION):
        raise ModelTooNew(f"{model} {made['schema_version']}: this runtimed knows {SCHEMA_VERSION}")
    try:
        found: Model = msgspec.convert(made, Model)
        return found
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{model} {made['schema_version']}: {error}") from None


def _major(version: Any) -> int:
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        raise InvalidInput(f"schema_version {version!r} is not like {SCHEMA_VERSION}")
    return int(match[1])


# --- what mappers need ----------------------------------------------------------------------------------------------


def minor_units(amount: Any, currency: str | None) -> int | None:
    """An amount in major units ("12.50") as whole minor units, half to even; None for what is no amount. A currency
    that is not known has hundredths."""
    if isinstance(amount, bool) or not isinstance(amount, int | float | str):
        return None
    try:
        scaled = Decimal(str(amount)).scaleb(_EXPONENTS.get((currency or "").lower(), 2))
        return int(scaled.to_integral_value()) if abs(scaled) < Decimal(2**63) else None
    except (InvalidOperation, ValueError, OverflowError):
        return None


def instant(value: Any) -> datetime | None:
    """Seconds since the epoch, or ISO 8601 text, as an aware instant in UTC; None for what is none."""
    if isinstance(value, bool) or value is None or value == "":
        return None
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        made = datetime.fromisoformat(value)
        return (made if made.tzinfo else made.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def bounded(extras: Mapping[str, Any]) -> Extras:
    """What fits of it: field by field in their order, nulls and empty ones left out, up to EXTRAS_MAX_BYTES of JSON."""
    kept: Extras = {}
    size = 2
    for name, value in extras.items():
        if value in (None, "", [], {}):
            continue
        size += len(msgspec.json.encode({name: value}))
        if size > EXTRAS_MAX_BYTES:
            kept["truncated"] = True
            return kept
        kept[name] = value
    return kept

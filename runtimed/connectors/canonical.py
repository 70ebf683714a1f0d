"""Stripe's and HubSpot's objects as canonical models: one mapper an object, pure.

What a model has no field for stays in `extras`, within its bound. Nothing here raises for a value that is odd: the
field is left out, and the value stays among the extras.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from runtimed.models import Customer, Event, Invoice, Model, bounded, instant, minor_units

Mapper = Callable[[Mapping[str, Any]], Model]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# --- Stripe ---------------------------------------------------------------------------------------------------------


def stripe_customer(raw: Mapping[str, Any]) -> Customer:
    """A customer. Stripe's customers may be companies without saying so; they count as persons."""
    address = raw.get("address")
    return Customer(
        source="stripe",
        id=str(raw["id"]),
        name=_text(raw.get("name")),
        email=_text(raw.get("email")),
        phone=_text(raw.get("phone")),
        country=_text(address.get("country")) if isinstance(address, dict) else None,
        currency=_text(raw.get("currency")),
        balance_minor=_whole(raw.get("balance")),
        created_at=instant(raw.get("created")),
        deleted=raw.get("deleted") is True,
        extras=_rest(raw, {"id", "object", "name", "email", "phone", "currency", "balance", "created", "deleted"}),
    )


def stripe_invoice(raw: Mapping[str, Any]) -> Invoice:
    """An invoice; Stripe's statuses are the model's."""
    status = raw.get("status")
    times = raw.get("status_transitions")
    times = times if isinstance(times, dict) else {}
    mapped = {"id", "object", "status", "number", "description", "currency", "total", "amount_paid", "amount_remaining"}
    return Invoice(
        source="stripe",
        id=str(raw["id"]),
        status=status if status in ("draft", "open", "paid", "void", "uncollectible") else "draft",
        customer_id=_reference(raw.get("customer")),
        number=_text(raw.get("number")),
        title=_text(raw.get("description")),
        currency=_text(raw.get("currency")),
        total_minor=_whole(raw.get("total", raw.get("amount_due"))),
        paid_minor=_whole(raw.get("amount_paid")),
        due_minor=_whole(raw.get("amount_remaining", raw.get("amount_due"))),
        issued_at=instant(times.get("finalized_at")),
        due_at=instant(raw.get("due_date")),
        paid_at=instant(times.get("paid_at")),
        created_at=instant(raw.get("created")),
        deleted=raw.get("deleted") is True,
        extras=_rest(raw, mapped | {"customer", "due_date", "created", "deleted", "status_transitions", "lines"}),
    )


def stripe_charge(raw: Mapping[str, Any]) -> Event:
    """A charge as the event that it is: `charge.succeeded`, `charge.failed`, `charge.pending`."""
    mapped = {"id", "object", "status", "created", "customer", "currency", "amount"}
    return Event(
        source="stripe",
        id=str(raw["id"]),
        type=f"charge.{_text(raw.get('status')) or 'created'}",
        occurred_at=instant(raw.get("created")) or EPOCH,
        subject_type="customer" if raw.get("customer") else None,
        subject_id=_reference(raw.get("customer")),
        currency=_text(raw.get("currency")),
        amount_minor=_whole(raw.get("amount")),
        extras=_rest(raw, mapped),
    )


def stripe_event(raw: Mapping[str, Any]) -> Event:
    """An event, with the object that it is about."""
    data = raw.get("data")
    about = data.get("object") if isinstance(data, dict) else None
    about = about if isinstance(about, dict) else {}
    return Event(
        source="stripe",
        id=str(raw["id"]),
        type=_text(raw.get("type")) or "unknown",
        occurred_at=instant(raw.get("created")) or EPOCH,
        subject_type=_text(about.get("object")),
        subject_id=_text(about.get("id")),
        currency=_text(about.get("currency")),
        amount_minor=_whole(about.get("amount", about.get("total"))),
        data=bounded(about),
        extras=_rest(raw, {"id", "object", "type", "created", "data"}),
    )


STRIPE: Mapping[str, Mapper] = {
    "customers": stripe_customer,
    "invoices": stripe_invoice,
    "charges": stripe_charge,
    "events": stripe_event,
}

# --- HubSpot --------------------------------------------------------------------------------------------------------


def hubspot_contact(raw: Mapping[str, Any]) -> Customer:
    """A contact: a person."""
    said = _properties(raw)
    name = " ".join(part for key in ("firstname", "lastname") if (part := _text(said.get(key))))
    return Customer(
        source="hubspot",
        id=str(raw["id"]),
        name=name or None,
        email=_text(said.get("email")),
        phone=_text(said.get("phone")),
        country=_text(said.get("country")),
        created_at=instant(raw.get("createdAt")),
        updated_at=instant(said.get("lastmodifieddate") or raw.get("updatedAt")),
        deleted=raw.get("archived") is True,
        extras=_rest(said, {"email", "firstname", "lastname", "phone", "country"}),
    )


def hubspot_company(raw: Mapping[str, Any]) -> Customer:
    """A company: a customer of that kind."""
    said = _properties(raw)
    return Customer(
        source="hubspot",
        id=str(raw["id"]),
        kind="company",
        name=_text(said.get("name")),
        phone=_text(said.get("phone")),
        country=_text(said.get("country")),
        created_at=instant(raw.get("createdAt")),
        updated_at=instant(said.get("hs_lastmodifieddate") or raw.get("updatedAt")),
        deleted=raw.get("archived") is True,
        extras=_rest(said, {"name", "phone", "country"}),
    )


def hubspot_deal(raw: Mapping[str, Any]) -> Invoice:
    """A deal as the invoice that it is to become: `draft` while it is open, `open` once it is won, `void` if lost.

    Not an Event: a deal lives on and changes, an event does not. It is never `paid`, which HubSpot does not know.
    """
    said = _properties(raw)
    currency = (_text(said.get("deal_currency_code")) or "").lower() or None
    total = minor_units(said.get("amount"), currency)
    won, closed = (said.get(name) in (True, "true") for name in ("hs_is_closed_won", "hs_is_closed"))
    return Invoice(
        source="hubspot",
        id=str(raw["id"]),
        status="open" if won else "void" if closed else "draft",
        title=_text(said.get("dealname")),
        currency=currency,
        total_minor=total,
        due_minor=total if won else None,
        due_at=None,
        issued_at=instant(said.get("closedate")) if won else None,
        created_at=instant(raw.get("createdAt")),
        updated_at=instant(said.get("hs_lastmodifieddate") or raw.get("updatedAt")),
        deleted=raw.get("archived") is True,
        extras=_rest(said, {"dealname", "deal_currency_code"} | (set() if total is None else {"amount"})),
    )


HUBSPOT: Mapping[str, Mapper] = {"contacts": hubspot_contact, "companies": hubspot_company, "deals": hubspot_deal}

# --- odd values -----------------------------------------------------------------------------------------------------


def _properties(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    said = raw.get("properties")
    return said if isinstance(said, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _reference(value: Any) -> str | None:
    """An id, or the id of an object that was expanded in its place."""
    return _text(value.get("id") if isinstance(value, dict) else value)


def _rest(raw: Mapping[str, Any], mapped: Collection[str]) -> dict[str, Any]:
    return bounded({name: value for name, value in raw.items() if name not in mapped})

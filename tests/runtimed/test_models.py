"""The canonical models: versions, upcasting, amounts, instants, and the mappers' bounds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

import runtimed
from actors.errors import InvalidInput
from runtimed import models
from runtimed.connectors import canonical
from runtimed.models import Customer, Event, Invoice, ModelTooNew, bounded, instant, minor_units, upcast

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SAMPLES = [
    Customer(source="stripe", id="cus_1", name="Ada", balance_minor=-500, currency="eur", created_at=NOW),
    Invoice(source="hubspot", id="7", status="open", total_minor=120_050, due_at=NOW, extras={"pipeline": "a"}),
    Event(source="stripe", id="evt_1", type="invoice.paid", occurred_at=NOW, data={"id": "in_1"}),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_a_model_makes_the_round_trip(sample: models.Model) -> None:
    """As JSON or as a mapping, each model comes back equal, with its version; a later minor's field is ignored."""
    text = msgspec.json.encode(sample)
    data = msgspec.json.decode(text)
    assert upcast(text) == upcast(text.decode()) == upcast(msgspec.Raw(text)) == upcast(data) == sample
    assert re.fullmatch(r"1\.\d+\.\d+", data["schema_version"])
    assert upcast({**data, "schema_version": "1.9.0", "loyalty": "gold"}).id == sample.id


def from_zero(data: dict[str, Any]) -> dict[str, Any]:
    """An invented version 0: one name in two halves, an amount in major units."""
    name = f"{data.pop('first')} {data.pop('last')}"
    balance = minor_units(data.pop("balance"), data["currency"])
    return {**data, "name": name, "balance_minor": balance, "schema_version": "1.0.0"}


def test_an_older_version_is_brought_up_to_date() -> None:
    """What was written by an older major version is read as today's model, step by step."""
    old = {"model": "customer", "schema_version": "0.3.1", "source": "crm", "id": "1", "first": "Ada", "last": "Ng"}
    made = upcast({**old, "balance": "12.50", "currency": "eur"}, {("customer", 0): from_zero})
    assert made == Customer(source="crm", id="1", name="Ada Ng", balance_minor=1_250, currency="eur")
    with pytest.raises(InvalidInput, match=r"customer 0\.3\.1: nothing brings this version up to date"):
        upcast(old)
    with pytest.raises(InvalidInput, match="does not raise it"):
        upcast(old, {("customer", 0): dict})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "not the JSON of a model"),
        (b"[" * 100_000, "not the JSON of a model"),
        (b"[]", "not a model"),
        ({"id": "1"}, "no field `model`"),
        ({"model": "customer"}, "schema_version None is not like"),
        ({"model": "customer", "schema_version": "1"}, "is not like 1"),
        ({"model": "order", "schema_version": "1.0.0"}, "Invalid value 'order'"),
        ({"model": "customer", "schema_version": "1.0.0", "source": "s"}, "missing required field `id`"),
    ],
)
def test_what_is_no_model_is_refused(data: Any, message: str) -> None:
    """Data that is no model is the sender's fault, and the message says where."""
    with pytest.raises(InvalidInput, match=message):
        upcast(data)


def test_a_later_major_is_refused() -> None:
    """A major version that is not known is refused, because its fields may mean something else."""
    with pytest.raises(ModelTooNew, match=r"customer 2\.0\.0: this runtimed knows 1"):
        upcast({"model": "customer", "schema_version": "2.0.0", "source": "s", "id": "1"})


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("12.50", "eur", 1_250), (12.5, "USD", 1_250), ("1200", "jpy", 1_200), ("1.234", "kwd", 1_234),
        ("-3", None, -300),
        ("0.005", "eur", 0), ("0.015", "eur", 2), ("", "eur", None), ("x", "eur", None), ("NaN", "eur", None),
        ("1e400", "eur", None), (True, "eur", None), (None, "eur", None), ("Infinity", "eur", None),
    ],
)  # fmt: skip
def test_amounts_in_minor_units(amount: Any, currency: str | None, minor: int | None) -> None:
    """An amount becomes whole minor units by its currency's exponent; what is no amount becomes none."""
    assert minor_units(amount, currency) == minor


def test_instants() -> None:
    """Epoch seconds and ISO text become UTC instants; what is none becomes none."""
    assert instant(0) == datetime(1970, 1, 1, tzinfo=UTC)
    there = timezone(timedelta(hours=2))
    assert instant("2026-01-31T14:00:00+02:00") == datetime(2026, 1, 31, 14, tzinfo=there)
    assert instant("2026-01-31") == datetime(2026, 1, 31, tzinfo=UTC)
    assert [instant(value) for value in (None, "", True, "x", 1e30, [], "0001-01-01T00:00:00+14:00")] == [None] * 7


def test_extras_are_bounded() -> None:
    """What is beyond the model is kept up to a size, without what is empty, and says when it was cut."""
    assert bounded({"a": 1, "b": None, "c": [], "d": "", "e": 0}) == {"a": 1, "e": 0}
    cut = bounded({"a": 1, "big": "x" * models.EXTRAS_MAX_BYTES, "b": 2})
    assert cut == {"a": 1, "truncated": True}
    assert len(msgspec.json.encode(bounded({str(n): "x" * 500 for n in range(50)}))) <= models.EXTRAS_MAX_BYTES + 20


ODD = [None, 0, -1, True, 1.5, "", "x", [], {}, {"id": None}, {"object": []}, "2026-13-99", 10**30]


@pytest.mark.parametrize("mapper", [*canonical.STRIPE.values(), *canonical.HUBSPOT.values()], ids=lambda m: m.__name__)
def test_odd_values_break_no_mapper(mapper: canonical.Mapper) -> None:
    """Whatever stands in a field, a mapper gives a model that can be read back."""
    stripe = (
        "name email phone address currency balance created deleted status customer number description total due_date "
        "amount amount_paid amount_remaining amount_due status_transitions type data createdAt updatedAt archived"
    )
    hubspot = "firstname lastname lastmodifieddate hs_lastmodifieddate amount deal_currency_code hs_is_closed closedate"
    for odd in ODD:
        raw = {"id": "1", **dict.fromkeys(stripe.split(), odd)}
        for one in (raw, {**raw, "properties": dict.fromkeys(hubspot.split(), odd)}):
            made = mapper(one)
            assert upcast(msgspec.json.encode(made)) == made


def test_models_are_where_users_look() -> None:
    """`runtimed.models` is there after `import runtimed`, as the contract says."""
    assert runtimed.models.Customer is Customer

"""The shop: charge a card, reserve the goods, have large orders approved, ship; whatever fails is undone.

Serve it from this folder with `runtimed serve --config runtimed.toml`. The payment provider, the warehouse and the
carrier are one small process here (`payments.py`); its address comes in `SHOP_URL`.
"""

from __future__ import annotations

import logging
import os
import ssl
from typing import Annotated, Any, Literal

import httpx2
from msgspec import Meta, Struct

from runtimed import App, Context, Rejected, Retry, current_step

DAY = 24 * 3600.0
SHOP_URL = os.environ.get("SHOP_URL", "http://127.0.0.1:8710")
REVIEW_FROM = {"JPY": 80_000, "SEK": 5_000_00}  # in minor units
REVIEW_FROM_DEFAULT = 500_00
TLS = ssl.create_default_context()  # once: loading the certificates costs more than a request

logging.getLogger("httpx2").setLevel(logging.WARNING)  # else each request is a line in the daemon's log

app = App("shop")

Text = Annotated[str, Meta(min_length=1, max_length=200)]
Currency = Literal["EUR", "GBP", "USD", "CHF", "SEK", "JPY"]


class Address(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a parcel goes. Carriers read Unicode, so nothing is stripped from it."""

    name: Text
    street: Text
    postcode: Annotated[str, Meta(max_length=20)]
    city: Text
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$")]


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    """One order. `amount` is in minor units of `currency`: cents, pence, yen."""

    id: Annotated[str, Meta(pattern="^[A-Z0-9-]{1,40}$")]
    email: Text
    sku: Text
    quantity: Annotated[int, Meta(ge=1, le=1_000)]
    amount: Annotated[int, Meta(ge=1, le=10_000_000)]
    currency: Currency
    card: Text
    ship_to: Address


class Receipt(Struct, frozen=True):
    """What a finished order leaves."""

    charge: str
    tracking: str


class CardDeclined(Exception):
    """The bank says no. Asking again would not change that."""


class OutOfStock(Exception):
    """The warehouse has none left."""


REFUSALS: dict[str, type[Exception]] = {"card_declined": CardDeclined, "out_of_stock": OutOfStock}
PATIENT = Retry(max_attempts=8, initial_interval=0.1, max_interval=2.0, non_retryable=(CardDeclined, OutOfStock))


async def ask(kind: str, order: Order, **more: Any) -> str:
    """One request to the outside: `kind` is charge, refund, reserve, release or ship. Returns the id of the effect.

    The key is the same in every attempt, also after a crash, so the other side can tell a repeat from a new wish."""
    step = current_step()
    headers = {"Idempotency-Key": step.idempotency_key, "X-Attempt": str(step.attempt)}
    async with httpx2.AsyncClient(base_url=SHOP_URL, verify=TLS, trust_env=False) as client:
        response = await client.post(f"/{kind}", json={"order": order.id, **more}, headers=headers)
    answer = response.json()
    if response.status_code in (402, 409) and answer["code"] in REFUSALS:
        raise REFUSALS[answer["code"]](answer["message"])
    response.raise_for_status()  # 500 and the like: worth another attempt
    return str(answer["id"])


@app.step(retry=PATIENT, timeout=2.0)
async def charge(order: Order) -> str:
    """Take the money; returns the charge's id."""
    return await ask("charge", order, amount=order.amount, currency=order.currency, card=order.card)


@charge.compensation(on_unknown=True, retry=PATIENT, timeout=2.0)
async def refund(charge_id: str | None, order: Order) -> str:
    """Give the money back. With `on_unknown` it is also called for a charge that failed for good: it may have gone
    through although its answer never arrived, and then there is no id. The provider finds the charge by the order."""
    return await ask("refund", order, charge=charge_id)


@app.step(retry=PATIENT, timeout=2.0)
async def reserve(order: Order) -> str:
    """Take the goods off the shelf; returns the reservation's id."""
    return await ask("reserve", order, sku=order.sku, quantity=order.quantity)


@reserve.compensation(retry=PATIENT, timeout=2.0)
async def release(reservation_id: str, order: Order) -> str:
    """Put the goods back."""
    return await ask("release", order, reservation=reservation_id)


@app.step(retry=PATIENT, timeout=2.0)
async def ship(order: Order, reservation_id: str) -> str:
    """Hand the parcel to the carrier; returns the tracking number."""
    return await ask("ship", order, reservation=reservation_id, country=order.ship_to.country)


def needs_review(order: Order) -> bool:
    """Whether a person looks at the order before it is shipped."""
    return order.amount >= REVIEW_FROM.get(order.currency, REVIEW_FROM_DEFAULT)


@app.workflow
async def checkout(ctx: Context, order: Order) -> Receipt:
    """From the order to the parcel. Whatever leaves it as a failure undoes what was done, last first."""
    charge_id = await ctx.step(charge, order)
    reservation_id = await ctx.step(reserve, order)
    if needs_review(order):
        title = f"Ship {order.quantity} x {order.sku} to {order.ship_to.country}?"
        decision = await ctx.approval(title, detail=order, risk="medium", timeout=3 * DAY)
        if not decision.approved:  # a person refused it, or nobody answered in three days
            raise Rejected(decision)
    tracking = await ctx.step(ship, order, reservation_id)
    return Receipt(charge=charge_id, tracking=tracking)

"""The orders of the CSV file as the shop sends them, and how each of them has to end."""

from __future__ import annotations

import csv
import zlib
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("orders.csv")
CURRENCIES = {"EUR": 2, "GBP": 2, "USD": 2, "CHF": 2, "SEK": 2, "JPY": 0}  # decimals of the minor unit
REVIEW_FROM = {"JPY": 80_000, "SEK": 5_000_00}
REVIEW_FROM_DEFAULT = 500_00

COMPLETED, DECLINED, SOLD_OUT, REFUSED, WRONG = "completed", "card declined", "sold out", "refused", "wrong"


class Expected(NamedTuple):
    """One order: its JSON, and its ending as the file alone tells it."""

    order: dict[str, Any]
    ending: str
    review: bool

    @property
    def id(self) -> str:
        """The order's id."""
        return str(self.order["id"])

    @property
    def run_id(self) -> str:
        """The run's id: from the order's, so that feeding an order twice starts it once."""
        return f"checkout-{self.id}"


def _amount(row: dict[str, str]) -> int | None:
    try:
        total = Decimal(row["unit_price"]) * int(row["quantity"])
    except (InvalidOperation, ValueError):
        return None
    return int(total.scaleb(CURRENCIES.get(row["currency"], 2)))


def _whole(text: str) -> int | str:
    """The number that is meant; what is none stays text, for the daemon to refuse."""
    try:
        return int(text)
    except ValueError:
        return text


def to_order(row: dict[str, str]) -> dict[str, Any]:
    """A row as JSON. Nothing is checked or mended here: that is the daemon's door."""
    return {
        "id": row["order_id"],
        "email": row["email"],
        "sku": row["sku"],
        "quantity": _whole(row["quantity"]),
        "amount": _amount(row),
        "currency": row["currency"],
        "card": row["card"],
        "ship_to": {
            "name": row["customer"],
            "street": row["street"],
            "postcode": row["postcode"],
            "city": row["city"],
            "country": row["country"],
        },
    }


def approves(order_id: str) -> bool:
    """What the person at the desk says to a large order: every fourth is refused, the same ones each time."""
    return zlib.crc32(order_id.encode()) % 4 != 0


def _ending(order: dict[str, Any], review: bool) -> str:
    quantity, amount = order["quantity"], order["amount"]
    wrong = not isinstance(quantity, int) or quantity < 1 or amount is None or amount < 1
    if wrong or order["currency"] not in CURRENCIES or not order["ship_to"]["name"]:
        return WRONG
    if len(order["ship_to"]["country"]) != 2:
        return WRONG
    if order["card"].startswith("tok_declined"):
        return DECLINED
    if order["sku"].endswith("-X"):
        return SOLD_OUT
    return REFUSED if review and not approves(order["id"]) else COMPLETED


def read(path: Path = FILE) -> list[Expected]:
    """All orders of a file, in its order."""
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            order = to_order(row)
            review = (order["amount"] or 0) >= REVIEW_FROM.get(order["currency"], REVIEW_FROM_DEFAULT)
            found.append(Expected(order, _ending(order, review), review))
    return found
